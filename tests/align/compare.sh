#!/usr/bin/env bash
# Algorithms run with seeds and held against each other: killed and gone on with, the same bytes; one report; clear errors.
#   compare.sh RLHF_ALIGN WORK_FOLDER
set -euo pipefail
align=$1 work=$2
sets_of=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../examples/align/comparisons" && pwd)
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$work"
cd "$work"
die() { printf 'FAILED: %s\n' "$*" && exit 1; }
refuses() {  # expected words, command...
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then die "accepted: $*"; fi
  grep -qF -- "$words" <<<"$said" || die "'$said' does not say '$words'"
}
tiny=(--quick --threads 2 --iterations 2 --prompts 16 --judged 32 --frontier 64 --preference-pairs 128 --sft-epochs 1
  --reward-pairs 512 --ppo-minibatch 16)
set_of=ppo,rto,semi_rto=rto:mode=semi,dvpo:advantage=action_value,dpo,learned=ppo:reward=worst_case:members=2

# A plan: a line for every label and for what they share, and nothing is written.
plan_of() { "$align" "$@" --plan >plan 2>log || die "$(cat log)"; }
adds_up() {  # seconds of what is left, each to a tenth
  awk 'NF == 5 && $3 > 0 { sum += $3 * $4; error += $3 * 0.05; if ($5 > most) most = $5 } /^time/ { time = $2; memory = $5 }
    END { exit !(sum > 0 && memory == most && time >= sum - error - 0.5 && time <= sum + error + 0.5) }' plan || die "the plan does not add up: $(cat plan)"
}
left() { awk 'NF == 5 && $3 > 0 { print $1, $2, $3 }' plan | xargs; }  # kinds of runs: all, not finished
plan_of compare "${tiny[@]}" --algorithms "$set_of" --seeds 1..2 --out whole
adds_up
[[ ! -e whole ]] || die "a plan made a folder"
[[ $(left) == "shared 2 2 ppo 2 2 guide 2 2 rto 2 2 semi_rto 2 2 dvpo_advantage-action_value 2 2 dpo 2 2 learned 2 2" ]] || die "the plan: $(cat plan)"

"$align" compare "${tiny[@]}" --algorithms "$set_of" --seeds 1..2 --out whole >log 2>&1 || die "$(cat log)"
for label in ppo rto semi_rto dvpo_advantage-action_value dpo learned; do
  grep -q "^$label,2," whole/compare.csv || die "no line for two runs of $label: $(cat whole/compare.csv)"
  [[ -s whole/$label/seed-2/report.html ]] || die "no run of $label with seed 2"
done
for part in 'Reward against KL' 'Reward against samples' 'iterations to PPO' 'True and promised reward' 'semi_rto: rto rto-mode=semi' '</html>'; do
  grep -qF "$part" whole/report.html || die "the report has no '$part'"
done
# Memory: PPO trains a critic beside the policy and DVPO does not, but reads its value; a run that recorded nothing has dashes.
cell() { awk -F, -v of="$1" -v what="$2" 'NR == 1 { for (i = 1; i <= NF; ++i) at[$i] = i } $1 == of { print (what in at) ? $at[what] : "none" }' "${3-whole}/compare.csv"; }
for what in trainable frozen activations peak; do
  for label in ppo dvpo_advantage-action_value dpo; do
    awk -v x="$(cell $label ${what}_mib)" 'BEGIN { exit !(x > 0) }' || die "$label has no $what memory: $(cat whole/compare.csv)"
  done
done
awk -v ppo="$(cell ppo trainable_mib)" -v dvpo="$(cell dvpo_advantage-action_value trainable_mib)" -v dpo="$(cell dpo trainable_mib)" \
  'BEGIN { exit !(dvpo == dpo && ppo > 1.9 * dvpo && ppo < 2.1 * dvpo) }' || die "what is trained: $(cat whole/compare.csv)"
awk -v ppo="$(cell ppo activations_mib)" -v dvpo="$(cell dvpo_advantage-action_value activations_mib)" \
  'BEGIN { exit !(dvpo < ppo) }' || die "a critic takes no activations: $(cat whole/compare.csv)"
cp -r whole/ppo/seed-1 forgetful
sed -i 's/"memory":/"was memory":/; s/"peak_bytes":/"was peak":/' forgetful/summary.json
sed -i 's/"length":/"was length":/; s/"win_rate":/"was win rate":/' forgetful/results.json
"$align" compare --out forgotten forgetful >log 2>&1 || die "$(cat log)"
for what in trainable_mib activations_mib peak_mib win_rate length; do
  [[ -z $(cell ppo $what forgotten) ]] || die "$what was not recorded: $(cat forgotten/compare.csv)"
done
grep -qF 'A dash' forgotten/report.html || die "the report of runs that recorded less is not one"
# How often responses win, and how long they are.
for label in ppo dvpo_advantage-action_value dpo; do
  awk -v wins="$(cell $label win_rate)" -v tokens="$(cell $label length)" 'BEGIN { exit !(wins > 0 && wins <= 1 && tokens > 1 && tokens < 30) }' ||
    die "$label wins or lengths: $(cat whole/compare.csv)"
done
[[ $(head -1 whole/ppo/seed-1/curves.csv) == *,length,win_rate ]] || die "the curves of a run: $(head -2 whole/ppo/seed-1/curves.csv)"
[[ $(cut -d, -f1 whole/curves.csv | sort -u | wc -l) == 8 ]] || die "the curves are of $(cut -d, -f1 whole/curves.csv | sort -u)"
differ() { [[ -s $1 && -s $2 ]] && ! cmp -s "$1" "$2"; }  # both are there
differ whole/rto/seed-1/curves.csv whole/semi_rto/seed-1/curves.csv || die "the mode changes nothing"
# A fixed set is read once, whatever the number of epochs.
awk -F, '/^dpo,/ { seen[$3] = $6 } END { exit !(seen[1] > 0 && seen[1] == seen[2]) }' whole/dpo/seed-1/curves.csv ||
  die "DPO's pairs are counted again: $(cat whole/dpo/seed-1/curves.csv)"

# What is shared changes nothing: each is the run that it would be alone.
"$align" "${tiny[@]}" --algorithm rto --rto-mode semi --seed 2 --out alone >log 2>&1 || die "$(cat log)"
cmp alone/models/rto.safetensors whole/semi_rto/seed-2/models/rto.safetensors || die "semi_rto is another run than its own"
diff <(grep '^rto,\|^best_of_n,' alone/curves.csv) <(grep '^rto,\|^best_of_n,' whole/semi_rto/seed-2/curves.csv) >/dev/null ||
  die "semi_rto has another curve than alone"

# Killed again and again, the times between growing, until one gets to the end.
milliseconds=300 kills=0
until [[ $kills == 100 ]]; do
  "$align" compare "${tiny[@]}" --algorithms "$set_of" --seeds 1..2 --out killed >log 2>&1 &
  child=$!
  sleep "$(awk -v t=$milliseconds 'BEGIN { printf "%.3f", t / 1000 }')"
  if ! kill -9 $child 2>/dev/null; then
    wait $child || die "$(cat log)"
    break
  fi
  wait $child 2>/dev/null || true
  kills=$((kills + 1)) milliseconds=$((milliseconds + milliseconds / 8))
done
[[ $kills -ge 2 ]] || die "the comparison was over before it could be killed"
# All but what tells the time: of runs and, at the top, of the comparison.
sums() { (cd "$1" && find . -type f ! -name timing.json ! -name report.html ! -name report.json ! -name summary.json ! -name comparison.json ! -name compare.csv -print0 | sort -z | xargs -0 sha256sum); }
diff <(sums whole) <(sums killed) >difference || die "killed $kills times: $(head -4 difference)"
printf 'killed %s times: equal byte for byte\n' "$kills"

# More of it goes on from what is there; other settings do not.
touch stamp
plan_of compare "${tiny[@]}" --algorithms ppo,rto,rebel --seeds 1..3 --out whole
adds_up
[[ $(left) == "shared 3 1 ppo 3 1 guide 3 1 rto 3 1 rebel 3 3" ]] || die "the plan of what is left: $(cat plan)"
refuses 'was `ppo-kl=0.3`, and now is `ppo-kl=0.1`' "$align" compare "${tiny[@]}" --ppo-kl 0.1 --algorithms ppo --seeds 1 --plan --out whole
[[ -z $(find whole -newer stamp) ]] || die "a plan wrote $(find whole -newer stamp)"
touch whole/mine.new
"$align" compare "${tiny[@]}" --algorithms ppo,rto,rebel --seeds 1,2 --out whole >log 2>&1 || die "$(cat log)"
[[ -e whole/mine.new ]] || die "a file of somebody else is gone"
[[ $(grep -c 'finished before' log) == 8 ]] || die "what was finished was not kept: $(cat log)"
grep -q '^rebel,2,' whole/compare.csv || die "no REBEL: $(cat whole/compare.csv)"
refuses 'was `ppo-kl=0.3`, and now is `ppo-kl=0.1`' "$align" compare "${tiny[@]}" --ppo-kl 0.1 --algorithms ppo --seeds 1 --out whole
refuses 'was `rto-mode=semi`' "$align" compare "${tiny[@]}" --algorithms semi_rto=rto:mode=eos --seeds 1 --out whole

# Settings chosen on other seeds, as many for each label, by the highest J; the rest of the comparison is of those. What diverges
# is no candidate.
tuned=(compare "${tiny[@]}" --algorithms ppo,dpo --seeds 1 --tuning-seeds 7..8
  --tries ppo:rate=1e-9,ppo:rate=1e6,dpo:rate=1e-9,dpo:rate=1e6:epochs=40:batch=8 --out tuned)
"$align" "${tuned[@]}" >log 2>&1 || die "$(cat log)"
[[ $(grep -c . tuned/tuning.csv) == 7 ]] || die "not six tries: $(cat tuned/tuning.csv)"
awk -F, 'NR > 1 { chosen[$1] += $10; if ($10) j[$1] = $4; if ($3 > 0 && (!($1 in best) || $4 > best[$1])) best[$1] = $4 }
  END { exit !(chosen["ppo"] == 1 && chosen["dpo"] == 1 && j["ppo"] == best["ppo"] && j["dpo"] == best["dpo"]) }' tuned/tuning.csv ||
  die "chosen badly: $(cat tuned/tuning.csv)"
grep -q '^ppo,ppo-rate=1e6,2,.*,0$' tuned/tuning.csv || die "a rate beyond reason was chosen: $(cat tuned/tuning.csv)"
grep -q '^dpo,dpo-rate=1e6 dpo-epochs=40 dpo-batch=8,0,,,' tuned/tuning.csv || die "what diverged has a J: $(cat tuned/tuning.csv)"
grep -qF 'Settings chosen' tuned/report.html || die "the report does not say what was chosen"
chosen=$(awk -F, '$1 == "dpo" && $10 { print $2 }' tuned/tuning.csv)
folder=tuned/tuning/dpo/$([[ $chosen == 'as it is' ]] && echo as-it-is || echo "${chosen//=/-}")
[[ -s $folder/seed-8/report.html ]] || die "no run of what was chosen for DPO, $folder"
"$align" "${tuned[@]}" >log 2>&1 || die "$(cat log)"
[[ $(grep -c 'finished before' log) -ge 12 ]] || die "what was tried is tried again: $(cat log)"
refuses '`ppo` has 1, `dpo` has 0' "$align" compare --algorithms ppo,dpo --tries ppo:rate=1e-4 --tuning-seeds 9 --out none
refuses 'is one of --seeds' "$align" compare --algorithms ppo --tries ppo:rate=1e-4 --tuning-seeds 5 --out none
refuses 'wants --tuning-seeds' "$align" compare --algorithms ppo --tries ppo:rate=1e-4 --out none
refuses 'wants --tries' "$align" compare --algorithms ppo --tuning-seeds 9 --out none
refuses 'the nearest is `ppo`' "$align" compare --algorithms ppo --tries pp:rate=1e-4 --tuning-seeds 9 --out none
refuses 'the nearest is `ppo-rate`' "$align" compare --algorithms ppo --tries ppo:ratee=1e-4 --tuning-seeds 9 --out none
refuses 'there twice' "$align" compare --algorithms ppo --tries ppo:rate=1e-4,ppo:rate=1e-4 --tuning-seeds 9 --out none

# From a file, and over it.
cat >comparison.toml <<'TOML'
quick = true
iterations = 2
[compare]
algorithms = ["ppo", "low=ppo:kl=0.1"]
seeds = "3..4"
TOML
"$align" compare "${tiny[@]}" --config comparison.toml --seeds 3 --out filed >log 2>&1 || die "$(cat log)"
grep -q '^low,1,' filed/compare.csv || die "not what the file says: $(cat filed/compare.csv)"

# The comparisons that come with rlhf can be read: only the seeds given here are wrong.
sets=0
for file in "$sets_of"/*.toml; do
  mode=compare
  [[ $file != */values.toml ]] || mode=values
  refuses 'is not like 1..5' "$align" $mode --config "$file" --seeds none --out none
  # CLI11 2.1 reads an array over several lines only if its first element stands beside its name.
  ! grep -n '= \[$' "$file" || die "an array of $file begins on a line of its own"
  sets=$((sets + 1))
done
[[ $sets -ge 7 ]] || die "$sets comparisons in $sets_of"

# Names that are wrong.
refuses 'the nearest is `rto`' "$align" compare --algorithms ppo,rtoo --out none
refuses '`dpo:ppo-rate=1`: --ppo-rate has no effect on dpo' "$align" compare --algorithms ppo,dpo:ppo-rate=1 --out none
refuses '--rebel-eta has no effect on ppo, dpo; it is of rebel' "$align" compare --algorithms ppo,dpo --rebel-eta 2 --out none
refuses 'has no effect on dpo' "$align" compare --algorithms ppo,dpo --tries ppo:rate=1e-4,dpo:ppo-rate=1e-4 --tuning-seeds 9 --out none
refuses '--rebel-eta has no effect' "$align" values --rebel-eta 2 --out none
refuses 'the nearest is `rto-mode`' "$align" compare --algorithms rto:mod=semi --out none
refuses 'rto-mode' "$align" compare --algorithms rto:mode=sami --out none
refuses 'has no value' "$align" compare --algorithms rto:mode --out none
refuses 'not a setting of one algorithm' "$align" compare --algorithms rto:seed=3 --out none
refuses 'give them labels' "$align" compare --algorithms ppo,ppo --out none
for label in ../up shared guide-2 shared-2; do
  refuses 'cannot be the label' "$align" compare --algorithms $label=ppo --out none
done
refuses 'not a setting of one algorithm' "$align" compare --algorithms ppo:quick=true --out none
refuses 'single run' "$align" compare --algorithms ppo --anew --out none
refuses 'needs --model' "$align" compare --algorithms "own=ppo:pairs=$align" --out none
refuses 'no range' "$align" compare --algorithms ppo --seeds 5..1 --out none
refuses '1..5' "$align" compare --algorithms ppo --seeds one --out none
refuses 'the nearest is --seed' "$align" compare --algorithms ppo --sedd 1 --out none
refuses 'single run' "$align" compare --algorithms ppo --algorithm ppo --out none
refuses 'wants --algorithms' "$align" compare --out none
refuses 'give one' "$align" compare --algorithms ppo --out none whole
refuses 'finished' "$align" compare --plan --out none whole
printf '[compare]\nseds = "1"\n' >wrong.toml
refuses 'the nearest is `compare.seeds`' "$align" compare --config wrong.toml --algorithms ppo --out none
touch file
refuses "file/below" "$align" compare "${tiny[@]}" --algorithms ppo --seeds 1 --out file/below
[[ ! -e none ]] || die "a folder was made for a comparison that could not start"

# Values and gradients: rollouts are right on the mean, and more of them are nearer.
study=("${tiny[@]}" --prompts 32 --seeds 1..2 --rollouts 1,4,16 --truth 64 --states 24 --gradients 8 --responses 8 --out values)
plan_of values "${study[@]}"
adds_up
[[ $(left) == "ppo 2 2 values 2 2" && ! -e values ]] || die "the plan of the values: $(cat plan)"
"$align" values "${study[@]}" >log 2>&1 || die "$(cat log)"
plan_of values "${study[@]}"
adds_up
[[ $(left) == "values 2 2" ]] || die "the plan of values that are there: $(cat plan)"
[[ $(wc -l <values/values.csv) == 13 ]] || die "values.csv: $(cat values/values.csv)"
awk -F, '$2 == "\"K = 1\"" { one += $3; rough += $6 } $2 == "\"K = 16\"" { many += $3; smooth += $6 }
  END { if (!(many < 0.5 * one && smooth < rough)) { print one, many, rough, smooth; exit 1 } }' values/values.csv ||
  die "sixteen rollouts are no better than one: $(cat values/values.csv)"
refuses '--rollouts' "$align" values --rollouts 0 --out none
refuses 'wants true' "$align" values --ppo-reward learned --out none
refuses 'single run' "$align" values --anew --out none
# Settings that differ before all methods: whichever comes first, the same folders.
"$align" compare "${tiny[@]}" --algorithms plain=reward_model,ppo,more=ppo:judged=48 --seeds 1 --out order >log 2>&1 || die "$(cat log)"
[[ $(ls -d order/shared* | wc -l) == 2 ]] || die "$(ls order)"
"$align" compare "${tiny[@]}" --algorithms more=ppo:judged=48,ppo --seeds 1 --out order >log 2>&1 || die "$(cat log)"
[[ $(grep -c 'finished before' log) == 4 && $(ls -d order/shared* | wc -l) == 2 ]] || die "the order of the algorithms matters: $(cat log)"
# More digits than six are kept.
"$align" --dpo-beta 0.123456789 --print-config >settings
grep -q '^dpo-beta = 0.123456789 ' settings || die "a setting is printed with six digits: $(grep '^dpo-beta' settings)"
"$align" --dpo-beta 0.3 --dpo-rate 1e-5 --print-config >settings
[[ $(grep -c '^dpo-beta = 0.3 \|^dpo-rate = 1e-05 ' settings) == 2 ]] || die "0.3 is no longer 0.3: $(grep '^dpo-' settings)"
echo "comparisons: fine"
