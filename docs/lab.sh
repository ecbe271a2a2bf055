#!/usr/bin/env bash
# What the laboratory measured, into docs/theory: below a line
#   <!-- lab: X6 -->            the experiment whole: claim, curve, a table of what was checked, verdict
#   <!-- lab: X7 brief -->      one item of a list
#   <!-- lab: index -->         in index.md, the table of all of them, each with the page that has it
# up to <!-- /lab -->. An experiment that the report does not have keeps what stands there. Curves of whole experiments are copied
# to docs/theory/plots where they are smaller than 40 kB.
# usage: rlhf-lab --seed 1 --out out/lab && docs/lab.sh out/lab [root]
#        docs/lab.sh --check rlhf-lab [root]      only see that a page shows each experiment of the program
set -euo pipefail
export LC_ALL=C

here=$(dirname "${BASH_SOURCE[0]}")/..
if [[ $1 == --check ]]; then
  program=$(realpath "$2")
  cd "${3:-$here}/docs/theory"
  wrong=0 count=0
  while read -r id _; do
    count=$((count + 1))
    # What follows the mark is what was measured, unless nothing was yet.
    shown=$(awk -v id="$id" '$0 ~ "^<!-- lab: " id "( brief)? -->$" { getline; if ($0 != "<!-- /lab -->") print FILENAME }' ./*.md)
    [[ -n $shown ]] || { echo "docs/theory: no page shows what $id measured: mark its place, run rlhf-lab and docs/lab.sh"; wrong=1; }
  done < <("$program" --list)
  echo "$count experiments"
  [[ $count -gt 0 && $wrong == 0 ]]
  exit
fi
report=$(realpath "$1")
cd "${2:-$here}/docs/theory"
[[ -r $report/lab-report.json ]] || { echo "lab.sh: $report has no lab-report.json: run rlhf-lab --out $1" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The report as lines "id <tab> E <tab> claim <tab> source <tab> expected <tab> measured <tab> pass" and, for each check,
# "id <tab> C <tab> what <tab> expected <tab> measured <tab> pass". rlhf-lab writes an element a line, indented by depth.
awk '
  function value(line) {
    sub(/^ *"[a-z]+": /, "", line)
    sub(/,$/, "", line)
    if (line ~ /^"/) {
      line = substr(line, 2, length(line) - 2)
      gsub(/\\"/, "\"", line)
      gsub(/\\\\/, "\\", line)
      gsub(/[\\|*_<>~`[\]]/, "\\\\&", line)  # they mean something to Markdown
    }
    return line
  }
  function figure(x) { return x ~ /^[-0-9.e+]+$/ ? sprintf("%.5g", x) : x }
  function interval() { return low == high ? figure(measured) : figure(measured) " \\[" figure(low) ", " figure(high) "\\]" }
  match($0, /^ */) { depth = RLENGTH }
  /^ *"interval": \[/ { ends = 0; in_interval = 1; next }
  in_interval && /^ *\]/ { in_interval = 0; next }
  in_interval { x = $1; sub(/,$/, "", x); if (ends++ == 0) low = x; else high = x; next }
  /^ *"id": / { id = value($0) }
  /^ *"claim": / { claim = value($0) }
  /^ *"source": / { source = value($0) }
  /^ *"what": / { what = value($0) }
  /^ *"expected": / { expected = value($0) }
  /^ *"measured": / { measured = value($0) }
  /^ *"pass": / {
    if (depth == 2) printf "%s\tE\t%s\t%s\t%s\t%s\t%s\n", id, claim, source, expected, interval(), value($0)
    else printf "%s\tC\t%s\t%s\t%s\t%s\n", id, what, expected, interval(), value($0)
  }' "$report/lab-report.json" | sed 's/+-/±/g' >"$scratch/facts"
[[ -s $scratch/facts ]] || { echo "lab.sh: nothing to read in $report/lab-report.json" >&2; exit 1; }

whole() {  # id
  local id=$1 lower=${1,,} svg
  awk -F '\t' -v id="$id" '$1 == id && $2 == "E" { printf "**%s.** %s (%s)\n\n", id, $3, $4 }' "$scratch/facts"
  for svg in "$report/$lower.svg" "$report/$lower"-[0-9].svg; do
    [[ -e $svg && $(stat -c %s "$svg") -lt 40000 ]] || continue
    cp "$svg" plots/
    printf '![the curve of %s](plots/%s)\n\n' "$id" "${svg##*/}"
  done
  awk -F '\t' -v id="$id" '
    $1 != id { next }
    $2 == "E" { pass = $7; print "| checked | expected | measured | |\n|---|---|---|---|" }
    $2 == "C" { printf "| %s | %s | %s | %s |\n", $3, $4, $5, $6 == "true" ? "yes" : "**no**" }
    END { printf "\nVerdict: %s.\n", pass == "true" ? "holds" : "**does not hold**" }' "$scratch/facts"
}
brief() {  # id
  awk -F '\t' -v id="$1" '$1 == id && $2 == "E" { claim = $3; source = $4; pass = $7 }
    $1 == id && $2 == "C" && !what { what = $3; expected = $4; measured = $5 }
    END { printf "- **%s.** %s (%s) Checked first: %s: %s, expected %s. %s.\n", id, claim, source, what, measured, expected,
                 pass == "true" ? "Holds" : "**Does not hold**" }' "$scratch/facts"
}
index() {
  local id page rest
  printf '| | claim | page | expected | measured | |\n|---|---|---|---|---|---|\n'
  while IFS=: read -r page rest; do
    id=${rest#<!-- lab: } id=${id%% *}
    printf '%s\t%s\n' "$id" "$page"
  done < <(grep -oE '^<!-- lab: [XE][0-9]+b?( brief)? -->' ./*.md) | sed 's|\./||' |
    sort -k1.1,1.1r -k1.2,1.5n >"$scratch/pages"
  awk -F '\t' '
    NR == FNR { if ($2 == "E") { claim[$1] = $3; expected[$1] = $5; measured[$1] = $6; pass[$1] = $7 } next }
    { name = $2; sub(/\.md$/, "", name); gsub(/-/, " ", name)
      if ($1 in claim)
        printf "| %s | %s | [%s](%s) | %s | %s | %s |\n", $1, claim[$1], name, $2, expected[$1], measured[$1],
               pass[$1] == "true" ? "holds" : "**does not hold**"
      else printf "| %s | not in the report that this table was made from | [%s](%s) | | | |\n", $1, name, $2
    }' "$scratch/facts" "$scratch/pages"
}

for document in *.md; do
  copying=yes
  while IFS= read -r line; do
    [[ $line != '<!-- /lab -->' ]] || copying=yes
    [[ -z $copying ]] || printf '%s\n' "$line"
    if [[ $line =~ ^'<!-- lab: '([XE][0-9]+b?|index)(' brief')?' -->'$ ]]; then
      id=${BASH_REMATCH[1]} how=whole
      [[ -z ${BASH_REMATCH[2]} ]] || how=brief
      if [[ $id == index ]]; then
        index
        copying=
      elif grep -q "^$id	" "$scratch/facts"; then
        "$how" "$id"
        copying=
      fi
    fi
  done <"$document" >"$scratch/page"
  [[ $copying ]] || { echo "lab.sh: $document: a <!-- lab: ... --> without <!-- /lab -->" >&2; exit 1; }
  cmp -s "$scratch/page" "$document" || { cp "$scratch/page" "$document"; echo "docs/theory/$document: written"; }
done
awk -F '\t' 'NR == FNR { shown[$1] = 1; next } $2 == "E" && !($1 in shown) { print "lab.sh: no page has " $1; bad = 1 } END { exit bad }' \
  "$scratch/pages" "$scratch/facts"
