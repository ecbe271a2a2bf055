#!/usr/bin/env bash
# The program's promises: the same bits for any number of threads, other numbers for another seed, complete reports, errors by name.
# usage: program.sh rlhf-lab folder
set -euo pipefail
lab=$1 out=$2
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$out"

fail() { printf 'lab.program: %s\n' "$*" >&2; exit 1; }

some=X1,X4,X6,X13,E12,E17
"$lab" --quick --only $some --threads 1 --out "$out/one" >"$out/one.txt" 2>/dev/null
"$lab" --quick --only $some --threads 4 --out "$out/four" >/dev/null 2>&1
for file in lab-report.json lab.html x1.csv x4.csv e17.csv; do
  cmp "$out/one/$file" "$out/four/$file" || fail "$file differs between 1 and 4 threads"
done
"$lab" --quick --only X4 --seed 2 --out "$out/other" >/dev/null 2>&1
cmp -s "$out/one/x4.csv" "$out/other/x4.csv" && fail "another seed gives the same numbers"

# An experiment's numbers do not depend on which others are run.
"$lab" --quick --only X4 --out "$out/alone" >/dev/null 2>&1
cmp "$out/one/x4.csv" "$out/alone/x4.csv" || fail "X4 alone is not X4 among others"

[[ $(grep -c '"id": ' "$out/one/lab-report.json") -eq 6 ]] || fail "lab-report.json does not have six experiments"
for key in id claim expected measured interval pass; do
  grep -q "^  \"$key\": " "$out/one/lab-report.json" || fail "lab-report.json has no $key"
done
for id in X1 X4 X6 X13 E12 E17; do grep -q "id=\"$id\"" "$out/one/lab.html" || fail "lab.html has no $id"; done
grep -Eq '(src|href)="(http|file)' "$out/one/lab.html" && fail "lab.html is not self-contained"
grep -q '6 of 6 claims hold' "$out/one.txt" || fail "not all of $some hold"
[[ -z $(find "$out" -name '*.new' -o -name '*.gnuplot') ]] || fail "scratch files are left"

# Without gnuplot: the page says so, and the table is there.
mkdir -p "$out/path"
PATH=$out/path "$lab" --quick --only X1 --out "$out/plain" >/dev/null 2>"$out/plain.txt"
grep -q 'no plots, gnuplot was not found' "$out/plain.txt" || fail "nothing said about a missing gnuplot"
grep -q 'x1.csv' "$out/plain/lab.html" || fail "the page does not point to the table"

"$lab" --list >"$out/list.txt"
grep -q '^X15 ' "$out/list.txt" || fail "--list does not name X15"
if "$lab" --only X1,X99 --out "$out/bad" 2>"$out/bad.txt"; then fail "an unknown experiment passes"; fi
grep -q 'there is no experiment X99' "$out/bad.txt" || fail "X99 is not named"
echo file >"$out/in-the-way"
if "$lab" --only X1 --out "$out/in-the-way" 2>"$out/bad.txt"; then fail "a file as folder passes"; fi
grep -q -- '--out' "$out/bad.txt" || fail "the message does not name --out"
echo "lab.program: all promises kept"
