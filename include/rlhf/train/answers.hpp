#pragma once
// What rewards and judges answer, refused where nothing can be learnt from it: a NaN would pass every comparison unseen.

#include <cmath>
#include <vector>

#include "rlhf/core/throw.hpp"
#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// The reward of each response, for `function`. Throws rlhf::error where one is not finite.
template <scores_responses Reward>
[[nodiscard]] std::vector<float> ask_rewards(const char* function, Reward& reward, const responses& batch) {
  std::vector<float> score(static_cast<std::size_t>(batch.size()));
  reward.rewards(batch, score);
  for (const float s : score)
    if (!std::isfinite(s))
      throw error(remark::argument(function, "a reward", static_cast<double>(s), "finite numbers"));
  return score;
}

/// The judge's probability that each response of `a` is better than that of `b`, for `function`. Throws rlhf::error where one
/// is no probability.
template <compares_responses Judge>
[[nodiscard]] std::vector<float> ask_preferences(const char* function, Judge& judge, const responses& a,
                                                 const responses& b) {
  std::vector<float> p(static_cast<std::size_t>(a.size()));
  judge.preferences(a, b, p);
  for (const float x : p)
    if (!(x >= 0 && x <= 1))
      throw error(remark::argument(function, "a preference", static_cast<double>(x), "a probability"));
  return p;
}

}  // namespace rlhf::inline v1
