#pragma once
// ODIN's loss over a batch of pairs: three passes, because correlations want means first.

#include "rlhf/backend/concept.hpp"
#include "rlhf/core/statistics.hpp"
#include "rlhf/driver/item.hpp"
#include "rlhf/reward/odin.hpp"

namespace rlhf::inline v1 {

/// What the two heads say of one side of the pairs. Shapes [pairs].
template <class T = float, class Space = host_space>
struct two_head_scores {
  view<const T, 1, Space> quality{};       ///< differentiable
  view<const T, 1, Space> length_score{};  ///< differentiable
  view<const T, 1, Space> length{};        ///< of the response, in tokens
};
template <class T = float, class Space = host_space>
struct odin_inputs {
  two_head_scores<T, Space> chosen{}, rejected{};
  view<const T, 1, Space>
      head_product{};       ///< one element, differentiable: inner product of the heads' normalised weights
  mask_view<Space> mask{};  ///< [pairs]
};

template <class T = float, class Space = host_space>
struct two_head_gradients {
  view<T, 1, Space> quality{};
  view<T, 1, Space> length_score{};
};
/// What odin_loss writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct odin_outputs {
  view<T, 1, Space> loss{};  ///< one element
  two_head_gradients<T, Space> grad_chosen{}, grad_rejected{};
  view<T, 1, Space> grad_head_product{};  ///< one element
  view<T, 1, Space> per_pair{};           ///< the Bradley-Terry part
  statistics* stats = nullptr;            ///< accuracy of the summed scores, corr_quality, corr_length, corr_total
};

namespace odin_detail {

struct head_values {
  double quality, length_score, length;
};
template <class T, class Space>
[[nodiscard]] RLHF_HD RLHF_INLINE head_values at(const two_head_scores<T, Space>& s, std::int64_t i) {
  return {load<double>(s.quality, i), load<double>(s.length_score, i), load<double>(s.length, i)};
}

template <class T, class Space>
struct sum_scores {
  using scalar = double;
  static constexpr int sums = 4, maxima = 0;
  odin_inputs<T, Space> in;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 4, 0>& acc) const {
    if (!load_mask<double>(in.mask, i)) return;
    const head_values sides[] = {at(in.chosen, i), at(in.rejected, i)};
    for (const head_values& side : sides) {
      acc.sum[0] = acc.sum[0] + 1;
      acc.sum[1] = acc.sum[1] + side.length;
      acc.sum[2] = acc.sum[2] + side.quality;
      acc.sum[3] = acc.sum[3] + side.length_score;
    }
  }
};

/// The means, from the sums.
[[nodiscard]] RLHF_HD RLHF_INLINE length_covariances means_of(const totals<4>& t) {
  length_covariances c;
  c.count = t.sum[0];
  if (!(c.count > 0)) return c;
  c.length_mean = t.sum[1] / c.count;
  c.quality_mean = t.sum[2] / c.count;
  c.length_score_mean = t.sum[3] / c.count;
  return c;
}
[[nodiscard]] RLHF_HD RLHF_INLINE length_covariances covariances_of(const totals<4>& first, const totals<6>& second) {
  length_covariances c = means_of(first);
  c.length_square = second.sum[0];
  c.quality_square = second.sum[1];
  c.length_score_square = second.sum[2];
  c.quality_length = second.sum[3];
  c.length_score_length = second.sum[4];
  c.quality_length_score = second.sum[5];
  return c;
}

template <class T, class Space>
struct sum_products {
  using scalar = double;
  static constexpr int sums = 6, maxima = 0;
  odin_inputs<T, Space> in;
  const totals<4>* first;
  length_covariances mean{};
  RLHF_HD RLHF_INLINE void prepare() { mean = means_of(*first); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 6, 0>& acc) const {
    if (!load_mask<double>(in.mask, i)) return;
    const head_values sides[] = {at(in.chosen, i), at(in.rejected, i)};
    for (const head_values& side : sides) {
      const double length = side.length - mean.length_mean, quality = side.quality - mean.quality_mean,
                   length_score = side.length_score - mean.length_score_mean;
      const double product[] = {length * length,  quality * quality,     length_score * length_score,
                                quality * length, length_score * length, quality * length_score};
      for (int k = 0; k < 6; ++k) acc.sum[k] = acc.sum[k] + product[k];
    }
  }
};

/// The pairs' losses, and both gradients. Sums: losses, pairs ranked right.
template <class T, class Space>
struct pairs_kernel {
  using scalar = double;
  static constexpr int sums = 2, maxima = 0;
  odin_inputs<T, Space> in;
  odin_outputs<T, Space> out;
  odin formula;
  const totals<4>* first;
  const totals<6>* second;
  length_covariances covariances{};
  odin::penalty penalty{};
  RLHF_HD RLHF_INLINE void prepare() {
    covariances = covariances_of(*first, *second);
    penalty = odin::penalty(formula, covariances);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 0>& acc) const {
    if (!load_mask<double>(in.mask, i)) {
      store(out.per_pair, i, 0.0);
      const two_head_gradients<T, Space> sides[] = {out.grad_chosen, out.grad_rejected};
      for (const auto& g : sides) {
        store(g.quality, i, 0.0);
        store(g.length_score, i, 0.0);
      }
      return;
    }
    const head_values c = at(in.chosen, i), r = at(in.rejected, i);
    const double gap = c.quality + c.length_score - r.quality - r.length_score, loss = softplus(-gap);
    const double pull = -sigmoid(-gap) * 2 / covariances.count;  // count: of responses, two a pair
    put(c, pull, out.grad_chosen, i);
    put(r, -pull, out.grad_rejected, i);
    store(out.per_pair, i, loss);
    acc.sum[0] = acc.sum[0] + loss;
    acc.sum[1] = acc.sum[1] + (gap > 0 ? 1 : 0);
  }

 private:
  RLHF_HD RLHF_INLINE void put(const head_values& x, double pull, const two_head_gradients<T, Space>& to,
                               std::int64_t i) const {
    double quality = 0, length_score = 0;
    formula.slopes(penalty, x.length - covariances.length_mean, x.quality - covariances.quality_mean,
                   x.length_score - covariances.length_score_mean, quality, length_score);
    store(to.quality, i, pull + quality);
    store(to.length_score, i, pull + length_score);
  }
};

template <class T, class Space>
struct write_loss {
  odin formula;
  const totals<4>* first;
  const totals<6>* second;
  const totals<2>* pairs;
  odin_inputs<T, Space> in;
  odin_outputs<T, Space> out;
  RLHF_HD RLHF_INLINE void operator()() const {
    const length_covariances c = covariances_of(*first, *second);
    const double product = load<double>(in.head_product, 0);
    double loss = formula.orthogonality * rlhf::abs(product);
    if (c.count > 0) loss += pairs->sum[0] * 2 / c.count + odin::penalty(formula, c).loss;
    store(out.loss, 0, loss);
    store(out.grad_head_product, 0, formula.orthogonality * odin::penalty::sign(product));
  }
};

}  // namespace odin_detail

/// ODIN's loss and its gradient in both heads' scores and in the product of their weights. Shapes [pairs]; masked pairs give
/// exactly 0 and enter no correlation. Empty: the orthogonality term alone, `errc::empty_mask`.
/// Errors: null, shape, argument, memory. Cost: three passes.
struct odin_loss {
  odin objective{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const odin_inputs<T, Space>& in, const odin_outputs<T, Space>& out) const {
    using namespace odin_detail;
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "odin_loss";
    const std::int64_t pairs = in.chosen.quality.extent;
    const auto sized = [&](const auto& v, const char* what, std::int64_t n, bool required) -> status {
      if (!v) return required && n > 0 ? remark::null(name, what) : status{};
      return v.extent == n ? status{} : remark::shape(name, what, v.extent, n);
    };
    if (auto s = sized(in.chosen.quality, "chosen.quality", pairs, true); !s) return s;
    if (auto s = sized(in.chosen.length_score, "chosen.length_score", pairs, true); !s) return s;
    if (auto s = sized(in.chosen.length, "chosen.length", pairs, true); !s) return s;
    if (auto s = sized(in.rejected.quality, "rejected.quality", pairs, true); !s) return s;
    if (auto s = sized(in.rejected.length_score, "rejected.length_score", pairs, true); !s) return s;
    if (auto s = sized(in.rejected.length, "rejected.length", pairs, true); !s) return s;
    if (auto s = sized(in.head_product, "head_product", 1, true); !s) return s;
    if (auto s = sized(in.mask, "mask", pairs, false); !s) return s;
    if (auto s = sized(out.loss, "loss", 1, false); !s) return s;
    if (auto s = sized(out.per_pair, "per_pair", pairs, false); !s) return s;
    if (auto s = sized(out.grad_head_product, "grad_head_product", 1, false); !s) return s;
    const two_head_gradients<T, Space> sides[] = {out.grad_chosen, out.grad_rejected};
    for (const auto& g : sides) {
      if (auto s = sized(g.quality, "grad.quality", pairs, false); !s) return s;
      if (auto s = sized(g.length_score, "grad.length_score", pairs, false); !s) return s;
    }
    if (auto s = objective.check(); !s) return s;

    auto first = be.template scratch<totals<4>>(1);
    auto second = be.template scratch<totals<6>>(1);
    auto found = be.template scratch<totals<2>>(1);
    if (!first.data() || !second.data() || !found.data()) return remark::memory(name);
    if (auto s = be.map(pairs, sum_scores<T, Space>{in}, first.data()); !s) return s;
    if (auto s = be.map(pairs, sum_products<T, Space>{in, first.data()}, second.data()); !s) return s;
    const pairs_kernel<T, Space> kernel{in, out, objective, first.data(), second.data()};
    if (auto s = be.map(pairs, kernel, found.data()); !s) return s;
    if (auto s = be.once(write_loss<T, Space>{objective, first.data(), second.data(), found.data(), in, out}); !s)
      return s;
    if (out.stats != nullptr) {
      totals<4> sums;
      totals<6> products;
      totals<2> losses;
      if (auto s = read_cell(be, first.data(), sums); !s) return s;
      if (auto s = read_cell(be, second.data(), products); !s) return s;
      if (auto s = read_cell(be, found.data(), losses); !s) return s;
      const odin::penalty p(objective, covariances_of(sums, products));
      out.stats->add("accuracy", losses.sum[1], sums.sum[0] / 2);
      out.stats->add("corr_quality", p.quality.value, 1);
      out.stats->add("corr_length", p.length_score.value, 1);
      out.stats->add("corr_total", p.total.value, 1);
    }
    if constexpr (B::synchronous) {
      totals<4> sums;
      if (auto s = read_cell(be, first.data(), sums); !s) return s;
      if (sums.sum[0] == 0) return remark::empty(name, "mask");
    }
    return {};
  }
};

}  // namespace rlhf::inline v1
