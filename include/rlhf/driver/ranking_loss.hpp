#pragma once
// Objectives over ranked lists of scores: loss and exact gradient.

#include "rlhf/driver/weights.hpp"

namespace rlhf::inline v1 {

/// Scores [layout.tokens]: a sequence of the layout is a list, in the order of its ranking, the best first.
template <class T = float, class Space = host_space>
struct ranking_inputs {
  view<const T, 1, Space> score{};   ///< differentiable
  mask_view<Space> mask{};           ///< responses that count; the others are as if they were not in the list
  view<const T, 1, Space> weight{};  ///< [layout.sequences] multiplies a list's loss; a constant
};

/// What ranking_loss writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct ranking_outputs {
  view<T, 1, Space> loss{};        ///< one element
  view<T, 1, Space> grad_score{};  ///< [layout.tokens]
  view<T, 1, Space> per_list{};    ///< [layout.sequences]
};

namespace ranking_detail {

template <class Formula, class T, class Space>
struct list_kernel {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  layout<Space> lists;
  ranking_inputs<T, Space> in;
  ranking_outputs<T, Space> out;
  Formula formula;
  double weight;
  double* work;
  std::int64_t* order;

  struct list {
    const list_kernel& kernel;
    std::int64_t begin, count;
    double weight;
    [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t size() const { return count; }
    [[nodiscard]] RLHF_HD RLHF_INLINE double score(std::int64_t k) const {
      return load<double>(kernel.in.score, kernel.order[begin + k]);
    }
    [[nodiscard]] RLHF_HD RLHF_INLINE double& work(std::int64_t k) const { return kernel.work[begin + k]; }
    RLHF_HD RLHF_INLINE void slope(std::int64_t k, double x) const {
      store(kernel.out.grad_score, kernel.order[begin + k], x * weight);
    }
  };

  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, accumulator<V, 1, 0>& acc) const {
    const segment range = lists[s];
    std::int64_t count = 0;
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      if (load_mask<double>(in.mask, i))
        order[range.begin + count++] = i;
      else
        store(out.grad_score, i, 0.0);
    }
    const double importance = load_or<double>(in.weight, s, 1), w = importance * weight;
    const double loss = formula(list{*this, range.begin, count, w});
    store(out.per_list, s, loss * importance);
    acc.sum[0] = acc.sum[0] + loss * w;
  }
};

}  // namespace ranking_detail

/// A listwise objective and how the lists add up: \f$ L = \sum_s W\,w_s\,o(s) \f$. Every list counts, empty ones with 0.
/// Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory. Cost: one pass, one thread a list.
template <class Objective, class Aggregate = batch_mean>
struct ranking_loss {
  Objective objective{};
  Aggregate aggregate{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& lists, const ranking_inputs<T, Space>& in,
                    const ranking_outputs<T, Space>& out) const {
    static_assert(Aggregate::uniform, "rlhf: lists are aggregated with a uniform rule, such as batch_mean");
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "ranking_loss";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = check(lists, name); !s) return s;
    if (!in.score && lists.tokens > 0) return remark::null(name, "score");
    const auto sized = [&](const auto& v, const char* what, std::int64_t n) -> status {
      return !v || v.extent == n ? status{} : remark::shape(name, what, v.extent, n);
    };
    if (auto s = sized(in.score, "score", lists.tokens); !s) return s;
    if (auto s = sized(in.mask, "mask", lists.tokens); !s) return s;
    if (auto s = sized(in.weight, "weight", lists.sequences); !s) return s;
    if (auto s = sized(out.loss, "loss", 1); !s) return s;
    if (auto s = sized(out.grad_score, "grad_score", lists.tokens); !s) return s;
    if (auto s = sized(out.per_list, "per_list", lists.sequences); !s) return s;
    if (auto s = check_of(objective); !s) return s;
    if (auto s = check_of(aggregate); !s) return s;

    aggregation_counts counts;
    counts.tokens = counts.sequences = counts.nonempty = static_cast<double>(lists.sequences);
    auto work = be.template scratch<double>(lists.tokens);
    auto order = be.template scratch<std::int64_t>(lists.tokens);
    auto cell = be.template scratch<totals<1>>(1);
    if (!work.data() || !order.data() || !cell.data()) return remark::memory(name);
    const ranking_detail::list_kernel<Objective, T, Space> kernel{
        lists, in, out, objective, aggregate.weight(0, 0, counts), work.data(), order.data()};
    if (auto s = be.map(lists.sequences, kernel, cell.data()); !s) return s;
    if (out.loss)
      if (auto s = be.once(write_first_sum<T, totals<1>>{cell.data(), out.loss.data}); !s) return s;
    if (lists.sequences == 0) return remark::empty(name, "layout");
    return {};
  }
};
template <class O>
ranking_loss(O) -> ranking_loss<O>;
template <class O, class A>
ranking_loss(O, A) -> ranking_loss<O, A>;

}  // namespace rlhf::inline v1
