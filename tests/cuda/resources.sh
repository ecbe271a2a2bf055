#!/usr/bin/env bash
# What the hot kernels need of a device, as the assembler reports it: one line a kernel. Fails where one of ours spills registers
# to memory, or a header that CUDA users include warns without any flag but C++20.
# usage: resources.sh toolchain.sh
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../support/compilers.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$nvcc" -std=c++20 -I "$source_dir/include" -O3 -arch=sm_90 -Xptxas -v --Werror all-warnings -c "$here/resources/hot.cu" \
  -o "$work/hot.o" 2>"$work/report" || { cat "$work/report"; exit 1; }
c++filt <"$work/report" | awk '
  /Compiling entry function/ {
    name = $0
    sub(/^.*entry function ./, "", name); sub(/. for .sm_[0-9a-z]*.$/, "", name)
    ours = name ~ /rlhf::/ && name !~ /cub::.*detail::merge_sort/
    gsub(/rlhf::(v1::)?|cuda_detail::|team_detail::|void run|[a-z_]+_detail::/, "", name); sub(/\(.*/, "", name)
  }
  /bytes stack frame/ { stack = $1; spill = 0; for (i = 1; i < NF; i++) if ($i == "spill") spill += $(i - 2) }
  /Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
    if (!ours) next
    kernels++; spills += spill > 0
    printf "%4d registers %4d bytes spilled  %s\n", registers, spill, name
  }
  END { printf "%d kernels, %d that spill\n", kernels, spills; exit kernels < 20 || spills > 0 }'
