#!/usr/bin/env bash
# rlhf-eval on wrong input: each case gets an error that names file, line and reason, the others are evaluated all the
# same, and a check fails.
# usage: errors.sh rlhf-eval folder-of-vectors
set -euo pipefail
export LC_ALL=C
eval=$1 folder=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
complain() { printf '%s\n' "$@"; failures=$((failures + 1)); }

good='{"id":"good","op":"whiten","objective":"std_plus","params":{},"inputs":{"x":[[1,2],[3,4]]},"expect":{"value":[[-1.341,-0.447],[0.447,1.341]]},"tolerance":1e-3}'

wrong() {  # case, code, what the message must say
  printf '%s\n' "$good" "$1" "$good" >"$work/cases.jsonl"
  local out verdict=0
  out=$("$eval" "$work/cases.jsonl") || verdict=$?
  [[ $verdict -eq 0 && $(wc -l <<<"$out") -eq 3 ]] || complain "three lines are wanted for $1, not (status $verdict)" "$out"
  [[ $(grep -c '"outputs"' <<<"$out") -eq 2 ]] || complain "the good cases around $1 are not evaluated:" "$out"
  local error
  error=$(sed -n 2p <<<"$out")
  [[ $error == *"\"error\":{\"code\":\"$2\",\"message\":\"$work/cases.jsonl:2: $3"* ]] ||
    complain "$1" "  gives  $error" "  wanted $2, $work/cases.jsonl:2: $3"

  verdict=0
  out=$("$eval" --check "$work/cases.jsonl" 2>"$work/words") || verdict=$?
  local counts
  counts=$(awk '$1 == "total" { print $2, $3, $4 }' <<<"$out")
  case $2 in
    unknown_op | unknown_objective)  # not built: skipped, and a failure where the list of these does not name it
      [[ $verdict -eq 0 && $counts == "2 0 1" ]] || complain "check of $1: status $verdict, $counts"
      printf '# nothing\n' >"$work/not-built.txt"
      if "$eval" --check --not-built "$work/not-built.txt" "$work/cases.jsonl" >/dev/null 2>"$work/words"; then
        complain "check of $1 passes with a list that does not name it"
      fi
      grep -q 'is not built, and' "$work/words" || complain "no word about the list for $1" ;;
    *)
      [[ $verdict -eq 1 && $counts == "2 1 0" ]] || complain "check of $1: status $verdict, $counts"
      grep -q "cases.jsonl:2: " "$work/words" || complain "the check of $1 does not name the line" ;;
  esac
}

wrong '{"id":"x","op":' json 'not JSON at byte'
wrong 'nonsense' json 'not JSON at byte'
wrong '[1,2]' case 'the line is [1,2], wants an object'
wrong '{"op":"whiten","objective":"std_plus","inputs":{}}' case 'the case has no \"id\"'
wrong '{"id":"x","op":"whiten","objective":"std_plus"}' case 'the case has no \"inputs\"'
wrong '{"id":"x","op":"whiten","objective":7,"inputs":{}}' case '\"objective\" is 7, wants a string'
wrong '{"id":"x","op":"whitten","objective":"std_plus","inputs":{}}' unknown_op 'op \"whitten\" is unknown (nearest known: whiten)'
wrong '{"id":"x","op":"whiten","objective":"std_pluss","inputs":{}}' unknown_objective \
  'objective \"std_pluss\" of whiten is unknown (nearest known: std_plus)'

whiten='{"id":"x","op":"whiten","objective":"std_plus",'
wrong "$whiten\"params\":{\"shift_maen\":true},\"inputs\":{\"x\":[[1,2]]}}" unknown_param \
  'params.shift_maen is unknown (nearest known: shift_mean)'
wrong "$whiten\"params\":{\"shift_mean\":1},\"inputs\":{\"x\":[[1,2]]}}" argument 'params.shift_mean is 1, wants true or false'
wrong "$whiten\"params\":{},\"inputs\":{}}" missing_input 'inputs.x is missing'
wrong "$whiten\"params\":{},\"inputs\":{\"x\":[[1,2]],\"maks\":[[1,1]]}}" unknown_input 'inputs.maks is unknown (nearest known: mask)'
wrong "$whiten\"params\":{},\"inputs\":{\"x\":[1,2]}}" shape 'inputs.x is [2], wants [B][T]'
wrong "$whiten\"params\":{},\"inputs\":{\"x\":[[1,2],[3,4]],\"mask\":[[1,1]]}}" shape 'inputs.mask is [1][2], wants [B][T] = [2][2]'
wrong "$whiten\"params\":{},\"inputs\":{\"x\":[[1,2],[3]]}}" shape 'inputs.x[1] has 1 elements, wants 2 as inputs.x[0]'
wrong "$whiten\"params\":{},\"inputs\":{\"x\":[[1,\"two\"]]}}" shape 'inputs.x[0][1] is \"two\", wants a number'

ppo='{"id":"x","op":"policy_loss","objective":"ppo_clip",'
arrays='"inputs":{"logp":[[-1,-2]],"old_logp":[[-1,-2]],"advantage":[1]}}'
wrong "$ppo\"params\":{\"clip_hihg\":0.2},$arrays" unknown_param 'params.clip_hihg is unknown (nearest known: clip_high)'
wrong "$ppo\"params\":{\"kl\":{\"estimater\":\"k3\"}},$arrays" unknown_param 'params.kl.estimater is unknown (nearest known: kl.estimator)'
wrong "$ppo\"params\":{\"level\":\"tokn\"},$arrays" argument 'params.level is \"tokn\", wants one of token, sequence'
wrong "$ppo\"params\":{\"clip_low\":\"wide\"},$arrays" argument 'params.clip_low is \"wide\", wants a number'
wrong "$ppo\"params\":{\"clip_low\":2},$arrays" argument 'ppo_clip: low is 2, wants 0 <= low <= 1'
wrong "$ppo\"params\":{\"level\":\"sequence\",\"clip_low\":2},$arrays" argument 'ppo_clip: low is 2, wants 0 <= low <= 1'
wrong "$ppo\"params\":{\"aggregation\":{\"mode\":\"dr_grpo\"}},$arrays" argument 'params.aggregation.max_completion_length is missing'
wrong "$ppo\"params\":{\"kl\":{\"estimator\":\"k3\"}},$arrays" null 'policy_loss: ref_logp is null'

logits='"inputs":{"logits":[[1,2]],"target":[0.5]}}'
wrong "{\"id\":\"x\",\"op\":\"token_logp\",\"objective\":\"token_logp\",$logits" argument 'inputs.target holds 0.5'
wrong "{\"id\":\"x\",\"op\":\"token_logp\",\"objective\":\"token_logp\",${logits/0.5/7}" index \
  'token_logp: target outside the vocabulary in rows: 1'
pairs='"inputs":{"chosen_logp":[-1],"rejected_logp":[-2],"ref_chosen_logp":[[-1]],"ref_rejected_logp":[-2]}}'
wrong "{\"id\":\"x\",\"op\":\"preference_loss\",\"objective\":\"sigmoid\",$pairs" shape \
  'inputs.ref_chosen_logp is [1][1], wants [P] as inputs.chosen_logp'

# No file, no backend, no expectation.
if "$eval" "$work/no-such-file" 2>"$work/words"; then complain "a missing file is no failure"; fi
grep -q 'cannot read' "$work/words" || complain "a missing file is not named"
if "$eval" --backend abacus "$work/cases.jsonl" >/dev/null 2>&1; then complain "an unknown backend is accepted"; fi
if sed 's/,"expect".*/}/' <<<"$good" | "$eval" --check >/dev/null 2>"$work/words"; then
  complain "a check without expectation passes"
fi
grep -q '(standard input):1: good: the case has no "expect" to check' "$work/words" || complain "$(cat "$work/words")"

# A list of what is not built that names too much.
printf 'whiten/std_plus\n' >"$work/not-built.txt"
if "$eval" --check --not-built "$work/not-built.txt" <<<"$good" >/dev/null 2>"$work/words"; then
  complain "a stale list passes"
fi
grep -q 'no case of it was skipped' "$work/words" || complain "$(cat "$work/words")"

# Without expectations the same is computed, and non-finite numbers are strings.
full=$(head -1 "$folder/policy_loss.jsonl" | "$eval")
bare=$(head -1 "$folder/policy_loss.jsonl" | sed 's/"expect":.*$/"tolerance":1}/' | "$eval")
[[ -n $full && $full == "$bare" ]] || complain "a case without expectations gives other numbers:" "$full" "$bare"
[[ $("$eval" <<<'{"id":"i","op":"aggregate","objective":"token-sum","inputs":{"per_token":[["inf",1]]}}') == \
   '{"id":"i","outputs":{"loss":"inf"},"grad":{"per_token":[[1.0,1.0]]}}' ]] || complain "infinity is not written as a string"

echo "$failures things went wrong"
exit $((failures > 0))
