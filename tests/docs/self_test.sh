#!/usr/bin/env bash
# The checks of the documentation find what they are for.
# usage: self_test.sh source-folder
set -euo pipefail
source_dir=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mkdir "$root/docs"
touch "$root/CONTRIBUTING.md" "$root/CHANGELOG.md"
printf 'int before;\n  //! [call]\n  f();\n    g();\n  //! [call]\n' >"$root/x.cpp"
page() { printf '# A heading\n\n<!-- snippet: x.cpp %s -->\n```cpp\n%s\n```\n[there](%s)\n' "$1" "$2" "$3" >"$root/README.md"; }
good=$'f();\n  g();'

expect() {  # what, wanted status, command...
  local what=$1 wanted=$2 got=0
  shift 2
  "$@" >"$root/log" 2>&1 || got=1
  if [[ $got != "$wanted" ]]; then
    echo "self_test: $what: exit status $got, wants $wanted"
    cat "$root/log"
    exit 1
  fi
}

page call "$good" docs
expect "a right snippet" 0 "$source_dir/docs/snippets.sh" "$root"
expect "a right link" 0 "$source_dir/docs/links.sh" "$root"
page call 'f();' nowhere.md
expect "another text" 1 "$source_dir/docs/snippets.sh" "$root"
expect "a dead link" 1 "$source_dir/docs/links.sh" "$root"
expect "writing" 0 "$source_dir/docs/snippets.sh" --write "$root"
expect "after writing" 0 "$source_dir/docs/snippets.sh" "$root"
page other "$good" README.md#a-heading
expect "an unknown snippet" 1 "$source_dir/docs/snippets.sh" "$root"
expect "a heading" 0 "$source_dir/docs/links.sh" "$root"
page call "$good" README.md#another
expect "no such heading" 1 "$source_dir/docs/links.sh" "$root"

# What the laboratory measured: a report of one experiment, and a page for two.
theory=$root/docs/theory
mkdir -p "$theory/plots" "$root/report"
printf '#!/bin/sh\necho "X1   one"\n' >"$root/lab" && chmod +x "$root/lab"
echo '<svg/>' >"$root/report/x1.svg"
printf '%s\n' '[' ' {' '  "id": "X1",' '  "claim": "a_b < c",' '  "source": "me",' '  "expected": "1 +- 0.1",' '  "measured": 1.05,' \
  '  "interval": [' '   1.0,' '   1.1' '  ],' '  "pass": true,' '  "checks": [' '   {' '    "what": "the slope",' \
  '    "expected": "1 +- 0.1",' '    "measured": 1.05,' '    "interval": [' '     1.0,' '     1.1' '    ],' '    "pass": true' '   }' \
  '  ]' ' }' ']' >"$root/report/lab-report.json"
printf '<!-- lab: X1 -->\n<!-- /lab -->\nbetween\n<!-- lab: E2 brief -->\n<!-- /lab -->\n' >"$theory/a-page.md"
printf '<!-- lab: index -->\nold\n<!-- /lab -->\n' >"$theory/index.md"
expect "an experiment that no page shows" 1 "$source_dir/docs/lab.sh" --check "$root/lab" "$root"
expect "a report" 0 "$source_dir/docs/lab.sh" "$root/report" "$root"
expect "one that a page shows" 0 "$source_dir/docs/lab.sh" --check "$root/lab" "$root"
has() { grep -qF -- "$2" "$1" || { echo "self_test: $1 lacks $2"; cat "$1"; exit 1; }; }
has "$theory/a-page.md" '**X1.** a\_b \< c (me)'
has "$theory/a-page.md" '| the slope | 1 ± 0.1 | 1.05 \[1, 1.1\] | yes |'
has "$theory/a-page.md" '![the curve of X1](plots/x1.svg)'
has "$theory/index.md" '| X1 | a\_b \< c | [a page](a-page.md) | 1 ± 0.1 | 1.05 \[1, 1.1\] | holds |'
has "$theory/index.md" '| E2 | not in the report'
[[ -s $theory/plots/x1.svg ]] && ! grep -q old "$theory/index.md"
cp "$theory/a-page.md" "$root/first"
expect "the same report again" 0 "$source_dir/docs/lab.sh" "$root/report" "$root"
cmp "$root/first" "$theory/a-page.md"
sed -i 's/"id": "X1"/"id": "X9"/' "$root/report/lab-report.json"
expect "an experiment without a page" 1 "$source_dir/docs/lab.sh" "$root/report" "$root"
expect "no report" 1 "$source_dir/docs/lab.sh" "$root/docs" "$root"
rm -r "$theory"

# Pages of formulas: in a copy of what they are made of.
copy=$root/copy
mkdir -p "$copy/tests/golden"
cp -r "$source_dir"/{docs,include} "$copy"
cp "$source_dir/tests/golden/COVERAGE.md" "$copy/tests/golden"
pages=$copy/docs/formulas/objective
expect "the pages" 0 "$source_dir/docs/pages.sh" --check "$copy"
echo more >>"$pages/dpo_sigmoid.md"
expect "a page changed by hand" 1 "$source_dir/docs/pages.sh" --check "$copy"
cp "$source_dir/docs/formulas/objective/dpo_sigmoid.md" "$pages"
touch "$pages/nothing.md"
expect "a page of nothing" 1 "$source_dir/docs/pages.sh" --check "$copy"
rm "$pages/nothing.md"
grep -v $'^[a-z]*\tdpo_hinge\t' "$source_dir/docs/formulas/objective/points.tsv" >"$pages/points.tsv"
expect "a formula without a figure" 1 "$source_dir/docs/pages.sh" --check "$copy"
grep -q 'no figure of dpo_hinge' "$root/log"
cp "$source_dir/docs/formulas/objective/points.tsv" "$pages"
echo 'ipo for no reason' >>"$pages/no-figure.txt"
expect "an exception that is none" 1 "$source_dir/docs/pages.sh" "$copy"
cp "$source_dir/docs/formulas/objective/no-figure.txt" "$pages"
sed -i 's/^struct dpo_hinge {/struct dpo_hinges {/' "$copy/include/rlhf/objective/preference.hpp"
expect "a name that no page knows" 1 "$source_dir/docs/pages.sh" --check "$copy"
grep -q "draws dpo_hinge, which has no page" "$root/log"
