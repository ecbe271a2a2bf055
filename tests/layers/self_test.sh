#!/usr/bin/env bash
# The layer check finds what it is there to find: each line below is planted in a copy of the headers and must be reported.
# usage: self_test.sh include-folder
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

plant() {  # file, line, what the report must say
  rm -rf "$work/include"
  mkdir -p "$work/include/rlhf"
  cp -r "$source/rlhf/core" "$source/rlhf/math" "$work/include/rlhf/"
  mkdir -p "$(dirname "$work/include/rlhf/$1")"
  printf '%s\n' "$2" >>"$work/include/rlhf/$1"
  local report verdict=0
  report=$("$here/check.sh" "$work/include") || verdict=$?
  if [[ -n $3 && ($verdict -eq 0 || $report != *"include/rlhf/$1:"*"$3"*) ]]; then
    printf 'planted "%s" in %s: not reported as "%s" but as\n%s\n' "$2" "$1" "$3" "$report"
    failures=$((failures + 1))
  elif [[ -z $3 && $verdict -ne 0 ]]; then
    printf '"%s" in %s is allowed, yet the report is\n%s\n' "$2" "$1" "$report"
    failures=$((failures + 1))
  fi
}

source=$(cd "$1" && pwd)
plant core/view.hpp '#include "rlhf/math/dual.hpp"' 'core must not include math'
plant core/view.hpp '#  include <Eigen/Core>' '<Eigen/Core> is not of the standard library'
plant math/dual.hpp '#include <rlhf/objective/token.hpp>' 'math must not include objective'
plant math/dual.hpp '#include <iostream>' '<iostream> is too dear'
plant math/dual.hpp '#include "../core/view.hpp"' 'named from the include folder'
plant math/dual.hpp '#define MAX(a, b) 0' 'does not begin with RLHF_'
plant reward/x.hpp '#include <rlhf/advantage/gae.hpp>' 'reward must not include advantage'
plant backend/x.hpp '#include <rlhf/objective/token.hpp>' 'backend must not include objective'
plant backend/x.hpp '#include <rlhf/driver/policy_loss.hpp>' 'backend must not include driver'
plant backend/thread_pool.hpp '#include <rlhf/core/view.hpp>' 'thread_pool must not include core'
plant backend/concept.hpp '#include <rlhf/backend/eigen.hpp>' 'concept must not include backend'
plant backend/reference.hpp '#include <Eigen/Core>' '<Eigen/Core> is not of the standard library'
plant backend/eigen.hpp '#include <thrust/sort.h>' '<thrust/sort.h> is not of the standard library'
plant driver/x.hpp '#include <rlhf/backend/reference.hpp>' 'driver must not include backend'
plant driver/x.hpp '#include <rlhf/algorithm/dpo.hpp>' 'driver must not include algorithm'
plant algorithm/preset/x.hpp '#include <rlhf/backend/eigen.hpp>' 'algorithm must not include backend'
plant policy/x.hpp '#include <rlhf/driver/policy_loss.hpp>' 'policy must not include driver'
plant train/x.hpp '#include <rlhf/backend/eigen.hpp>' 'train must not include backend'
plant interop/torch.hpp '#include <torch/types.h>' '<torch/types.h> is not of the standard library'
plant interop/torch.hpp '#include <rlhf/driver/policy_loss.hpp>' 'interop must not include driver'
plant policy/x.hpp '#include <rlhf/interop/torch.hpp>' 'policy must not include interop'
plant train/x.hpp '#include <rlhf/interop/torch.hpp>' 'train must not include interop'
plant rlhf.hpp '#include <rlhf/backend/eigen.hpp>' 'umbrella must not include backend'
plant surprise/x.hpp '#include <vector>' 'the folder has no rule'
plant backend/eigen/lane.hpp '#include <Eigen/Core>' ''
plant backend/thrust.hpp '#include <thrust/sort.h>' ''
plant train/x.hpp '#include <functional>' ''
plant driver/x.hpp '#include <rlhf/backend/concept.hpp>' ''
plant interop/torch.hpp '#include <rlhf/core/view.hpp>' ''
plant train/x.hpp '#include "rlhf/algorithm/dpo.hpp"' ''

echo "$failures plants went wrong"
[[ $failures -eq 0 ]]
