#!/usr/bin/env bash
# -ffast-math, -Ofast and -ffinite-math-only are refused by every header that computes, with a message that names the remedy.
# usage: check.sh toolchain.sh compiler
source "$(dirname "$0")/../support/compilers.sh"
compiler=$1

checked=0 failed=()
while IFS= read -r header; do
  flags=()
  case $header in
    version.hpp | backend/thread_pool.hpp | backend/eigen/tasks.hpp | backend/eigen/workspace.hpp | train/metrics.hpp | distributed/*)
      continue ;;  # no arithmetic
    core/*) [[ $header == core/config.hpp ]] || continue ;;
    backend/eigen* | theory/*) [[ ${#eigen_dirs[@]} -gt 0 ]] || continue; flags+=("${eigen_flags[@]}") ;;
    backend/thrust*) [[ ${#thrust_dirs[@]} -gt 0 ]] || continue; flags+=("${thrust_flags[@]}") ;;
  esac
  for flag in -ffast-math -Ofast -ffinite-math-only; do
    [[ $flag == -ffast-math || $header == core/config.hpp ]] || continue
    checked=$((checked + 1))
    if message=$(printf '#include <rlhf/%s>\n' "$header" |
      "$compiler" -std=c++20 -E "$flag" "${flags[@]}" -I "$source_dir/include" -x c++ -o /dev/null - 2>&1); then
      failed+=("$header")
      echo "$header accepts $flag"
    elif ! grep -q 'rlhf: -ffast-math .*Use -O3 -fno-math-errno -fno-trapping-math' <<<"$message"; then
      failed+=("$header")
      printf '%s refuses %s without the message:\n%s\n' "$header" "$flag" "$(head -n 5 <<<"$message")"
    fi
  done
done < <(cd "$source_dir/include/rlhf" && find . -name '*.hpp' | sed 's|^\./||' | sort)

echo "$checked times $compiler was asked for fast math, ${#failed[@]} failures: ${failed[*]:-none}"
[[ $checked -gt 0 && ${#failed[@]} -eq 0 ]]
