#!/usr/bin/env bash
# The same source once more, compiled by nvcc for the host (without Eigen), in one program with the other parts.
# usage: nvcc.sh toolchain.sh object...
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../support/compilers.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=c++20 --expt-relaxed-constexpr --diag-suppress 20012 --Werror all-warnings -arch=sm_90 -O2)
"$nvcc" -x cu "${flags[@]}" -DUNIT=with_nvcc -I "$source_dir/include" -I "$source_dir/tests" -c "$here/unit.cpp" -o "$work/nvcc.o"
"${compilers[0]}" -std=c++20 -DWITH_NVCC -I "$source_dir/tests" -c "$here/main.cpp" -o "$work/main.o"
"$nvcc" "$work/nvcc.o" "$work/main.o" "$@" -o "$work/program"
"$work/program"
