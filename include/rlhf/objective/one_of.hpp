#pragma once
// An objective chosen at run time, for trainers that are configured by a file.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"

namespace rlhf::inline v1 {

/// One of several objectives of the same item kind, as a plain value: one_of<dpo_sigmoid, ipo> o = ipo{.beta = 0.2}.
///
/// It runs wherever its alternatives run, on a device too: the choice is an index that all items share, and a driver is
/// compiled once for all of them. It wants the inputs of the chosen one only; statistics of its own it reports none.
template <class... Objectives>
struct one_of;

template <class Objective>
struct one_of<Objective> {
  Objective objective{};

  constexpr one_of() = default;
  constexpr one_of(const Objective& chosen) : objective(chosen) {}

  static constexpr unsigned reads = reads_of<Objective>();
  static constexpr int partials = most_partials_of<Objective>();
  [[nodiscard]] constexpr unsigned needs() const { return needs_of(objective); }
  [[nodiscard]] constexpr status check() const { return check_of(objective); }
  template <class Item>
    requires requires(const Objective& o, const Item& i) { o(i); }
  RLHF_HD RLHF_INLINE auto operator()(const Item& item) const {
    return objective(item);
  }
  [[nodiscard]] RLHF_HD constexpr double reward_scale() const {
    if constexpr (requires { objective.reward_scale(); })
      return objective.reward_scale();
    else if constexpr (requires { objective.beta; })
      return objective.beta;
    else
      return 1;
  }
};

template <class Objective, class... More>
  requires(sizeof...(More) > 0)
struct one_of<Objective, More...> {
  one_of<Objective> first{};
  one_of<More...> others{};
  bool is_first = true;

  constexpr one_of() = default;
  constexpr one_of(const Objective& chosen) : first(chosen) {}
  template <class Other>
    requires(!std::same_as<Other, Objective> && (std::same_as<Other, More> || ...))
  constexpr one_of(const Other& chosen) : others(chosen), is_first(false) {}

  static constexpr unsigned reads = reads_of<Objective>() | (reads_of<More>() | ...);
  static constexpr int partials = most_partials_of<Objective, More...>();
  [[nodiscard]] constexpr unsigned needs() const { return is_first ? first.needs() : others.needs(); }
  [[nodiscard]] constexpr status check() const { return is_first ? first.check() : others.check(); }
  template <class Item>
    requires requires(const one_of<Objective>& one, const one_of<More...>& more, const Item& i) { one(i), more(i); }
  RLHF_HD RLHF_INLINE auto operator()(const Item& item) const {
    if (is_first) return first(item);
    return others(item);
  }
  [[nodiscard]] RLHF_HD constexpr double reward_scale() const {
    return is_first ? first.reward_scale() : others.reward_scale();
  }
};

}  // namespace rlhf::inline v1
