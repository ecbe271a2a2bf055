#pragma once
// A pair loss of a minibatch: given tokens or sums, in the order of the pairs or in expectation over both orders.

#include <vector>

#include "rlhf/core/statistics.hpp"
#include "rlhf/driver/preference_inputs.hpp"
#include "rlhf/policy/concepts.hpp"
#include "rlhf/train/joined.hpp"
#include "rlhf/train/pairs.hpp"

namespace rlhf::inline v1 {

namespace preference_train_detail {

/// Is a loss called with tokens? AOT and KTO on pairs take sums alone.
template <class Loss, class B>
concept takes_tokens = requires(B& be, const Loss& loss, const token_pair_inputs<float>& in,
                                const pair_outputs<float>& out) { or_throw(loss(be, in, out)); };

/// Does a loss weigh pairs by how concentrated the policy is?
template <class Loss>
inline constexpr bool weighs_by_concentration = requires { requires Loss::needs_log_square_sum; };

template <class Loss>
[[nodiscard]] constexpr bool has_nll(const Loss& loss) {
  if constexpr (requires { loss.nll.weight; })
    return loss.nll.weight != 0;
  else if constexpr (requires { loss.loss.nll.weight; })
    return loss.loss.nll.weight != 0;
  else
    return false;
}

/// What a loss reads; of one that does not say, the references and weights. Margins and rewards belong to the order of a
/// pair, and an NLL term to its chosen side: then there is no expectation over the order.
template <class Loss>
[[nodiscard]] constexpr reading read_by(const Loss& loss) {
  reading out{.fields = field::references};
  if constexpr (declares_reads<Loss>()) out.fields = needs_of(loss);
  if constexpr (requires { Loss::weighs_pairs; }) out.weight = Loss::weighs_pairs;
  out.probability = out.weight && (out.fields & (field::pair_margin | field::rewards)) == 0 && !has_nll(loss);
  return out;
}

/// Some pairs: their responses, what is known of them, and the policy's numbers of their tokens.
struct pair_minibatch {
  batch_detail::joined sides;  ///< chosen, then rejected
  std::vector<float> margin, probability, weight, reward[2], previous[2];
  std::vector<float> logp, log_square_sum;

  pair_minibatch(const preference_pairs& pairs, std::span<const std::int64_t> rows)
      : sides{join(pairs, rows), {}, {}, static_cast<std::int64_t>(rows.size())},
        margin(select(pairs.margin, rows)),
        probability(select(pairs.probability, rows)),
        weight(select(pairs.weight, rows)),
        reward{select(pairs.chosen_reward, rows), select(pairs.rejected_reward, rows)},
        previous{select(pairs.previous_chosen, rows), select(pairs.previous_rejected, rows)},
        logp(static_cast<std::size_t>(sides.batch.response_tokens())) {}
};

/// Asks the policy how concentrated it is where the loss wants to know.
template <class Policy, class Loss>
void concentration(Policy& policy, const Loss&, pair_minibatch& x) {
  if constexpr (weighs_by_concentration<Loss>) {
    static_assert(describes_concentration<Policy>,
                  "rlhf: WPO weighs pairs by how concentrated the policy is: give it log_square_sums");
    x.log_square_sum.resize(x.logp.size());
    policy.log_square_sums(x.sides.batch, x.log_square_sum);
  }
}

/// The loss with side `first` as the chosen one; its slopes are added to `gradient`.
template <class B, class Loss>
[[nodiscard]] double in_order(B& be, const Loss& loss, const pair_minibatch& x, int first,
                              const std::vector<float>& weight, std::vector<float>& gradient, statistics* stats) {
  const int k[] = {first, 1 - first};
  float value = 0;
  const auto know = [&](auto in) {
    in.chosen_reward = view_of(x.reward[k[0]]);
    in.rejected_reward = view_of(x.reward[k[1]]);
    in.previous_chosen = view_of(x.previous[k[0]]);
    in.previous_rejected = view_of(x.previous[k[1]]);
    in.margin = view_of(x.margin);
    in.weight = view_of(weight);
    return in;
  };
  if constexpr (takes_tokens<Loss, B>) {
    const std::vector<std::int64_t> offsets[] = {x.sides.offsets(k[0]), x.sides.offsets(k[1])};
    const auto side = [&](int s) {
      return response_tokens<float>{packed(offsets[s]),
                                    x.sides.part(x.logp, k[s]),
                                    x.sides.part(x.sides.ref_logp, k[s]),
                                    {},
                                    x.sides.part(x.log_square_sum, k[s])};
    };
    std::vector<float> slope(gradient.size());
    or_throw(loss(be, know(token_pair_inputs<float>{.chosen = side(0), .rejected = side(1)}),
                  pair_outputs<float>{.loss = {&value, 1},
                                      .grad_chosen = x.sides.part(slope, k[0]),
                                      .grad_rejected = x.sides.part(slope, k[1]),
                                      .stats = stats}));
    for (std::size_t t = 0; t < slope.size(); ++t) gradient[t] += slope[t];
  } else {
    std::vector<float> own[2], reference[2], length[2], slope[2];
    for (const int s : {0, 1}) {
      own[s] = x.sides.whole(x.logp, k[s]);
      if (!x.sides.ref_logp.empty()) reference[s] = x.sides.whole(x.sides.ref_logp, k[s]);
      for (std::int64_t i = k[s] * x.sides.pairs; i < (k[s] + 1) * x.sides.pairs; ++i)
        length[s].push_back(static_cast<float>(x.sides.batch.response(i).size()));
      slope[s].resize(own[s].size());
    }
    or_throw(loss(
        be,
        know(pair_inputs<float>{.chosen = own[0],
                                .rejected = own[1],
                                .ref_chosen = view_of(reference[0]),
                                .ref_rejected = view_of(reference[1]),
                                .chosen_length = length[0],
                                .rejected_length = length[1]}),
        pair_outputs<float>{.loss = {&value, 1}, .grad_chosen = slope[0], .grad_rejected = slope[1], .stats = stats}));
    for (const int s : {0, 1}) {
      const view<float> of_side = x.sides.part(gradient, k[s]);
      const std::vector<std::int64_t> offsets = x.sides.offsets(k[s]);
      for (std::size_t i = 0; i < slope[s].size(); ++i)
        for (std::int64_t t = offsets[i]; t < offsets[i + 1]; ++t) of_side[t] += slope[s][i];
    }
  }
  return static_cast<double>(value);
}

/// The loss of some pairs: where probabilities are known, the expected one over the order of each pair. The statistics are of
/// the pairs in their order.
template <class B, class Loss>
[[nodiscard]] double pair_loss_of(B& be, const Loss& loss, const pair_minibatch& x, std::vector<float>& gradient,
                                  statistics* stats) {
  gradient.assign(x.logp.size(), 0.0f);
  if (x.probability.empty()) return in_order(be, loss, x, 0, x.weight, gradient, stats);
  std::vector<float> as_is = x.probability, reversed(as_is.size());
  for (std::size_t i = 0; i < as_is.size(); ++i) {
    const float weight = x.weight.empty() ? 1.0f : x.weight[i];
    reversed[i] = (1 - as_is[i]) * weight;
    as_is[i] *= weight;
  }
  const double expected = in_order(be, loss, x, 0, as_is, gradient, stats);
  return expected + in_order(be, loss, x, 1, reversed, gradient, nullptr);
}

}  // namespace preference_train_detail

}  // namespace rlhf::inline v1
