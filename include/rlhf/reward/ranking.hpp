#pragma once
// Losses of a list of scores in the order in which someone ranked the responses, the best first.
//
// A list has no fixed number of variables, so these formulas state their slopes. They see a list as `size()`, `score(k)`,
// `slope(k, x)`, which takes the derivative in score k, and `work(k)`, a number of their own for each element; all in double.

#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Plackett-Luce: the best is chosen out of all, the next out of the rest, and so on:
/// \f$ \sum_{k=1}^{m}\bigl[\log\sum_{j\ge k}e^{s_j} - s_k\bigr] \f$, m = K - 1, or `top` where only the first were ranked.
/// Two responses: Bradley-Terry. A list of one: 0. Source: Plackett 1975; Luce 1959. Catalogue spec-b-9.
struct plackett_luce {
  std::int64_t top = 0;  ///< 0: all
  [[nodiscard]] constexpr status check() const {
    if (top < 0) return remark::argument("plackett_luce", "top", static_cast<double>(top), "0 (all) or more");
    return {};
  }
  template <class List>
  RLHF_HD RLHF_INLINE double operator()(const List& list) const {
    const std::int64_t n = list.size(), choices = top > 0 && top < n - 1 ? top : n - 1;
    double rest = -infinity;  // log of the summed weights from here to the end
    for (std::int64_t k = n - 1; k >= 0; --k) list.work(k) = rest = add_logs(list.score(k), rest);
    double loss = 0, chances = -infinity;  // log of the sum of e^-rest over the choices so far
    for (std::int64_t k = 0; k < n; ++k) {
      const double score = list.score(k);
      if (k < choices) {
        chances = add_logs(-list.work(k), chances);
        loss += list.work(k) - score;
      }
      const double log_probability = score + chances;  // summed over the choices that it was there for
      list.slope(k, k < choices ? rlhf::expm1(log_probability) : choices > 0 ? rlhf::exp(log_probability) : 0);
    }
    return loss;
  }

 private:
  [[nodiscard]] static RLHF_HD RLHF_INLINE double add_logs(double a, double b) {
    if (b == -infinity) return a;
    return rlhf::max(a, b) + rlhf::log1p(rlhf::exp(-rlhf::abs(a - b)));
  }
};

/// Every pair of the list once: \f$ \binom K2^{-1}\sum_{i<j}-\log\sigma(s_i - s_j) \f$. A list of one: 0.
/// Source: Ouyang et al. 2022, arXiv 2203.02155, eq. 1. Catalogue spec-b-9.
struct ranked_pairs {
  template <class List>
  RLHF_HD RLHF_INLINE double operator()(const List& list) const {
    const std::int64_t n = list.size();
    const double weight = n > 1 ? 2 / (static_cast<double>(n) * static_cast<double>(n - 1)) : 0;
    double loss = 0;
    for (std::int64_t k = 0; k < n; ++k) list.work(k) = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = i + 1; j < n; ++j) {
        const double gap = list.score(i) - list.score(j), wrong = sigmoid(-gap);
        loss += softplus(-gap);
        list.work(i) -= wrong;
        list.work(j) += wrong;
      }
      list.slope(i, list.work(i) * weight);
    }
    return loss * weight;
  }
};

}  // namespace rlhf::inline v1
