#!/usr/bin/env bash
# Code in the documentation comes from programs that the tests compile and run. A fenced block below the line
#   <!-- snippet: examples/calls/x.cpp name -->
# must equal what stands between the two lines `//! [name]` of that file, less the indentation of the first of them.
# usage: snippets.sh [--write] [root]     --write: put the text of the sources into the documents
set -euo pipefail
export LC_ALL=C

write=
if [[ ${1:-} == --write ]]; then
  write=yes
  shift
fi
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT
blocks=0 wrong=0

while IFS= read -r document; do
  # The document with every marked block taken from its source; the number of blocks on the last line.
  awk -v document="$document" '
    function fail(what) {
      printf "%s:%d: %s\n", document, NR, what > "/dev/stderr"
      failed = 1
    }
    function quote(file, name,   line, inside, indent, found, marker) {
      marker = "//! [" name "]"
      while ((getline line < file) > 0) {
        if (index(line, marker) > 0 && line ~ /^ *\/\/! \[[^]]*\] *$/) {
          if (inside) {
            close(file)
            return 1
          }
          inside = 1
          indent = index(line, "//!") - 1
        } else if (inside && line !~ /^ *\/\/! \[[^]]*\] *$/) {
          print (substr(line, 1, indent) ~ /^ *$/ ? substr(line, indent + 1) : line)
        }
      }
      close(file)
      return 0
    }
    skipping {
      if ($0 ~ /^```/) {
        skipping = 0
        print
      }
      next
    }
    wanted != "" {
      print
      if ($0 !~ /^```/) fail("the line after a snippet mark opens a fenced block")
      else {
        blocks++
        split(wanted, part, " ")
        name = substr(wanted, length(part[1]) + 2)
        if (!quote(part[1], name)) fail("no snippet [" name "] in " part[1])
        skipping = 1
      }
      wanted = ""
      next
    }
    /^<!-- snippet: .* -->$/ {
      wanted = $0
      sub(/^<!-- snippet: */, "", wanted)
      sub(/ *-->$/, "", wanted)
    }
    { print }
    END {
      printf "%d\n", blocks
      if (skipping || wanted != "") fail("the document ends inside a snippet")
      exit failed
    }' "$document" >"$scratch" || wrong=$((wrong + 1))
  blocks=$((blocks + $(tail -n 1 "$scratch")))
  sed -i '$d' "$scratch"
  if ! cmp -s "$scratch" "$document"; then
    if [[ $write ]]; then
      cp "$scratch" "$document"
      echo "$document: written"
    else
      diff -u --label "$document" --label "what its sources say" "$document" "$scratch" || true
      wrong=$((wrong + 1))
    fi
  fi
done < <(find README.md CONTRIBUTING.md docs -name '*.md' | sort)

echo "$blocks snippets, $wrong documents to mend"
[[ $blocks -gt 0 && $wrong -eq 0 ]]
