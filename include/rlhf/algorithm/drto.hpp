#pragma once
// DRTO: RTO whose actor learns most from the parts of the responses that it does worst.
//
//   everything as RTO, but the policy's loss:
//     l_s  = mean of -min(ratio A, clip(ratio) A) over the tokens of unit s (a token, a span, a response)
//     loss = (1 - lambda) mean of l_s + lambda sup over weights near the mean's of sum w_s l_s
//
// Jin, Hu and Paschalidis 2026, "Distributionally Robust Token Optimization in RLHF", arXiv 2604.08577: ambiguity sets over
// span losses on top of RTO. Its exact set and radius are not known here; the sets offered are the classical ones of
// objective/robust.hpp. Catalogue spec-b-6.

#include <algorithm>
#include <vector>

#include "rlhf/algorithm/rto.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "rlhf/objective/robust.hpp"

namespace rlhf::inline v1 {

/// What is weighed as a whole.
enum class robust_unit { token, span, response };

/// DRTO; `Set` is one of kl_ball, chi_square_ball, conditional_value_at_risk, tilted_mean. The weights are constants of the
/// gradient (Danskin). With radius 0 it is RTO. On the host.
template <class Set = kl_ball>
struct basic_drto : basic_ppo<rto_reward> {
  Set set{};
  double robustness = 1;                 ///< lambda
  robust_unit unit = robust_unit::span;  ///< what a loss is of
  std::int64_t span = 8;                 ///< tokens of a span; the last one of a response may be shorter

  template <class B, class T = float>
    requires backend<B> && std::same_as<typename B::space, host_space>
  status policy(B& be, const layout<>& sequences, const token_inputs<T>& in, const token_outputs<T>& out) const {
    constexpr const char* name = "drto";
    if (span < 1) return remark::argument(name, "span", static_cast<double>(span), "1 or more");
    if (in.mask) return {errc::argument, name, "mask", "is given", 0, 0, "none: units are of all tokens"};
    const auto n = static_cast<std::size_t>(sequences.tokens);
    std::vector<T> loss(n), weight(n);
    if (auto s =
            policy_loss<ppo_clip, none, token_sum>{objective}(be, sequences, in, token_outputs<T>{.per_token = loss});
        !s)
      return s;
    const std::vector<std::int64_t> units = cut(sequences);
    const std::size_t count = units.size() - 1;
    std::vector<T> of_unit(count), length(count), share(count);
    for (std::size_t u = 0; u < count; ++u) {
      double sum = 0;
      for (auto t = units[u]; t < units[u + 1]; ++t) sum += static_cast<double>(loss[static_cast<std::size_t>(t)]);
      length[u] = static_cast<T>(units[u + 1] - units[u]);
      of_unit[u] = static_cast<T>(sum / static_cast<double>(length[u]));
    }
    if (auto s =
            robust_aggregate<Set>{set, robustness}(be, robust_inputs<T>{.loss = of_unit, .weight = length, .mask = {}},
                                                   robust_outputs<T>{.weight = share, .stats = out.stats});
        !s)
      return s;
    for (std::size_t u = 0; u < count; ++u)
      for (auto t = units[u]; t < units[u + 1]; ++t) weight[static_cast<std::size_t>(t)] = share[u] / length[u];
    if (in.weight) {
      const bool by_token = in.weight.extent == sequences.tokens;
      for (std::int64_t s = 0; s < sequences.sequences; ++s)
        for (std::int64_t t = sequences[s].begin; t < sequences[s].end; ++t)
          weight[static_cast<std::size_t>(t)] *= in.weight[by_token ? t : s];
    }
    token_inputs<T> weighed = in;
    weighed.weight = weight;
    return policy_loss<ppo_clip, none, token_sum>{objective}(be, sequences, weighed, out);
  }

 private:
  /// Where the units begin, and the end. Empty responses have none.
  [[nodiscard]] std::vector<std::int64_t> cut(const layout<>& sequences) const {
    std::vector<std::int64_t> begins;
    for (std::int64_t s = 0; s < sequences.sequences; ++s) {
      const segment range = sequences[s];
      const std::int64_t size = unit == robust_unit::token  ? 1
                                : unit == robust_unit::span ? span
                                                            : std::max(range.end - range.begin, std::int64_t{1});
      for (std::int64_t t = range.begin; t < range.end; t += size) begins.push_back(t);
    }
    begins.push_back(sequences.tokens);
    return begins;
  }
};
using drto = basic_drto<>;

}  // namespace rlhf::inline v1
