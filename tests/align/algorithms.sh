#!/usr/bin/env bash
# Every algorithm by name on the names model: it raises the reward, and goes on to the same bits after being killed.
#   algorithms.sh RLHF_ALIGN WORK_FOLDER
set -euo pipefail
align=$1 work=$2
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$work"
die() { printf 'FAILED: %s\n' "$*" && exit 1; }

"$align" --list >"$work/list"
mapfile -t all < <(awk '/^--sampler/ { exit } /^[a-z]/ { print $1 }' "$work/list")
[[ ${#all[@]} -ge 31 ]] || die "--list names ${#all[@]} algorithms: ${all[*]}"
mapfile -t samplers < <(awk '/^--reward-loss/ { exit } on && /^[a-z]/ { print $1 } /^--sampler/ { on = 1 }' "$work/list")
mapfile -t losses < <(awk 'on && /^[a-z]/ { print $1 } /^--reward-loss/ { on = 1 }' "$work/list")
[[ ${#samplers[@]} == 5 && ${#losses[@]} -ge 5 ]] || die "--list names samplers ${samplers[*]} and losses ${losses[*]}"
names=$(IFS=, && printf %s "${all[*]}")
small=(--quick --threads 2 --judged 256 --frontier 256 --preference-pairs 2048)

# Gains in standard deviations of the start's reward. What takes no derivative needs more than this: it only has to run.
"$align" "${small[@]}" --iterations 5 --algorithm "$names" --out "$work/whole" >"$work/log" 2>&1 || die "$(cat "$work/log")"
read -r took_seconds took_memory < <(sed -n 's/^report: .* (\([0-9]*\) s, \([0-9]*\) MiB)$/\1 \2/p' "$work/log")
deviation=$(sed -n 's/.*"reward_deviation": \([0-9.]*\).*/\1/p' "$work/whole/summary.json")
awk -F, -v deviation="$deviation" '
  NR > 1 { if (!($1 in before)) before[$1] = $4; after[$1] = $4; kl[$1] = $5; points[$1]++ }
  END {
    for (m in after) printf "%-20s gain %5.2f deviations at %5.2f nats\n", m, (after[m] - before[m]) / deviation, kl[m]
    for (m in after)
      if (m != "best_of_n" && m != "zpg" && m != "zbcpg" && after[m] - before[m] < 0.3 * deviation) bad = bad " " m
    if (bad) { print "FAILED: no gain by" bad; exit 1 }
  }' "$work/whole/curves.csv" | sort
for method in "${all[@]}"; do
  [[ $method == sft || $method == reward_model ]] || grep -q "^$method,1,5," "$work/whole/curves.csv" || die "$method has no curve to its end"
  grep -qF "$method" "$work/whole/metrics.csv" || [[ $method == reward_model ]] || die "$method has no metrics"
done

# With weights that passes and samplers read as bfloat16: updates that bfloat16 would lose still add up.
"$align" "${small[@]}" --iterations 5 --algorithm dpo,ppo,grpo --parameters bfloat16 --out "$work/rounded" >"$work/log" 2>&1 || die "$(cat "$work/log")"
awk -F, -v deviation="$deviation" '
  NR > 1 && $1 != "best_of_n" { if (!($1 in before)) before[$1] = $4; after[$1] = $4 }
  END {
    for (m in after) { ++methods; printf "%-20s gain %5.2f deviations in bfloat16\n", m, (after[m] - before[m]) / deviation }
    for (m in after) if (after[m] - before[m] < 0.3 * deviation) { print "FAILED: no gain by " m " in bfloat16"; exit 1 }
    if (methods != 3) { print "FAILED: " methods " methods in bfloat16"; exit 1 }
  }' "$work/rounded/curves.csv" | sort

# Killed again and again, the times between growing, until one gets to the end.
tiny=(--quick --threads 2 --iterations 2 --prompts 16 --judged 32 --frontier 64 --preference-pairs 128 --sft-epochs 1
  --reward-pairs 512)
minibatch=(--ppo-minibatch 16)
"$align" "${tiny[@]}" "${minibatch[@]}" --algorithm "$names" --out "$work/straight" >"$work/log" 2>&1 || die "$(cat "$work/log")"
milliseconds=150
kills=0
until [[ $kills == 200 ]]; do
  "$align" "${tiny[@]}" "${minibatch[@]}" --algorithm "$names" --resume --out "$work/killed" >"$work/log" 2>&1 &
  child=$!
  sleep "$(awk -v t=$milliseconds 'BEGIN { printf "%.3f", t / 1000 }')"
  if ! kill -9 $child 2>/dev/null; then
    wait $child || die "$(cat "$work/log")"
    break
  fi
  wait $child 2>/dev/null || true
  kills=$((kills + 1)) milliseconds=$((milliseconds + milliseconds / 12))
done
[[ $kills -ge 3 ]] || die "a run was over before it could be killed"
sums() { (cd "$1" && find . -type f ! -name timing.json ! -name report.html ! -name report.json ! -name summary.json -print0 | sort -z | xargs -0 sha256sum); }
diff <(sums "$work/straight") <(sums "$work/killed") >"$work/difference" || die "killed $kills times: $(head -4 "$work/difference")"
printf 'killed %s times: equal byte for byte\n' "$kills"

# Stages alone, samplers and losses by name.
"$align" "${tiny[@]}" --algorithm sft,reward_model --out "$work/stages" >"$work/log" 2>&1 || die "$(cat "$work/log")"
[[ $(ls "$work/stages/models") == $'config.json\nreward.safetensors\nsft.safetensors' ]] || die "stages leave $(ls "$work/stages/models")"
grep -qF '</html>' "$work/stages/report.html" || die "stages have no report"
for sampler in "${samplers[@]}"; do
  "$align" "${tiny[@]}" --algorithm online_dpo --sampler "$sampler" --out "$work/sampler-$sampler" >"$work/log" 2>&1 || die "$(cat "$work/log")"
done
[[ $(cat "$work"/sampler-*/curves.csv | grep '^online_dpo,1,2,' | sort -u | wc -l) == 5 ]] || die "two samplers give the same run"
for loss in "${losses[@]}"; do
  # With ODIN's own weights of 1 the heads part first and learn later than this ends.
  "$align" "${small[@]}" --odin-weight 0.1 --sft-epochs 1 --reward-pairs 4096 --algorithm reward_model --reward-loss "$loss" --out "$work/loss-$loss" >"$work/log" 2>&1 ||
    die "$(cat "$work/log")"
  sed -n "s/.*\"reward_accuracy\": \\(0\\.[0-9]\\{3\\}\\).*/$loss right on \\1/p" "$work/loss-$loss/summary.json"
  grep -q '"reward_accuracy": 0\.[89]' "$work/loss-$loss/summary.json" || die "a reward model learned by $loss: $(cat "$work/log")"
done

# What an option changes is another run.
variants=(drto:--drto-unit=token drto:--drto-unit=span drto:--drto-unit=response dvpo:--dvpo-labels=pairs dvpo:--dvpo-labels=scores)
for variant in "${variants[@]}"; do
  "$align" "${tiny[@]}" --algorithm "${variant%%:*}" "${variant#*:}" --out "$work/variant-${variant#*=}" >"$work/log" 2>&1 || die "$(cat "$work/log")"
done
[[ $(cat "$work"/variant-*/curves.csv | grep -E '^(drto|dvpo),1,2,' | sort -u | wc -l) == ${#variants[@]} ]] || die "an option changes nothing"

# PPO-max with text that it must not forget, killed after its first iteration: the running scale of its scores goes on too.
scaled=("${tiny[@]}" "${minibatch[@]}" --iterations 6 --algorithm ppo --ppo-recipe max --ppo-ptx 0.5 --stop-kl 0.05)
"$align" "${scaled[@]}" --out "$work/max" >"$work/log" 2>&1 || die "$(cat "$work/log")"
grep -q '^ppo,2,loss/ptx_avg,' "$work/max/metrics.csv" || die "no text is mixed in"
! grep -q '^ppo,1,loss/policy_avg,' "$work/max/metrics.csv" || die "the critic is not first"
"$align" "${scaled[@]}" --out "$work/max-killed" >"$work/log" 2>&1 &
child=$!
for ((i = 0; i < 3000; ++i)); do
  ! grep -qaE '"stage": ?"ppo"' "$work"/max-killed/checkpoints/*.safetensors 2>/dev/null || break
  sleep 0.01
done
kill -9 $child 2>/dev/null || die "PPO-max was over before it could be killed: $(cat "$work/log")"
wait $child 2>/dev/null || true
grep -qaE '"critic.numbers": ?"0x' "$work"/max-killed/checkpoints/*.safetensors || die "no checkpoint holds the running scale"
"$align" "${scaled[@]}" --resume --out "$work/max-killed" >"$work/log" 2>&1 || die "$(cat "$work/log")"
diff <(sums "$work/max") <(sums "$work/max-killed") >"$work/difference" || die "PPO-max killed: $(head -4 "$work/difference")"

# A method that goes too far ends there, and says so.
far=("${tiny[@]}" --iterations 4 --rebel-rate 0.02 --dpo-rate 0.02 --dpo-batch 16 --algorithm dpo,rebel --most-kl 0.5)
"$align" "${far[@]}" --out "$work/far" >"$work/log" 2>&1 || die "$(cat "$work/log")"
for method in dpo rebel; do
  grep -q "\"${method}_ended_after\": [123]" "$work/far/summary.json" || die "$method went on: $(grep "^$method," "$work/far/curves.csv")"
  ! grep -q "^$method,1,4," "$work/far/curves.csv" || die "$method went to its end"
done
grep -q 'ended early, after evaluation' "$work/far/report.html" && grep -q 'more than --most-kl' "$work/log" || die "nobody says why it ended"

refuses() {  # expected words, command...
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then die "accepted: $*"; fi
  grep -qF -- "$words" <<<"$said" || die "'$said' does not say '$words'"
}
# An option that nothing here reads is a mistake.
refuses "it is of ppo" "$align" --algorithm rto --ppo-reward learned --out "$work/none"
refuses "--temperature has no effect on dpo, kto" "$align" --algorithm dpo,kto --temperature 0.7 --out "$work/none"
refuses "--sampler has no effect" "$align" --sampler pilaf --out "$work/none"
"$align" --sampler pilaf --algorithm online_dpo --print-config >"$work/config.toml"
"$align" --config "$work/config.toml" --algorithm ppo --print-config >"$work/log" || die "settings in a file may be of others: $(cat "$work/log")"
refuses "--sampler" "$align" --sampler nobody --out "$work/none"
refuses "--reward-loss" "$align" --reward-loss none --out "$work/none"
refuses "--ppo-recipe" "$align" --ppo-recipe best --out "$work/none"
refuses "--most-kl" "$align" --most-kl=-1 --out "$work/none"
# What the first run here took is what the plan says: memory always, time where the machine has nothing else to do.
"$align" "${small[@]}" --iterations 5 --algorithm "$names" --plan --out "$work/none" >"$work/plan" 2>"$work/log" || die "$(cat "$work/log")"
awk -v took="$took_memory" '/^time/ { if ($5 < 0.8 * took || $5 > 1.2 * took) exit 1 }' "$work/plan" || die "it took $took_memory MiB: $(cat "$work/plan")"
if [[ -n ${RLHF_LONG:-} ]]; then
  # Methods of some tenths of a second: what each takes to begin counts as well, which a rehearsal has in every iteration.
  awk -v took="$took_seconds" -v slack="$(awk "BEGIN { print 0.2 * $took_seconds + 0.1 * ${#all[@]} }")" \
    '/^time/ { if ($2 < took - slack || $2 > took + slack) exit 1 }' "$work/plan" || die "it took $took_seconds s: $(cat "$work/plan")"
fi
for method in "${all[@]}"; do
  [[ $method == sft || $method == reward_model ]] || grep -q "^$method " "$work/plan" || die "no line for $method in the plan: $(cat "$work/plan")"
done
echo "all algorithms: fine"
