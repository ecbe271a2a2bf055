#!/usr/bin/env bash
# No function that both objects offer to the linker may hold AVX code, else the half without AVX could be given it.
# usage: symbols.sh nm objdump baseline.o avx2.o
set -euo pipefail
export LC_ALL=C
nm=$1 objdump=$2 baseline=$3 avx2=$4

weak() { "$nm" --defined-only "$1" | awk '$2 ~ /^[WVu]$/ { print $3 }' | sort -u; }
shared=$(comm -12 <(weak "$baseline") <(weak "$avx2") | grep -E '^_ZN[KVRO]*4rlhf' || true)

bad=0
while IFS= read -r symbol; do
  [[ -n $symbol ]] || continue
  if "$objdump" -d --no-show-raw-insn --section=".text.$symbol" "$avx2" 2>/dev/null |
    awk '$2 ~ /^v/ && /%[xyz]mm/ { found = 1 } END { exit !found }'; then
    echo "AVX code in a function that both units define: $(c++filt "$symbol" 2>/dev/null || echo "$symbol")"
    bad=$((bad + 1))
  fi
done <<<"$shared"
echo "$(grep -c . <<<"$shared" || true) functions of rlhf are defined by both units, $bad of them with AVX code"
[[ $bad -eq 0 ]]
