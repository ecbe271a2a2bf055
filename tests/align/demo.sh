#!/usr/bin/env bash
# The main job in its quick form: demo.sh RLHF_ALIGN REPORT_CHECK WORK_FOLDER
set -euo pipefail
align=$1 check=$2 work=$3
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$work"

"$align" --quick --seed 1 --threads 1 --out "$work/one"
"$align" --quick --seed 1 --threads 2 --out "$work/two"
"$check" "$work/one" "$work/two"

refuses() {  # expected words, command...
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then
    echo "FAILED: accepted: $*" && exit 1
  fi
  grep -q "$words" <<<"$said" || { echo "FAILED: '$said' does not say '$words'" && exit 1; }
}
touch "$work/file"
refuses "cannot make the folder" "$align" --quick --out "$work/file/below"
refuses "female.txt" "$align" --quick --out "$work/none" --data "$work/nowhere"
refuses "threads" "$align" --quick --threads 0 --out "$work/none"
