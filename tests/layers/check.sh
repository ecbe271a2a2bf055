#!/usr/bin/env bash
# Who may include whom. Reads the #include and #define lines of every header; prints each breach; fails if there is one.
# usage: check.sh include-folder
set -euo pipefail
export LC_ALL=C
cd "$1/rlhf"

find . -name '*.hpp' -o -name '*.cuh' | sed 's|^\./||' | sort | awk '
BEGIN {
  # A layer sees itself and what stands on its line.
  formulas = "reward advantage objective formulation"
  sees["version"] = ""
  sees["core"] = "version"
  sees["math"] = "core"
  sees["reward"] = sees["advantage"] = sees["objective"] = sees["formulation"] = "core math"   # never one another
  sees["thread_pool"] = ""
  sees["concept"] = "core math"
  sees["backend"] = "core math concept thread_pool"                                             # never formulas or drivers
  sees["driver"] = "core math concept " formulas                                                # never a concrete backend
  sees["algorithm"] = sees["driver"] " driver"
  sees["policy"] = "core math"
  sees["communicator"] = "core math"
  sees["distributed"] = "core math communicator"
  sees["train"] = sees["algorithm"] " algorithm policy communicator"
  sees["interop"] = "core"                                  # never formulas, and no header of the library it speaks to
  sees["theory"] = "core math " formulas
  sees["umbrella"] = sees["algorithm"] " algorithm version"

  # Other libraries, by the headers that may name them; everything else has the standard library only.
  others["^backend/eigen"] = "^(Eigen/|immintrin\\.h$)"
  others["^backend/thrust"] = "^(thrust|cuda)/"
  others["^backend/(cuda|team)"] = "^(cub|thrust|cuda)/|^(cuda.*|cublas_v2)\\.h$"
  others["^theory/"] = "^Eigen/"
  others["^distributed/mpi"] = "^mpi\\.h$"
  others["^distributed/nccl"] = "^(nccl|cuda.*)\\.h$"
  heavy = "^(iostream|regex|format|ranges|functional)$"   # dear to include: only where programs, not kernels, are written
}
function layer(path) {
  if (path == "version.hpp") return "version"
  if (path == "rlhf.hpp") return "umbrella"
  if (path == "backend/thread_pool.hpp") return "thread_pool"
  if (path == "backend/concept.hpp") return "concept"
  if (path == "distributed/communicator.hpp") return "communicator"
  return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : path
}
function breach(line, why) {
  printf "include/rlhf/%s:%d: %s\n", path, line, why
  breaches++
}
function check(line, target, quoted,   to, pattern) {
  if (target ~ /^rlhf\//) {
    to = layer(substr(target, 6))
    if (to != from && index(" " sees[from] " ", " " to " ") == 0)
      breach(line, from " must not include " to " (" target ")")
  } else if (quoted) {
    breach(line, "\"" target "\": our headers are named from the include folder, \"rlhf/...\"")
  } else if (target !~ /^[a-z_]+$/) {                      # not a header of the C++ standard library
    for (pattern in others) if (path ~ pattern && target ~ others[pattern]) return
    breach(line, "<" target "> is not of the standard library")
  } else if (target ~ heavy && from !~ /^(train|theory|distributed)$/) {
    breach(line, "<" target "> is too dear for a header of " from)
  }
}
{
  path = $0
  from = layer(path)
  headers++
  if (!(from in sees)) breach(1, "the folder has no rule: add it to tests/layers/check.sh")
  for (n = 1; (getline text < path) > 0; n++) {
    if (text ~ /^[ \t]*#[ \t]*include[ \t]*[<"]/) {
      quoted = text ~ /^[^<]*"/
      sub(/^[^<"]*[<"]/, "", text)
      sub(/[>"].*/, "", text)
      check(n, text, quoted)
    } else if (text ~ /^[ \t]*#[ \t]*include/) {
      breach(n, "an include that cannot be read here")
    } else if (text ~ /^[ \t]*#[ \t]*define[ \t]/ && text !~ /define[ \t]+RLHF_[A-Z]/) {
      breach(n, "a macro that does not begin with RLHF_")
    }
  }
  close(path)
}
END {
  printf "%d headers, %d breaches\n", headers, breaches
  exit headers == 0 || breaches > 0
}'
