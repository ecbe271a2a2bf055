#pragma once
// Reward modelling from preference pairs.

#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/reward/bradley_terry.hpp"

namespace rlhf::inline v1 {

/// The pairwise reward-model loss (Ouyang et al. 2022, arXiv 2203.02155, eq. 1): see bradley_terry for its options.
struct reward_model {
  bradley_terry objective{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const score_inputs<T, Space>& in, const score_outputs<T, Space>& out) const {
    return reward_loss<bradley_terry>{objective}(be, in, out);
  }
};

}  // namespace rlhf::inline v1
