#!/usr/bin/env bash
# run.sh PROGRAM FOLDER: a fuzz target from its own seeds, with what it finds in FOLDER. A short fixed run; where RLHF_LONG
# is set, that many inputs.
set -euo pipefail

program=$1 folder=$2
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$folder"
mkdir "$folder/corpus"
if [[ -n ${RLHF_LONG:-} ]]; then limits=("-runs=$RLHF_LONG"); else limits=(-runs=20000 -max_total_time=10 -seed=1); fi
# Freed memory that the sanitizer holds back counts too.
export ASAN_OPTIONS=quarantine_size_mb=64:${ASAN_OPTIONS:-}
# What an input may ask for is bounded by its own size, so these are generous.
exec "$program" "${limits[@]}" -rss_limit_mb=512 -malloc_limit_mb=256 -timeout=20 -max_len=4096 -print_final_stats=1 \
  -verbosity=0 "-artifact_prefix=$folder/" "$folder/corpus"
