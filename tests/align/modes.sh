#!/usr/bin/env bash
# Everything that rlhf-align takes beside names, on small files: modes.sh RLHF_ALIGN ALIGN_INPUTS WORK_FOLDER
set -euo pipefail
align=$1 inputs=$2 work=$3
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$work"
cd "$work"
"$inputs" .

die() { printf 'FAILED: %s\n' "$*" && exit 1; }
runs() { "$@" >log 2>&1 || die "$*: $(cat log)"; }
differ() { [[ -s $1 && -s $2 ]] && ! cmp -s "$1" "$2"; }  # both are there
says() { grep -qF -- "$1" log || die "'$(cat log)' does not say '$1'"; }
refuses() {  # expected words, command...
  local words=$1
  shift
  if "$@" >log 2>&1; then die "accepted: $*"; fi
  says "$words"
}
small=(--quick --iterations 2 --prompts 8 --judged 16 --frontier 64 --preference-pairs 32 --new-tokens 8 --threads 2)
model=(--model model.bin --tokenizer tok.bin)

# A pretrained model and a lexicon: all algorithms, both regimes; the same from either form of the file.
runs "$align" "${model[@]}" --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --out stories
for method in best_of_n dpo rebel ppo rto dpo_hot ppo_proxy; do
  grep -q "\"method\": \"$method\"" stories/report.json || die "no $method in the report"
done
for part in 'Reward against KL' 'Too far' 'Samples, before and after' 'All settings' '</html>'; do
  grep -qF "$part" stories/report.html || die "the report has no '$part'"
done
runs "$align" --model model.safetensors --tokenizer tok.bin --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --threads 1 --out again
cmp stories/curves.csv again/curves.csv || die "the model in safetensors, or another number of threads, gives another run"
cmp stories/models/rto.safetensors again/models/rto.safetensors || die "another RTO policy"
# Gradients over several passes, activations and weights of 16 bits: nearly the same run.
rewards() { awk -F, 'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == "reward") at = i } /^dpo,/ { print $at }' "$1/curves.csv"; }
for way in "--pass-tokens 64" "--activations bfloat16" "--parameters bfloat16"; do
  runs "$align" "${model[@]}" --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --algorithm dpo --no-overoptimise $way --out near
  differ stories/models/dpo.safetensors near/models/dpo.safetensors || die "$way changes nothing"
  [[ $(grep -c '^dpo,' near/curves.csv) -eq $(grep -c '^dpo,' stories/curves.csv) ]] || die "$way makes another run"
  paste -d, <(rewards stories) <(rewards near) | awk -F, '{ d = $1 - $2; if (d * d > 0.01) exit 1 }' ||
    die "$way learns something else: $(grep -h '^dpo,' stories/curves.csv near/curves.csv)"
done
# Weights of 16 bits: what a checkpoint holds is all that a run goes on from, to the same bits, and only with weights of 16 bits.
weights=("${model[@]}" --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --algorithm ppo --no-overoptimise)
runs "$align" "${weights[@]}" --parameters bfloat16 --keep 100 --out rounded
differ rounded/models/ppo.safetensors stories/models/ppo.safetensors || die "--parameters bfloat16 changes nothing"
cp -r rounded stopped
(cd stopped && ls checkpoints/* | tail -n +2 | xargs rm models/ppo.safetensors)
refuses 'parameters=bfloat16' "$align" "${weights[@]}" --resume --out stopped
runs "$align" "${weights[@]}" --parameters bfloat16 --resume --out stopped
for left in models/ppo.safetensors curves.csv metrics.csv; do
  cmp rounded/$left stopped/$left || die "it goes on to another $left"
done
# What a run leaves is a model to begin with.
runs "$align" --model stories/models/dpo.safetensors --tokenizer tok.bin --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --algorithm rebel --no-overoptimise --out next
! grep -q '"method": "dpo' next/report.json || die "an algorithm nobody asked for"

# Pairs: a reward model and DPO, judged on what is held out or on a file.
runs "$align" "${model[@]}" --pairs pairs.jsonl "${small[@]}" --reward-epochs 20 --reward-rate 0.01 --out pairs
says "held-out pairs"
grep -q '"reward_accuracy": 1.0' pairs/summary.json || die "polite pairs are not learned: $(grep accuracy pairs/summary.json)"
for table in '"bag of words"' '"reward"' '"dpo"' '"longer_wins"' '"temperature"'; do grep -q "$table" pairs/summary.json || die "no $table"; done
grep -qF 'Held-out preferences' pairs/report.html || die "no table of held-out preferences"
gzip -k pairs.jsonl
runs "$align" "${model[@]}" --pairs pairs.jsonl.gz --eval-pairs one.jsonl "${small[@]}" --out evaluated
says "1 held out"
runs "$align" "${model[@]}" --pairs pairs.jsonl "${small[@]}" --algorithm reward_model --reward-loss votes --out voteless
says "have no votes"
runs "$align" "${model[@]}" --pairs long.jsonl "${small[@]}" --most-pairs 0 --out long
says "cut to the model's context of 48"
# Labels: outcomes and KTO.
runs "$align" "${model[@]}" --pairs singles.jsonl "${small[@]}" --reward-epochs 20 --reward-rate 0.01 --out singles
says "held-out labels"
grep -q '"method": "kto"' singles/report.json || die "no KTO"
grep -q '"reward_accuracy": 1.0' singles/summary.json || die "labels are not learned: $(grep accuracy singles/summary.json)"

# A pretrained model is fitted to what people prefer before anything else; the others start from there, and PPO need not forget it.
for ((i = 0; i < 40; ++i)); do
  printf '{"prompt": "say %s", "chosen": "good day %s", "rejected": "bad day %s"}\n' $i $((i % 3)) $((i % 5))
done >polite.jsonl
runs "$align" "${model[@]}" --pairs polite.jsonl "${small[@]}" --sft-epochs 30 --sft-rate 0.003 --algorithm sft,ppo --ppo-ptx 0.5 --out fitted
says "nats per token, before"
awk -F'[:,]' '/"sft_loss"/ { after = $2 } /"sft_loss_before"/ { before = $2 } END { exit !(after < before - 0.5) }' fitted/summary.json ||
  die "SFT learns nothing: $(grep sft_loss fitted/summary.json)"
grep -q '^ppo,1,loss/ptx_avg,' fitted/metrics.csv || die "no text is mixed in"
[[ -s fitted/models/sft.safetensors ]] || die "SFT leaves no model"
runs "$align" "${model[@]}" --pairs polite.jsonl "${small[@]}" --sft-epochs 30 --sft-rate 0.003 --algorithm sft,ppo --ppo-ptx 0.5 --resume --out fitted
runs "$align" "${model[@]}" --pairs polite.jsonl "${small[@]}" --algorithm sft --out fitted-alone
[[ $(ls fitted-alone/models/*.safetensors) == fitted-alone/models/sft.safetensors ]] || die "SFT alone leaves $(ls fitted-alone/models)"
refuses "wants 0" "$align" "${model[@]}" --pairs polite.jsonl "${small[@]}" --algorithm ppo --ppo-ptx 0.5 --out none
refuses "no text to learn from" "$align" "${model[@]}" --lexicon lexicon.txt "${small[@]}" --algorithm sft --out none

# Votes and margins of pairs come to the losses that ask for them; a length head comes and goes.
for ((i = 0; i < 60; ++i)); do
  printf '{"instruction": "say %s", "response1": "good day %s", "response2": "bad day %s", "annotator1": 1, "annotator2": 1, "annotator3": %s}\n' \
    $i $((i % 7)) $((i % 5)) $((i % 3))
done >votes.jsonl
losses=(bradley_terry agreement votes margin odin)
for loss in "${losses[@]}"; do
  runs "$align" "${model[@]}" --pairs votes.jsonl "${small[@]}" --algorithm reward_model --reward-loss $loss --out votes-$loss
done
[[ $(sha256sum votes-*/models/reward.safetensors | cut -d' ' -f1 | sort -u | wc -l) == ${#losses[@]} ]] || die "two losses make the same reward model"
[[ $(stat -c %s votes-odin/models/reward.safetensors) == $(stat -c %s votes-votes/models/reward.safetensors) ]] || die "ODIN leaves its length head"
runs "$align" compare "${model[@]}" --pairs votes.jsonl "${small[@]}" --seeds 1..2 --algorithms odin=reward_model:reward-loss=odin,reward_model --out losses
grep -qF '<td>odin</td>' losses/report.html && grep -qF '"method": "bag of words"' losses/comparison.json || die "the comparison does not say how pairs are ranked"

# Rows without a majority, every third one here, are ties: the two laws that know them learn from them, and go on to the same number;
# for all others they are not there.
for ((i = 0; i < 90; ++i)); do
  votes=$((i % 3 == 0 ? i % 2 : 1))
  printf '{"instruction": "say %s", "response1": "good day %s", "response2": "bad day %s", "annotator1": %s, "annotator2": %s, "annotator3": %s}\n' \
    $i $((i % 7)) $((i % 5)) $votes $((i % 3 == 0 ? 2 * (i % 2) : 1)) 0
done >tied.jsonl
sed -n '/"annotator1": 1, "annotator2": 1/p' tied.jsonl >decided.jsonl
[[ $(wc -l <decided.jsonl) == 60 ]] || die "no third of the rows is a tie"
by_ties=("${model[@]}" "${small[@]}" --algorithm reward_model --save-every 1 --keep 100)
for file in tied decided; do runs "$align" "${by_ties[@]}" --pairs $file.jsonl --out $file-plain; done
cmp tied-plain/models/reward.safetensors decided-plain/models/reward.safetensors || die "ties change what Bradley and Terry learn"
figure() { sed -n "s/^ *\"$2\": \([-0-9.e]*\),*$/\1/p" "$1/summary.json"; }
for loss in davidson:reward_log_nu rao_kupper:reward_log_theta; do
  number=${loss#*:} loss=${loss%:*}
  runs "$align" "${by_ties[@]}" --pairs tied.jsonl --reward-loss $loss --out tied-$loss
  ties=$(sed -n 's/^ties *\([0-9]*\) to learn from$/\1/p' log)
  pairs=$(sed -n 's/^pairs *\([0-9]*\) to learn from,.*/\1/p' log)
  says "$ties ties in $((pairs + ties)) pairs"
  grep -qF 'finds equally good tie' tied-$loss/report.html || die "the report does not say how common ties are"
  grep -q "^reward,1,tie,.*" tied-$loss/metrics.csv && grep -q "^reward,1,tie_share,0.[0-9]" tied-$loss/metrics.csv || die "no tie in the metrics"
  [[ $(figure tied-$loss reward_ties) == "$ties"* ]] || die "$loss: $(grep reward_ tied-$loss/summary.json)"
  # A third of the rows are ties, and so are equals.
  awk -v p="$(figure tied-$loss reward_tie_of_equals)" 'BEGIN { exit !(p > 0.25 && p < 0.45) }' || die "$loss: $(grep reward_ tied-$loss/summary.json)"
  [[ -n $(figure tied-$loss $number) ]] || die "no $number"
  cp -r tied-$loss stopped-$loss
  (cd stopped-$loss && ls checkpoints/* | tail -n +2 | xargs rm models/reward.safetensors)
  runs "$align" "${by_ties[@]}" --pairs tied.jsonl --reward-loss $loss --resume --out stopped-$loss
  for left in models/reward.safetensors metrics.csv; do cmp tied-$loss/$left stopped-$loss/$left || die "$loss goes on to another $left"; done
  [[ $(figure tied-$loss $number) == "$(figure stopped-$loss $number)" ]] || die "$loss goes on to another number"
done
runs "$align" "${by_ties[@]}" --pairs tied.jsonl --reward-loss davidson --most-pairs 10 --out few
says "pairs          10 to learn from"
grep -qE 'reward +[1-9] ties in 1[1-9] pairs' log || die "the ties between the first ten pairs do not come on top: $(cat log)"
runs "$align" "${by_ties[@]}" --pairs decided.jsonl --reward-loss davidson --out decided-davidson
says "none of these pairs is a tie"
differ decided-davidson/models/reward.safetensors tied-davidson/models/reward.safetensors || die "ties teach nothing"
sed 's/"annotator1": 1, "annotator2": 1/"annotator1": 0, "annotator2": 0/' tied.jsonl >only-ties.jsonl
refuses "both need some" "$align" "${by_ties[@]}" --pairs only-ties.jsonl --reward-loss davidson --out none

# Bad rows: where, why; counted on request.
refuses "bad.jsonl:61:" "$align" "${model[@]}" --pairs bad.jsonl "${small[@]}" --out bad
[[ ! -e bad ]] || die "a folder was made before the data were read"
runs "$align" "${model[@]}" --pairs bad.jsonl --skip-bad "${small[@]}" --out bad
says "1 rows skipped"
refuses "both need some" "$align" "${model[@]}" --pairs empty.jsonl "${small[@]}" --out none
refuses "dpo learns from those" "$align" "${model[@]}" --pairs pairs.jsonl --algorithm kto "${small[@]}" --out none
refuses "kto learns from those" "$align" "${model[@]}" --pairs singles.jsonl --algorithm dpo "${small[@]}" --out none

# Bad models: before anything starts.
lexicon=(--lexicon lexicon.txt "${small[@]}" --out none)
refuses "short.bin" "$align" --model short.bin --tokenizer tok.bin "${lexicon[@]}"
refuses "nan.bin" "$align" --model nan.bin --tokenizer tok.bin "${lexicon[@]}"
says "tok_embeddings"
refuses "tok.bin" "$align" --model other-vocabulary.bin --tokenizer tok.bin "${lexicon[@]}"
refuses "context of 48" "$align" "${model[@]}" --lexicon lexicon.txt --quick --prompt-tokens 30 --new-tokens 30 --out none
[[ ! -e none ]] || die "a folder was made for a run that could not start"

# Bad data and rewards.
printf 'good\tnan\n' >nan-lexicon.txt
refuses "nan-lexicon.txt:1" "$align" "${model[@]}" --lexicon nan-lexicon.txt "${small[@]}" --prompt-tokens 4 --out none
says "is no number"
: >no-lexicon.txt
refuses "no-lexicon.txt" "$align" "${model[@]}" --lexicon no-lexicon.txt "${small[@]}" --prompt-tokens 4 --out none
printf '{"prompt": "q", "chosen": "good", "rejected": "bad", "margin": 1e999}\n' >endless.jsonl
refuses "endless.jsonl:1" "$align" "${model[@]}" --pairs endless.jsonl "${small[@]}" --out none
mkdir names
: >names/female.txt
: >names/male.txt
refuses "hold no names" "$align" --data names --quick --out none
refuses "nobody" "$align" --data nobody --quick --out none
refuses "nobody.bin" "$align" --model nobody.bin --tokenizer tok.bin --lexicon lexicon.txt
[[ ! -e none ]] || die "a folder was made for a run that could not start"
touch file
refuses "file/below" "$align" "${model[@]}" --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --out file/below

# Rewards that are no numbers, and training that leaves them: the step, the metric and the newest good checkpoint, which is whole.
printf 'good\t1e300\nbad\t-1e300\nday\t1e300\n' >endless-lexicon.txt
refuses "wants a finite number" "$align" "${model[@]}" --lexicon endless-lexicon.txt "${small[@]}" --prompt-tokens 4 --out endless
printf 'good\t1e30\nbad\t-1e30\nday\t1e30\n' >large-lexicon.txt
for resume in "" --resume; do
  refuses "ppo: at step 1 loss/value_avg is inf" "$align" "${model[@]}" --lexicon large-lexicon.txt "${small[@]}" --prompt-tokens 4 \
    --prompts 128 --algorithm ppo --no-overoptimise $resume --out large
  good=$(sed -n 's/.*the last good checkpoint is //p' log)
  [[ -s $good ]] || die "there is no checkpoint '$good'"
done
for resume in "" --resume; do
  refuses "sft: at step" "$align" --quick --threads 2 --sft-rate 1e6 --save-every 2 --algorithm sft $resume --out wild
  grep -qE 'loss is -?(nan|inf)|grad_norm is -?(nan|inf)' log || die "'$(cat log)' does not name the metric"
  good=$(sed -n 's/.*the last good checkpoint is //p' log)
  [[ -s $good ]] || die "there is no checkpoint '$good'"
done

# Settings: a file, its printed form, the nearest name, contradictions.
runs "$align" "${model[@]}" --lexicon lexicon.txt --seed 7 --print-config
cp log config.toml
runs "$align" --config config.toml --print-config
cmp log config.toml || die "the printed settings are not what they were"
echo 'dpo-bata = 1' >wrong.toml
refuses 'the nearest is `dpo-beta`' "$align" --config wrong.toml
refuses "the nearest is --iterations" "$align" --iteratons 3
refuses "needs --model" "$align" --pairs pairs.jsonl
refuses "needs --tokenizer" "$align" --model model.bin
refuses "two rewards" "$align" "${model[@]}" --pairs pairs.jsonl --lexicon lexicon.txt
refuses "--anew" "$align" --resume --anew

# A plan promises numbers and writes nothing.
runs "$align" "${model[@]}" --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --plan --out planned
says "memory"
[[ ! -e planned ]] || die "a plan made a folder"
# A learned reward costs what its models take, one or several; the memory is what the run then holds.
for reward in learned=proxy worst_case=proxies; do
  by_proxy=("${model[@]}" --lexicon lexicon.txt "${small[@]}" --prompt-tokens 8 --new-tokens 32 --prompts 128 --ppo-minibatch 256
    --algorithm ppo --no-overoptimise --ppo-members 3 --reward-epochs 2 --batch 8 --ppo-reward "${reward%=*}")
  "$align" "${by_proxy[@]}" --plan --out planned >plan 2>log || die "$(cat log)"
  members=$([[ $reward == learned=* ]] && echo 1 || echo 3)
  awk -v stage="${reward#*=}" -v steps=$((members * 2 * 32 / 8)) '$1 == stage && $2 == steps { found = 1 } END { exit !found }' plan ||
    die "no ${reward#*=} of $members in the plan: $(cat plan)"
  grep -q '^ppo  *2 ' plan || die "no PPO in the plan: $(cat plan)"
  runs "$align" "${by_proxy[@]}" --anew --out by_proxy
  took=$(sed -n 's/^report: .* s, \([0-9]*\) MiB)$/\1/p' log)
  awk -v took="$took" '/^time/ { if ($5 < 0.8 * took || $5 > 1.2 * took) exit 1 }' plan || die "it took $took MiB: $(cat plan)"
done
[[ ! -e planned ]] || die "a plan made a folder"

# Runs joined.
runs "$align" "${model[@]}" --lexicon lexicon.txt "${small[@]}" --prompt-tokens 4 --seed 2 --out other
runs "$align" compare stories other --out joined
grep -q '^rto,2,' joined/compare.csv && grep -q 'Seeds 1, 2' joined/report.html || die "the comparison is not of two runs"
mkdir nothing
refuses "no finished run" "$align" compare stories nothing --out joined
refuses "is about" "$align" compare stories pairs --out joined
echo "all ways to run: fine"
