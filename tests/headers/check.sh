#!/usr/bin/env bash
# Every public header compiles alone, included twice, without a warning.
# usage: check.sh toolchain.sh compiler plain|no_exceptions
source "$(dirname "$0")/../support/compilers.sh"
compiler=$1 variant=$2

checked=0 failed=()
while IFS= read -r header; do
  flags=("${warnings[@]}") isas=("")
  case $header in
    backend/eigen* | theory/*)
      [[ ${#eigen_dirs[@]} -gt 0 ]] || { echo "skipped, no Eigen: $header"; continue; }
      flags+=("${eigen_flags[@]}")
      # SIMD code is other code for other instruction sets.
      if [[ $header == backend/* && $variant == plain && $(uname -m) == x86_64 ]]; then
        isas+=(-march=x86-64-v3 -march=x86-64-v4)
      fi ;;
    backend/thrust*)
      [[ ${#thrust_dirs[@]} -gt 0 ]] || { echo "skipped, no Thrust: $header"; continue; }
      flags+=("${thrust_flags[@]}") ;;
    distributed/mpi.hpp | distributed/nccl.hpp) continue ;;
  esac
  if [[ $variant == no_exceptions ]]; then
    case $header in core/throw.hpp | formulation/* | policy/* | train/* | theory/*) continue ;; esac  # these throw, and say so
    flags+=(-fno-exceptions -fno-rtti)
  fi
  checked=$((checked + 1))
  for isa in "${isas[@]}"; do
    if ! message=$(printf '#include <rlhf/%s>\n#include <rlhf/%s>\n' "$header" "$header" |
      "$compiler" -std=c++20 -fsyntax-only "${flags[@]}" $isa -I "$source_dir/include" -x c++ - 2>&1); then
      failed+=("$header")
      printf '== %s %s\n' "$header" "$isa"
      head -n 30 <<<"$message"
    fi
  done
done < <(cd "$source_dir/include/rlhf" && find . -name '*.hpp' | sed 's|^\./||' | sort)

echo "$checked headers checked with $compiler ($variant), ${#failed[@]} failed: ${failed[*]:-none}"
[[ $checked -gt 0 && ${#failed[@]} -eq 0 ]]
