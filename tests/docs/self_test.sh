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
