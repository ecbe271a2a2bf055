#!/usr/bin/env bash
# Draws the figures of docs/formulas with gnuplot, from the numbers of rlhf-plots, and lets rlhf-plots write those of
# docs/formulas/objective, each with the numbers of its page.
# usage: plots.sh rlhf-plots [--check]     --check: only see that the numbers kept are the program's and every figure is shown
set -euo pipefail
export LC_ALL=C

program=$(realpath "$1")
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/formulas" && pwd)

# Two files line by line and number by number: the last digit may differ from compiler to compiler. Pixels are whole to a tenth.
same() {  # kept, made, tolerance of an absolute gap
  [[ $(wc -l <"$1") == $(wc -l <"$2") ]] && paste -d '\n' "$1" "$2" | awk -v least="$3" '
    { gsub(/[LM]/, " & "); gsub(/[">]/, " & ") }
    NR % 2 == 1 { n = split($0, was); next }
    { if (split($0, is) != n) exit 1
      for (i = 1; i <= n; ++i) {
        if (was[i] == is[i]) continue
        gap = was[i] - is[i]
        if (was[i] + 0 == 0 && was[i] !~ /^-?[0-9]/ || gap * gap > least * least && gap * gap > 1e-6 * (1e-4 + was[i] * was[i])) exit 1
      } }'
}

if [[ ${2:-} == --check ]]; then
  wrong=0
  complain() { echo "$*"; wrong=1; }
  made=$(mktemp -d)
  trap 'rm -rf "$made"' EXIT
  "$program" >"$made/figures.gp"
  same "$folder/plots/figures.gp" "$made/figures.gp" 0 || complain "docs/formulas/plots/figures.gp is not what $1 writes: run docs/plots.sh"
  while read -r name; do
    for file in "plots/$name.svg" "$name.md"; do
      [[ -s $folder/$file ]] || complain "docs/formulas/$file is missing"
    done
    grep -qF "(plots/$name.svg)" "$folder/$name.md" || complain "docs/formulas/$name.md does not show its figure"
  done < <("$program" --list)

  "$program" --objectives "$made/objective"
  same "$folder/objective/points.tsv" "$made/objective/points.tsv" 0 ||
    complain "docs/formulas/objective/points.tsv is not what $1 writes: run docs/plots.sh"
  diff <(cd "$folder/objective/plots" && printf '%s\n' *) <(cd "$made/objective/plots" && printf '%s\n' *) ||
    complain "docs/formulas/objective/plots has other files than $1 writes: run docs/plots.sh"
  for file in "$made"/objective/plots/*.svg; do
    kept=$folder/objective/plots/${file##*/}
    [[ -e $kept ]] || continue
    same "$kept" "$file" 0.15 || complain "docs/formulas/objective/plots/${file##*/} is not what $1 writes: run docs/plots.sh"
    [[ $(wc -c <"$kept") -lt 25000 ]] || complain "docs/formulas/objective/plots/${file##*/} is larger than 25 kB"
  done
  exit $wrong
fi
mkdir -p "$folder/plots"
"$program" >"$folder/plots/figures.gp"
rm -f "$folder"/objective/plots/*.svg
"$program" --objectives "$folder/objective"
cd "$folder/plots" && gnuplot figures.gp
