#pragma once
// A reward model whose margins have a ceiling.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// How far apart the scores of two responses may be that are similar to the degree s in [0, 1]: \f$ b_1/(s+b_2) + b_3 \f$.
/// Source: Zhou et al. 2024 (PCRM), arXiv 2404.00978. Catalogue spec-b-4.
struct similarity_cap {
  double scale = 6;       ///< b_1
  double offset = 0.001;  ///< b_2
  double shift = 0;       ///< b_3: a negative one may make the cap negative, which turns the pair around
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& similarity) const {
    return constant<V>(scale) / (similarity + constant<V>(offset)) + constant<V>(shift);
  }
};

/// PCRM: \f$ -\log\sigma(\Delta) - \log\sigma(\delta^* - \Delta) \f$, \f$ \Delta = r_c - r_r \f$, the field `margin` being the cap
/// delta*, or with `from_similarity` the similarity that `cap` makes it from. Convex, symmetric about its minimum at delta*/2;
/// Bradley-Terry as the cap grows. Of scores of tokens as well: train_token_rewards.
/// Source: Zhou et al. 2024, arXiv 2404.00978, and its program for b_1, b_2, b_3 (20, 0.001, -15 in its runs). Catalogue spec-b-4.
struct prior_constrained {
  bool from_similarity = false;  ///< the field margin is a similarity
  similarity_cap cap{};          ///< what makes the cap from it
  static constexpr unsigned reads = field::score_margin;

  [[nodiscard]] constexpr status check() const {
    if (!(cap.scale >= 0)) return remark::argument("prior_constrained", "cap.scale", cap.scale, "0 or more");
    if (!(cap.offset >= 0)) return remark::argument("prior_constrained", "cap.offset", cap.offset, "0 or more");
    if (!(cap.shift > -infinity && cap.shift < infinity))
      return remark::argument("prior_constrained", "cap.shift", cap.shift, "a finite number");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const score_pair<V>& p) const {
    const V gap = p.chosen - p.rejected;
    return softplus(-gap) + softplus(gap - ceiling(p));
  }

  static constexpr int statistics_count = 2;
  static constexpr const char* statistics_names[] = {"cap", "over_cap"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const score_pair<V>& p, V (&out)[2]) const {
    out[0] = ceiling(p);
    out[1] = select(p.chosen - p.rejected > out[0], constant<V>(1), constant<V>(0));
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE value_t<V> ceiling(const score_pair<V>& p) const {
    return from_similarity ? cap(p.margin) : p.margin;
  }
};

}  // namespace rlhf::inline v1
