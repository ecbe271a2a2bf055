#!/usr/bin/env bash
# Finished runs joined, their curves known: means, intervals, pairing by seed, levels, copies and labels. joined.sh RLHF_ALIGN WORK_FOLDER
set -euo pipefail
align=$1 work=$2
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$work"
cd "$work"
die() { printf 'FAILED: %s\n' "$*" && exit 1; }

# run FOLDER SEED METHOD:ITERATION:REWARD:KL:TOKENS:SECONDS...; best-of-n of each is the same.
run() {
  local folder=$1 seed=$2 points='' clock='' method i reward kl tokens seconds
  shift 2
  mkdir -p "$folder"
  while IFS=: read -r method i reward kl tokens seconds; do
    points+="${points:+,}{\"method\":\"$method\",\"seed\":$seed,\"iteration\":$i,\"reward\":$reward,\"kl\":$kl,\"tokens\":$tokens}"
    clock+="${clock:+,}{\"seconds\":$seconds}"
  done < <(printf '%s\n' best_of_n:0:1:0:8:0 best_of_n:1:2:0.5:16:0 best_of_n:3:3:2:32:0 "$@")
  printf '{"points":[%s],"samples":[],"figures":{"reward_deviation":2},"tables":{}}' "$points" >"$folder/results.json"
  printf '[%s]' "$clock" >"$folder/report.json"
  printf '{"task":"T","seed":%s,"unit":"response"}' "$seed" >"$folder/summary.json"
}
dpo=(dpo:0:1.2:0:0:0 dpo:1:2:1:50:3 dpo:2:2.5:1.5:50:6)
run ppo/seed-1 1 ppo:0:1.2:0:0:0 ppo:1:2:1:100:2 ppo:2:3:2:200:4
run ppo/seed-2 2 ppo:0:1.2:0:0:0 ppo:1:3:1:100:2 ppo:2:5:2:200:4
run rto/seed-1 1 "${dpo[@]}" rto:0:1.2:0:0:0 rto:1:3.6:1:100:1
run rto/seed-2 2 rto:0:1.2:0:0:0 rto:1:3:1:100:1 rto:2:4:2:200:2
run semi/seed-1 1 "${dpo[@]}" rto:0:1.2:0:0:0 rto:1:9:1:100:1

"$align" compare --out joined {ppo,rto}/seed-{1,2} semi/seed-1 rto/seed-1 >log 2>&1 || die "$(cat log)"
# cell FILE LABEL COLUMN
cell() { awk -F, -v label="$2" -v name="$3" 'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == name) at = i }
  $1 == label { print at ? $at : "no column" }' "joined/$1"; }
expect() {  # FILE LABEL COLUMN VALUE, where nothing is an empty cell
  local got
  got=$(cell "$1" "$2" "$3")
  if [[ -z $4 ]]; then [[ -z $got ]] || die "$2: $3 is '$got', wants nothing"; return; fi
  awk -v a="$got" -v b="$4" 'BEGIN { d = a - b; exit !(a != "" && d * d <= 1e-10 * (1 + b * b)) }' ||
    die "$2: $3 is '$got', wants $4"
}
[[ $(cut -d, -f1 joined/compare.csv | tr '\n' ' ') == 'method ppo dpo rto rto_semi ' ]] || die "$(cut -d, -f1,2 joined/compare.csv)"
while read -r label column value; do expect compare.csv "$label" "$column" "$value"; done <<'TABLE'
ppo runs 2
ppo reward 4
ppo reward_interval 12.706
ppo gain 1.4
ppo of_best_of_n 1.4
ppo seconds_an_iteration 2
ppo less_first
ppo samples_to_first 1
ppo iterations_to_first 2
ppo reward_at_1.0 2.5
ppo reward_at_2.0 4
rto runs 2
rto less_first -0.2
rto less_first_interval 10.1648
rto samples_to_first 0.375
rto samples_to_first_interval
rto samples_to_first_runs 1
rto iterations_to_first 0.75
rto reward_at_1.0 3.3
rto reward_at_2.0 4
rto reward_at_2.0_runs 1
rto reward_at_2.0_interval
rto_semi runs 1
rto_semi reward 9
rto_semi reward_interval
dpo runs 1
dpo reward 2.5
dpo seconds 6
dpo tokens 50
dpo seconds_an_iteration
dpo iterations_to_first
dpo iterations_to_first_runs 0
TABLE
grep -qF '<td>RTO, semi</td>' joined/report.html || die "the report does not tell RTO's two kinds apart"
# Half-way of a line, a single run without an interval, best-of-n of each seed once.
grep -qx 'ppo,1,2,2.5,6.353,1,0,100,,,,' joined/curves.csv || die "$(grep '^ppo' joined/curves.csv)"
grep -qx 'dpo,2,1,2.5,,1.5,,50,,,,' joined/curves.csv || die "$(grep '^dpo' joined/curves.csv)"
grep -qx 'best_of_n,3,2,3,0,2,0,32,,,,' joined/curves.csv || die "$(grep '^best' joined/curves.csv)"
[[ $(grep -c '"method": "dpo"' joined/report.json) == 3 ]] || die "DPO's points are there more than once"
# The seeds of finished runs are theirs.
if "$align" compare --seeds 1 --out joined ppo/seed-1 >log 2>&1; then die "took seeds of finished runs"; fi
grep -qF -- '--seeds' log || die "$(cat log)"
echo "joined runs: fine"
