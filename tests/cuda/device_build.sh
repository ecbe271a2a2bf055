#!/usr/bin/env bash
# What ./dev gpu builds on a device's machine (bench/gpu, a project of its own): every compile command has its flags whole, those
# of nvcc go to nvcc alone, and one unit of each language compiles. None needs a device.
# usage: device_build.sh toolchain.sh ninja
ninja=$2
source "$(dirname "$0")/../support/compilers.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake -S "$source_dir/bench/gpu" -B "$work" -G Ninja -DCMAKE_MAKE_PROGRAM="$ninja" -DCMAKE_CUDA_COMPILER="$nvcc" \
  -DCMAKE_CUDA_ARCHITECTURES=90 >"$work/configure" 2>&1 || { cat "$work/configure"; exit 1; }
"$ninja" -C "$work" -t commands | grep -E ' -c ' >"$work/commands"

bad=0
refuse() {  # what is wrong, the commands that have it
  [[ -z $2 ]] || { printf '%s:\n%s\n' "$1" "$(head -n 3 <<<"$2")"; bad=1; }
}
has() {  # target, flags: every .cu file of the target has them
  local units
  units=$(grep -F -- "CMakeFiles/$1.dir/" "$work/commands" | grep -F -- ' -x cu ') || { echo "$1 has no .cu file"; bad=1; }
  refuse "$1 without $2" "$(grep -vF -- " $2 " <<<"$units")"
}
refuse "-Xcicc or -Xptxas without a flag of its own" "$(grep -E -- '-(Xcicc|Xptxas) +(-[^O]|[^-])' "$work/commands")"
refuse "a flag of nvcc on a C++ file" \
  "$(grep -vF -- ' -x cu ' "$work/commands" | grep -E -- '--Werror=|-Xcompiler|-Xcicc|--extended-lambda')"
has rlhf-eval '-Xcicc -O1 -Xptxas -O1'
has gpu-conformance-few '-Xcicc -O1'
has gpu-drivers-whole '-Xcicc -O1'
for target in rlhf-gpu-bench gpu-linear step_in_a_graph; do has $target '-Xcompiler=-Wall,-Wextra'; done
[[ $bad == 0 ]] || exit 1

mapfile -t objects < <("$ninja" -C "$work" -t targets all | sed -n 's/\.o: .*/.o/p' |
  grep -E 'gpu-linear\.dir.*/new\.cpp\.o|rlhf-eval\.dir.*/robust_aggregate\.cu\.o')
[[ ${#objects[@]} == 2 ]] || { echo "not one unit of each language: ${objects[*]}"; exit 1; }
"$ninja" -C "$work" -j1 "${objects[@]}" >"$work/made" 2>&1 || { tail -n 40 "$work/made"; exit 1; }
