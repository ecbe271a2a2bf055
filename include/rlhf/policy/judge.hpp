#pragma once
// Who compares two responses: a judge made of scores.

#include <stdexcept>
#include <vector>

#include "rlhf/math/functions.hpp"
#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// Bradley-Terry's judge: \f$ P(a \succ b) = \sigma((r_a - r_b)/s) \f$, r the scores of a model or rule, s `scale`. It also
/// gives the scores themselves.
template <scores_responses Reward>
class bradley_terry_judge {
 public:
  explicit bradley_terry_judge(Reward& reward, double scale = 1) : reward_(&reward), scale_(scale) {
    if (!(scale > 0)) throw std::invalid_argument("bradley_terry_judge: scale wants more than 0");
  }
  void rewards(const responses& r, std::span<float> out) { reward_->rewards(r, out); }
  void preferences(const responses& a, const responses& b, std::span<float> out) {
    std::vector<float> of_a(static_cast<std::size_t>(a.size())), of_b(static_cast<std::size_t>(b.size()));
    if (of_a.size() != of_b.size() || out.size() != of_a.size())
      throw std::invalid_argument("bradley_terry_judge: preferences: the two sides and the output differ in size");
    reward_->rewards(a, of_a);
    reward_->rewards(b, of_b);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(sigmoid((static_cast<double>(of_a[i]) - static_cast<double>(of_b[i])) / scale_));
  }

 private:
  Reward* reward_;
  double scale_;
};
template <class R>
bradley_terry_judge(R&) -> bradley_terry_judge<R>;
template <class R>
bradley_terry_judge(R&, double) -> bradley_terry_judge<R>;

}  // namespace rlhf::inline v1
