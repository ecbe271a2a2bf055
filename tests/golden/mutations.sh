#!/usr/bin/env bash
# The check can fail: one wrong number in what is expected turns every case red, and so does a name that nothing computes.
# usage: mutations.sh rlhf-eval folder-of-vectors
set -euo pipefail
export LC_ALL=C
eval=$1 folder=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# The cases of the objectives that are built, in their true form: all green.
grep -vFf <(sed -n 's/^[^#].*/"id":"&\//p' "$folder/not-built.txt") -h "$folder"/*.jsonl >"$work/built.jsonl"
built=$(wc -l <"$work/built.jsonl")
"$eval" --check "$work/built.jsonl" >"$work/table"
[[ $(awk '$1 == "total" { print $2, $3, $4 }' "$work/table") == "$built 0 0" ]] || { cat "$work/table"; exit 1; }

mutate() {  # what, pattern of the cases it applies to, sed script
  grep -E "$2" "$work/built.jsonl" >"$work/true.jsonl"
  sed -E "$3" "$work/true.jsonl" >"$work/wrong.jsonl"
  local cases verdict=0 counts
  cases=$(wc -l <"$work/true.jsonl")
  "$eval" --check "$work/wrong.jsonl" >"$work/table" 2>"$work/words" || verdict=$?
  counts=$(awk '$1 == "total" { print $2, $3, $4 }' "$work/table")
  echo "$1: $cases cases, exit status $verdict, passed failed skipped: $counts"
  if [[ $verdict -ne 1 || $counts != "0 $cases 0" || $cases -lt 50 ]]; then
    failures=$((failures + 1))
    cat "$work/words"
  fi
}

number='-?[0-9][-+.0-9e]*'
skip='[^0-9-]*("-?inf"[^0-9-]*)*'  # brackets, names and non-finite numbers before the first finite one
mutate "first number expected" '"expect"' "s/(\"expect\":\\{\"[a-z_0-9]+\":$skip)$number/\\198765.5/"
mutate "first number of a gradient" '"grad":\{' "s/(\"grad\":\\{\"[a-z_0-9]+\":$skip)$number/\\198765.5/"
mutate "first statistic" '"stats":\{' "s/(\"stats\":\\{\"[a-z_0-9]+\":$skip)$number/\\198765.5/"
mutate "last number expected" '"expect"' "s/$number([^0-9]*,\"source\")/98765.5\\1/"
mutate "a name that is not computed" '"expect"' 's/"expect":\{"/"expect":{"no_such_/'
mutate "an array with one row too many" '"expect":\{"[a-z_]+":\[' 's/("expect":\{"[a-z_]+":\[)/\1[],/'

exit $((failures > 0))
