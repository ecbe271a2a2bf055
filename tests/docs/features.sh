#!/usr/bin/env bash
# docs/features.md against the headers and the golden vectors: every id once, a known state, the names of what is done are in
# include/, every row of the vectors is in the table, and rows whose vectors are all built are done.
# usage: features.sh source-folder
set -euo pipefail
export LC_ALL=C
cd "$1"
table=docs/features.md wrong=0
complain() {
  echo "$table: $*"
  wrong=$((wrong + 1))
}

rows=$(awk -F' [|] ' '/^\| / && $1 != "| id" && $1 !~ /^\|-/ { sub(/^\| /, "", $1); sub(/ \|$/, "", $4); printf "%s\t%s\t%s\n", $1, $3, $4 }' "$table")
while read -r id; do complain "$id stands there twice"; done < <(cut -f 1 <<<"$rows" | sort | uniq -d)
declare -A state
while IFS=$'\t' read -r id what here; do
  state[$id]=$what
  case $what in
    next) ;;
    'out of scope') [[ -n $here ]] || complain "$id is out of scope without a reason" ;;
    done)
      [[ -n $here ]] || complain "$id is done, but it does not say where"
      while read -r name; do
        grep -rqwF -- "$name" include || complain "$id names \`$name\`, which is nowhere in include/"
      done < <(grep -oE '`[^`]+`' <<<"$here" | tr -d '`') ;;
    *) complain "$id has the state \"$what\", wants done, next or out of scope" ;;
  esac
done <<<"$rows"

counted=$(cut -f 2 <<<"$rows" | awk '{ n[$0]++ } END { printf "%d done, %d next, %d out of scope.", n["done"], n["next"], n["out of scope"] }')
grep -qxF -- "$counted" "$table" || complain "the line of counts is not \"$counted\""

# Rows of the vectors: id and op/objective; those that not-built.txt names are not there yet.
if compgen -G 'tests/golden/*.jsonl' >/dev/null; then
  while IFS=$'\t' read -r id missing; do
    if [[ -z ${state[$id]:-} ]]; then
      complain "the golden vectors have a row $id, the table has not"
    elif [[ $missing == 0 && ${state[$id]} != done ]]; then
      complain "all vectors of $id pass, but its state is ${state[$id]}"
    fi
  done < <(sed -E 's/^\{"id": ?"[^"]*", ?"op": ?"([^"]*)", ?"objective": ?"([^"]*)", ?"row": ?"([^"]*)".*/\3\t\1\/\2/; s/\\u00a7/§/' tests/golden/*.jsonl |
    sort -u | awk -F'\t' 'NR == FNR { if ($0 !~ /^#/) gone[$1]; next } { missing[$1] += ($2 in gone) } END { for (id in missing) printf "%s\t%d\n", id, missing[id] }' tests/golden/not-built.txt -)
fi

echo "$(wc -l <<<"$rows") rows: $counted $wrong complaints"
[[ $wrong -eq 0 ]]
