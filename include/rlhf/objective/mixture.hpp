#pragma once
// A weighted sum of objectives of the same item kind.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// An objective and its weight in a mixture.
template <class Objective>
struct weighted {
  Objective objective{};
  double weight = 1;  ///< factor of the loss

  [[nodiscard]] constexpr status check() const {
    if (!(weight > -infinity && weight < infinity))
      return remark::argument("weighted", "weight", weight, "a finite number");
    return check_of(objective);
  }
};
template <class O>
weighted(O, double) -> weighted<O>;

/// \f$ \sum_k w_k L_k \f$: mixture{weighted{dpo_sigmoid{}, 0.8}, weighted{bco_pair{}, 0.2}}. MPO is the sigmoid, BCO on
/// pairs and the NLL term (preference_loss has that one); DPO with BCO at weight gamma is 1 / (1 + gamma) and
/// gamma / (1 + gamma). Implicit rewards are those of the first. Source: Wang et al. 2024 (MPO), arXiv 2411.10442; catalogue
/// P-22, P-27.
template <class... Objectives>
struct mixture;

template <class Objective>
struct mixture<Objective> {
  weighted<Objective> first{};

  static constexpr unsigned reads = reads_of<Objective>();
  static constexpr int partials = most_partials_of<Objective>();
  [[nodiscard]] constexpr unsigned needs() const { return needs_of(first.objective); }
  [[nodiscard]] constexpr status check() const { return first.check(); }
  template <class Item>
  RLHF_HD RLHF_INLINE auto operator()(const Item& item) const {
    const auto loss = first.objective(item);
    return loss * constant<std::remove_cvref_t<decltype(loss)>>(first.weight);
  }
  [[nodiscard]] RLHF_HD constexpr double reward_scale() const {
    if constexpr (requires { first.objective.reward_scale(); })
      return first.objective.reward_scale();
    else if constexpr (requires { first.objective.beta; })
      return first.objective.beta;
    else
      return 1;
  }
};

template <class Objective, class... More>
  requires(sizeof...(More) > 0)
struct mixture<Objective, More...> {
  mixture<Objective> first{};
  mixture<More...> others{};

  constexpr mixture() = default;
  constexpr mixture(const weighted<Objective>& one, const weighted<More>&... more) : first{one}, others{more...} {}

  static constexpr unsigned reads = reads_of<Objective>() | (reads_of<More>() | ...);
  static constexpr int partials = most_partials_of<Objective, More...>();
  [[nodiscard]] constexpr unsigned needs() const { return first.needs() | others.needs(); }
  [[nodiscard]] constexpr status check() const {
    if (auto s = first.check(); !s) return s;
    return others.check();
  }
  template <class Item>
  RLHF_HD RLHF_INLINE auto operator()(const Item& item) const {
    return first(item) + others(item);
  }
  [[nodiscard]] RLHF_HD constexpr double reward_scale() const { return first.reward_scale(); }
};
template <class... O>
mixture(weighted<O>...) -> mixture<O...>;

}  // namespace rlhf::inline v1
