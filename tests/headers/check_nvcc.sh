#!/usr/bin/env bash
# nvcc compiles all headers that a .cu file may include (all but the CPU backends), together, without a warning.
# usage: check_nvcc.sh toolchain.sh
source "$(dirname "$0")/../support/compilers.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$source_dir/include" && find rlhf -name '*.hpp' | sort) |
  grep -Ev '^rlhf/(backend/(eigen|thrust)|theory/|distributed/(mpi|nccl))' | sed 's/.*/#include <&>/' >"$work/all.cu"
"$nvcc" -std=c++20 --extended-lambda --expt-relaxed-constexpr --diag-suppress 20012 --Werror all-warnings \
  -Xcompiler -Wall,-Wextra,-Werror -arch=sm_90 -I "$source_dir/include" -c "$work/all.cu" -o "$work/all.o"
echo "$(wc -l <"$work/all.cu") headers checked with nvcc"
