#!/usr/bin/env bash
# Every link of the documentation to a file of this repository points at one, and to a heading, at that heading.
# usage: links.sh [root]
set -euo pipefail
export LC_ALL=C
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

anchors() {  # document: its headings as GitHub names them
  awk '/^```/ { code = !code; next }
       !code && /^#+ / { sub(/^#+ +/, ""); $0 = tolower($0); gsub(/[^a-z0-9_ -]/, ""); gsub(/ /, "-"); print }' "$1"
}

links=0 broken=0
while IFS= read -r document; do
  folder=$(dirname "$document")
  while IFS= read -r target; do
    case $target in
      '' | http://* | https://* | mailto:*) continue ;;
    esac
    links=$((links + 1))
    file=${target%%#*} anchor=
    [[ $target != *#* ]] || anchor=${target#*#}
    path=$document
    [[ -z $file ]] || path=$folder/$file
    if [[ ! -e $path ]] || { [[ -n $anchor && -f $path ]] && ! grep -qxF -- "$anchor" <(anchors "$path"); }; then
      echo "$document: $target leads nowhere"
      broken=$((broken + 1))
    fi
  done < <(awk '/^```/ { code = !code; next } !code { gsub(/`[^`]*`/, ""); print }' "$document" |
    grep -oE '\]\([^() ]+\)|(src|srcset|href)="[^"]+"' | sed -E 's/^\]\(//; s/\)$//; s/^[a-z]+="//; s/"$//' || true)
done < <(find README.md CONTRIBUTING.md CHANGELOG.md docs -name '*.md' | sort)

echo "$links links, $broken broken"
[[ $links -gt 0 && $broken -eq 0 ]]
