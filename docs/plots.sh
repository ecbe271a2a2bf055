#!/usr/bin/env bash
# Draws the figures of docs/formulas with gnuplot, from the numbers of rlhf-plots.
# usage: plots.sh rlhf-plots [--check]     --check: only see that the numbers kept are the program's and every figure is shown
set -euo pipefail
export LC_ALL=C

program=$(realpath "$1")
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/formulas" && pwd)
if [[ ${2:-} == --check ]]; then
  wrong=0
  # Line by line; the last digit of a number may differ from compiler to compiler.
  if ! paste -d '\n' <("$program") "$folder/plots/figures.gp" | awk '
      NR % 2 == 1 { n = split($0, was); next }
      { if (split($0, is) != n) exit 1
        for (i = 1; i <= n; ++i) {
          if (was[i] == is[i]) continue
          gap = was[i] - is[i]
          if (was[i] + 0 == 0 && was[i] !~ /^-?[0-9]/ || gap * gap > 1e-6 * (1e-4 + was[i] * was[i])) exit 1
        } }'; then
    echo "docs/formulas/plots/figures.gp is not what $1 writes: run docs/plots.sh"
    wrong=1
  fi
  while read -r name; do
    for file in "plots/$name.svg" "$name.md"; do
      [[ -s $folder/$file ]] || { echo "docs/formulas/$file is missing"; wrong=1; }
    done
    grep -qF "(plots/$name.svg)" "$folder/$name.md" || { echo "docs/formulas/$name.md does not show its figure"; wrong=1; }
  done < <("$program" --list)
  exit $wrong
fi
mkdir -p "$folder/plots"
"$program" >"$folder/plots/figures.gp"
cd "$folder/plots" && gnuplot figures.gp
