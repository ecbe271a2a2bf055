#!/usr/bin/env bash
# A run that is killed and goes on ends with the same bytes as one that is not: killed.sh RLHF_ALIGN WORK_FOLDER
# RLHF_LONG: 50 kills, else 5.
set -euo pipefail
align=$1 work=$2
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$work"

small=(--quick --sft-epochs 1 --reward-pairs 512 --preference-pairs 256 --iterations 2 --prompts 32 --judged 64 --frontier 128
  --save-every 7 --threads 1)
say() { printf '%s\n' "$*"; }
die() { say "FAILED: $*" && exit 1; }

start=$(date +%s%N)
"$align" "${small[@]}" --out "$work/whole" 2>"$work/log" || die "the run: $(cat "$work/log")"
took=$((($(date +%s%N) - start) / 1000000))
say "a run takes $took ms"

# All files but those that tell the time.
sums() { (cd "$1" && find . -type f ! -name timing.json ! -name report.html ! -name report.json ! -name summary.json -print0 | sort -z | xargs -0 sha256sum); }
sums "$work/whole" >"$work/wanted"
[[ $(wc -l <"$work/wanted") -ge 15 ]] || die "a run leaves fewer files than it should"
! grep -rqaF "$work" "$work/whole/checkpoints" || die "a checkpoint holds a path"

"$align" "${small[@]}" --resume --out "$work/fresh" 2>/dev/null >&2 || die "--resume does not begin where there is nothing"
sums "$work/fresh" | diff -q - "$work/wanted" >/dev/null || die "--resume in an empty folder makes another run"

kills=5
[[ -z ${RLHF_LONG:-} ]] || kills=50
RANDOM=$((10#$(date +%N) % 32768))
went_on=0
for ((k = 1; k <= kills; ++k)); do
  out=$work/killed
  rm -rf "$out"
  for times in 1 2; do
    "$align" "${small[@]}" --resume --out "$out" >/dev/null 2>&1 &
    child=$!
    sleep "$(printf '0.%03d' 0 | sed "s/.*/$(awk -v r=$RANDOM -v t="$took" 'BEGIN { printf "%.3f", r / 32768 * t / 1000 }')/")"
    kill -9 $child 2>/dev/null || true
    wait $child 2>/dev/null || true
  done
  [[ -z $(ls "$out/checkpoints" 2>/dev/null) ]] || went_on=$((went_on + 1))
  "$align" "${small[@]}" --resume --out "$out" >"$work/log" 2>&1 || die "kill $k: does not go on: $(cat "$work/log")"
  sums "$out" | diff - "$work/wanted" >"$work/difference" || die "kill $k: $(head -4 "$work/difference")"
done
say "$kills runs killed twice each, $went_on went on from a checkpoint: all equal byte for byte"
[[ $went_on -gt 0 ]] || die "no run was killed late enough to have a checkpoint"

refuses() {  # expected words, command...
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then die "accepted: $*"; fi
  grep -qF -- "$words" <<<"$said" || die "'$said' does not say '$words'"
}
# A run that was not finished is not thrown away by mistake, and does not go on with other settings.
cp -r "$work/whole" "$work/stopped"
rm -rf "$work/unfinished"
"$align" "${small[@]}" --iterations 40 --out "$work/unfinished" >/dev/null 2>&1 &
child=$!
for ((i = 0; i < 2400; ++i)); do  # a machine with other work may be slow
  [[ -z $(ls "$work/unfinished/checkpoints" 2>/dev/null | grep '\.safetensors$') ]] || break
  sleep 0.05
done
kill -9 $child 2>/dev/null || true
wait $child 2>/dev/null || true
refuses "--resume" "$align" "${small[@]}" --iterations 40 --out "$work/unfinished"
refuses "sft-rate" "$align" "${small[@]}" --iterations 40 --sft-rate 0.001 --resume --out "$work/unfinished"

# A checkpoint that was cut is an error, and stays.
newest=$(ls "$work/stopped/checkpoints" | tail -n 1)
truncate -s 1000 "$work/stopped/checkpoints/$newest"
before=$(sums "$work/stopped")
refuses "$newest" "$align" "${small[@]}" --resume --out "$work/stopped"
[[ $(sums "$work/stopped") == "$before" ]] || die "a refused run changed its folder"

# A folder that cannot be written to is refused before the work (root may write anywhere, but not below a file).
touch "$work/file"
refuses "$work/file" "$align" "${small[@]}" --out "$work/file/below"
if [[ $(id -u) != 0 ]]; then
  mkdir "$work/closed" && chmod 500 "$work/closed"
  refuses "$work/closed" "$align" "${small[@]}" --out "$work/closed"
fi

# A disk that is too small is refused before the work; what was there stays. It takes the right to mount one.
mkdir -p "$work/disk"
if unshare --mount --map-root-user true 2>/dev/null; then
  unshare --mount --map-root-user bash -c '
    mount -t tmpfs -o size=3m none "$1/disk" || exit 77
    echo kept >"$1/disk/precious"
    shift
    if said=$("$@" 2>&1); then echo "accepted a disk of 3 MiB"; exit 1; fi
    grep -q "are free" <<<"$said" || { echo "says: $said"; exit 1; }
    grep -q kept "${@: -1}/precious" && [[ $(ls "${@: -1}" | wc -l) == 1 ]]' bash "$work" "$align" "${small[@]}" --out "$work/disk" ||
    { [[ $? == 77 ]] || die "a small disk"; }
  # One that fills up in the middle: the newest checkpoint is whole, and with more room the run goes on to the same bytes.
  unshare --mount --map-root-user bash -c '
    work=$1 align=$2
    shift 2
    mount -t tmpfs -o size=14m none "$work/disk" || exit 77
    "$align" "$@" --save-every 20 --out "$work/disk" >/dev/null 2>&1 &
    child=$!
    while [[ -z $(ls "$work/disk/checkpoints" 2>/dev/null | grep safetensors) ]] && kill -0 $child; do sleep 0.01; done
    dd if=/dev/zero of="$work/disk/ballast" bs=64k 2>/dev/null || true
    if wait $child; then echo "ran to its end on a full disk"; exit 1; fi
    rm "$work/disk/ballast"
    "$align" "$@" --save-every 20 --resume --out "$work/disk" >/dev/null 2>"$work/log" || { cat "$work/log"; exit 1; }
    "$align" "$@" --save-every 20 --out "$work/room" >/dev/null 2>&1
    cmp "$work/disk/models/rto.safetensors" "$work/room/models/rto.safetensors"' bash "$work" "$align" "${small[@]}" ||
    { [[ $? == 77 ]] || die "a disk that fills up"; }
  say "small and full disks: refused before the work, or stopped with the newest checkpoint whole"
else
  say "no right to mount a small disk here: that part is left out"
fi
