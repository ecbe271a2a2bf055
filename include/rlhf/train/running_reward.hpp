#pragma once
// A reward on the scale that it has had so far, bounded: part of what "PPO-max" recommends.

#include "rlhf/policy/concepts.hpp"
#include "rlhf/reward/running_scale.hpp"

namespace rlhf::inline v1 {

/// The scores of a model or rule, brought to the running moments of all that it has given: see running_scale. Wherever a
/// reward is asked for, this will do; every call counts. `scale` is the state of the run. Owns nothing.
/// Source: Zheng et al. 2023, "Secrets of RLHF in Large Language Models I", arXiv 2307.04964, section 5; catalogue S-03.
template <scores_responses Reward>
class running_reward {
 public:
  running_scale scale{};

  explicit running_reward(Reward& reward, running_scale start = {}) : scale(start), reward_(&reward) {}
  void rewards(const responses& batch, std::span<float> out) {
    reward_->rewards(batch, out);
    for (const float s : out) scale.add(static_cast<double>(s));
    for (float& s : out) s = static_cast<float>(scale(static_cast<double>(s)));
  }

 private:
  Reward* reward_;
};
template <class R>
running_reward(R&) -> running_reward<R>;
template <class R>
running_reward(R&, running_scale) -> running_reward<R>;

}  // namespace rlhf::inline v1
