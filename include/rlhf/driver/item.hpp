#pragma once
// The one kernel of all item losses: read an item, run its formula on dual numbers, weigh, store, sum.
//
// Tokens, pairs, score pairs and values all go through here, for every backend and every layout.

#include "rlhf/backend/concept.hpp"
#include "rlhf/driver/observe.hpp"

namespace rlhf::inline v1 {

/// Where the fields of an item kind come from. An absent stream reads as NaN.
template <template <class> class Item, class T, class Space>
struct item_streams {
  view<const T, 1, Space> variable[static_cast<unsigned>(Item<double>::variables)];
  view<const T, 1, Space> constant[static_cast<unsigned>(Item<double>::constants)];

  /// The item at i, with the first N variables seeded.
  template <class V, int N>
  [[nodiscard]] RLHF_HD RLHF_INLINE Item<dual<V, N>> seeded(std::int64_t i) const {
    Item<dual<V, N>> item;
    Item<dual<V, N>>::visit(item, seed<V, N>{*this, i});
    return item;
  }
  /// The item at i as plain numbers.
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE Item<V> plain(std::int64_t i) const {
    Item<V> item;
    Item<V>::visit(item, values<V>{*this, i});
    return item;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE constexpr bool unit_strides() const {
    for (const auto& v : variable)
      if (!unit_stride(v)) return false;
    for (const auto& c : constant)
      if (!unit_stride(c)) return false;
    return true;
  }

 private:
  static constexpr double absent = not_a_number;

  template <class V>
  struct values {
    const item_streams& streams;
    std::int64_t i;
    RLHF_HD RLHF_INLINE void variable(int k, V& x) const { x = load_or<V>(streams.variable[k], i, absent); }
    RLHF_HD RLHF_INLINE void constant(int k, V& x) const { x = load_or<V>(streams.constant[k], i, absent); }
  };
  template <class V, int N>
  struct seed {
    const item_streams& streams;
    std::int64_t i;
    RLHF_HD RLHF_INLINE void variable(int k, dual<V, N>& x) const {
      x = dual<V, N>(load_or<V>(streams.variable[k], i, absent));
      if (k < N) x.partial[k] = V(number_traits<V>::constant(1));
    }
    RLHF_HD RLHF_INLINE void constant(int k, V& x) const { x = load_or<V>(streams.constant[k], i, absent); }
  };
};

/// The weight of each item in the aggregate: one number for all (known now, or in a cell by then), or one each.
template <class T>
struct item_weight {
  double uniform = 1;
  const double* cell = nullptr;
  const T* each = nullptr;

  RLHF_HD RLHF_INLINE void prepare() {
    if (cell != nullptr) uniform = *cell;
  }
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V at(std::int64_t i) const {
    return each != nullptr ? memory_traits<V>::load(each + i) : V(number_traits<V>::constant(uniform));
  }
};

/// The kernel. Sums: the weighted loss, then (observed only) the number of valid items, of items whose loss is not finite,
/// the common statistics, the objective's, the term's.
template <template <class> class Item, class T, class Space, class Objective, class Term, bool Observed>
struct item_kernel {
  using scalar = compute_t<T>;
  static constexpr int partials = partials_of<Item, Objective, Term>();
  static constexpr int own = statistics_count_of<Objective>(), terms = statistics_count_of<Term>();
  static constexpr int common = observer<Item>::sums;
  static constexpr int sums = Observed ? 3 + common + own + terms : 1;
  static constexpr int maxima = Observed ? observer<Item>::maxima : 0;

  item_streams<Item, T, Space> streams;
  mask_view<Space> mask;               ///< which items count
  mask_view<Space> keep;               ///< items whose objective is dropped though they count in denominators
  view<const T, 1, Space> importance;  ///< multiplies the objective, not the term; a constant
  Objective objective;
  Term term;
  observer<Item> observe;
  item_weight<scalar> weight;
  view<T, 1, Space> per_item;
  view<T, 1, Space> gradient[static_cast<unsigned>(Item<double>::variables)];

  RLHF_HD RLHF_INLINE void prepare() { weight.prepare(); }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    bool all = streams.unit_strides() && rlhf::unit_stride(mask) && rlhf::unit_stride(keep) &&
               rlhf::unit_stride(importance) && rlhf::unit_stride(per_item);
    for (const auto& g : gradient) all = all && rlhf::unit_stride(g);
    return all;
  }

  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, sums, maxima>& acc) const {
    using D = dual<V, partials>;
    const V zero(number_traits<V>::constant(0));
    const mask_t<V> in = load_mask<V>(mask, i);
    const Item<D> item = streams.template seeded<V, partials>(i);

    D loss(zero);
    if constexpr (!std::same_as<Objective, none>) {
      loss = objective(item);
      if (importance) loss = loss * load<V>(importance, i);
      if (keep) loss = select(load_mask<V>(keep, i), loss, D(zero));
    }
    if constexpr (!std::same_as<Term, none>) loss = loss + term(item);
    const V value = select(in, loss.value, zero);

    const V w = weight.template at<V>(i);
    acc.sum[0] = acc.sum[0] + value * w;
    if constexpr (Observed) observe_item(i, in, value, acc);
    store(per_item, i, value);
    for (int k = 0; k < partials; ++k) store(gradient[k], i, select(in, loss.partial[k] * w, zero));
    for (int k = partials; k < Item<double>::variables; ++k) store(gradient[k], i, zero);  // what no formula reads
  }

 private:
  template <class V>
  RLHF_HD RLHF_INLINE void observe_item(std::int64_t i, const mask_t<V>& in, const V& loss,
                                        accumulator<V, sums, maxima>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const Item<V> item = streams.template plain<V>(i);
    acc.sum[1] = acc.sum[1] + select(in, one, zero);
    acc.sum[2] = acc.sum[2] + select(in & !is_finite(loss), one, zero);
    V sum[static_cast<unsigned>(common > 0 ? common : 1)], largest[static_cast<unsigned>(maxima > 0 ? maxima : 1)];
    observe(item, sum, largest);
    for (int k = 0; k < common; ++k) acc.sum[3 + k] = acc.sum[3 + k] + select(in, sum[k], zero);
    for (int k = 0; k < maxima; ++k) acc.max[k] = select(in & (largest[k] > acc.max[k]), largest[k], acc.max[k]);
    if constexpr (own > 0) {
      V out[static_cast<unsigned>(own)];
      objective.statistics(item, out);
      for (int k = 0; k < own; ++k) acc.sum[3 + common + k] = acc.sum[3 + common + k] + select(in, out[k], zero);
    }
    if constexpr (terms > 0) {
      V out[static_cast<unsigned>(terms)];
      term.statistics(item, out);
      for (int k = 0; k < terms; ++k)
        acc.sum[3 + common + own + k] = acc.sum[3 + common + own + k] + select(in, out[k], zero);
    }
  }
};

/// Adds what an observed pass found to the caller's statistics.
template <class Kernel, template <class> class Item, class Objective, class Term>
RLHF_INLINE void report(const totals_of<Kernel>& found, statistics& out) {
  const double count = found.sum[1];
  out.add_total("items", count);
  out.add_total("nonfinite", found.sum[2]);
  const auto mean = [&](const char* name, double sum, double divisor) {
    if (sum == sum) out.add(name, sum, divisor);  // the field behind it was given
  };
  const auto put = [&](const char* name, double sum) { mean(name, sum, count); };
  const auto divisor = [&]([[maybe_unused]] int k) {
    if constexpr (requires { observer<Item>::divisor; })
      if (observer<Item>::divisor[k] >= 0) return found.sum[3 + observer<Item>::divisor[k]];
    return count;
  };
  for (int k = 0; k < observer<Item>::sums; ++k) mean(observer<Item>::sum_names[k], found.sum[3 + k], divisor(k));
  for (int k = 0; k < observer<Item>::maxima; ++k)
    if (found.max[k] > -infinity) out.add_maximum(observer<Item>::maximum_names[k], found.max[k]);
  int at = 3 + observer<Item>::sums;
  if constexpr (statistics_count_of<Objective>() > 0)
    for (int k = 0; k < statistics_count_of<Objective>(); ++k) put(statistics_name_of<Objective>(k), found.sum[at++]);
  if constexpr (statistics_count_of<Term>() > 0)
    for (int k = 0; k < statistics_count_of<Term>(); ++k) put(statistics_name_of<Term>(k), found.sum[at++]);
}

/// Writes a total as the caller's loss, in the caller's type.
template <class T, class Total>
struct write_first_sum {
  const Total* total;
  T* out;
  RLHF_HD RLHF_INLINE void operator()() const { *out = static_cast<T>(total->sum[0]); }
};

/// Everything one call needs; the drivers fill it from their named inputs.
template <template <class> class Item, class T, class Space, class Objective, class Term = none>
struct item_call {
  const char* function;
  std::int64_t items;
  item_streams<Item, T, Space> streams;
  mask_view<Space> mask;
  mask_view<Space> keep;
  view<const T, 1, Space> importance;
  Objective objective;
  Term term;
  observer<Item> observe;
  item_weight<compute_t<T>> weight;
  view<T, 1, Space> loss;
  view<T, 1, Space> per_item;
  view<T, 1, Space> gradient[static_cast<unsigned>(Item<double>::variables)];
  statistics* stats;
};

namespace item_detail {

template <bool Observed, class B, template <class> class Item, class T, class Space, class Objective, class Term>
[[nodiscard]] status run(B& be, const item_call<Item, T, Space, Objective, Term>& c) {
  using kernel_t = item_kernel<Item, T, Space, Objective, Term, Observed>;
  kernel_t kernel{c.streams, c.mask, c.keep, c.importance, c.objective, c.term, c.observe, c.weight, c.per_item, {}};
  for (int k = 0; k < Item<double>::variables; ++k) kernel.gradient[k] = c.gradient[k];
  auto cell = be.template scratch<totals_of<kernel_t>>(1);
  if (cell.data() == nullptr) return remark::memory(c.function);
  if (auto s = be.map(c.items, kernel, cell.data()); !s) return s;
  if (c.loss)
    if (auto s = be.once(write_first_sum<T, totals_of<kernel_t>>{cell.data(), c.loss.data}); !s) return s;
  if constexpr (Observed) {
    totals_of<kernel_t> found;
    if (auto s = read_cell(be, cell.data(), found); !s) return s;
    report<kernel_t, Item, Objective, Term>(found, *c.stats);
  }
  return {};
}

/// Are the streams that the formulas read there, and of the right size?
template <template <class> class Item, class T, class Space, class Objective, class Term>
[[nodiscard]] RLHF_INLINE status check(const item_call<Item, T, Space, Objective, Term>& c) {
  const auto sized = [&](const auto& v, const char* name, bool required) -> status {
    if (!v) return required && c.items > 0 ? remark::null(c.function, name) : status{};
    return v.extent == c.items ? status{} : remark::shape(c.function, name, v.extent, c.items);
  };
  if (c.items < 0)
    return {errc::shape, c.function, Item<double>::variable_names[0], "has elements:", static_cast<double>(c.items),
            0,           "0 or more"};
  const unsigned needs = needs_of(c.objective) | needs_of(c.term);
  for (int k = 0; k < Item<double>::variables; ++k)
    if (auto s = sized(c.streams.variable[k], Item<double>::variable_names[k],
                       k < Item<double>::partials || ((needs >> (16 + k)) & 1u) != 0);
        !s)
      return s;
  for (int k = 0; k < Item<double>::constants; ++k)
    if (auto s = sized(c.streams.constant[k], Item<double>::constant_names[k], ((needs >> k) & 1u) != 0); !s) return s;
  if (auto s = sized(c.mask, "mask", false); !s) return s;
  if (auto s = sized(c.keep, "keep", false); !s) return s;
  if (auto s = sized(c.importance, "weight", false); !s) return s;
  if (auto s = sized(c.per_item, Item<double>::loss_name, false); !s) return s;
  if (c.loss && c.loss.extent != 1) return remark::shape(c.function, "loss", c.loss.extent, 1);
  for (int k = 0; k < Item<double>::variables; ++k)
    if (auto s = sized(c.gradient[k], Item<double>::gradient_names[k], false); !s) return s;
  if (auto s = check_of(c.objective); !s) return s;
  return check_of(c.term);
}

}  // namespace item_detail

/// Runs a checked call; observed only where statistics are asked for.
template <class B, template <class> class Item, class T, class Space, class Objective, class Term>
[[nodiscard]] status run_items(B& be, const item_call<Item, T, Space, Objective, Term>& c) {
  if (auto s = item_detail::check(c); !s) return s;
  return c.stats != nullptr ? item_detail::run<true>(be, c) : item_detail::run<false>(be, c);
}

}  // namespace rlhf::inline v1
