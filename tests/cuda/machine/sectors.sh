#!/usr/bin/env bash
# The benches' work on the machine: the same bits in two orders of blocks and threads, and no kernel moves much more of the memory's
# pieces of 32 bytes than it asked for. A pack that nvcc takes apart, or threads a sequence apart, would be 2 to 8 times.
# usage: sectors.sh test.cuda.bench
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
RLHF_MACHINE_REPORT=$work/walks "$1" --only tokens,sequences --divisor 64 --determinism --runs 2
RLHF_MACHINE_REPORT=$work/rows "$1" --only logits --divisor 64 --determinism --runs 1
awk -F'\t' '
  FNR == 1 { next }
  $10 > 1e6 && $12 > 1.3 * $10 { printf "reads %.2f times what it asks for: %s\n", $12 / $10, $NF; bad = 1 }
  $11 > 1e6 && $13 > 1.15 * $11 { printf "writes %.2f times what it has: %s\n", $13 / $11, $NF; bad = 1 }
  $10 > 1e6 || $11 > 1e6 { kernels++ }
  END { printf "%d kernels looked at\n", kernels; exit bad || kernels < 8 }' "$work/walks" "$work/rows"
