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
