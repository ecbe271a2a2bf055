#pragma once
// The worst case of a weighted mean of losses over a set of weights, and those weights.

#include "rlhf/driver/robust_kernels.hpp"

namespace rlhf::inline v1 {

/// The worst weighted mean of losses: \f$ L = (1-\lambda)\,\bar l + \lambda\sup_{w\in U(q)}\sum_s w_s l_s \f$, U(q) the set, q the
/// weights divided by their sum. The weights that attain it are the gradient in the losses: give them to a policy_loss as
/// `weight` with token_sum, or multiply a gradient by them. They are constants: no second derivative passes through.
///
/// Losses whose best side is negative are as good as others: only differences count. Masked units and units of weight 0 get
/// exactly 0. Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory. Cost: four passes, and one for each
/// step of the set's search.
/// After: distributionally robust aggregation of token and span losses, Jin et al. 2026, arXiv 2604.08577, whose exact set is
/// not published; the sets are classical (Ben-Tal et al. 2013). Catalogue spec-b-6.
template <class Set>
struct robust_aggregate {
  Set set{};
  double robustness = 1;  ///< lambda

  [[nodiscard]] constexpr status check() const {
    if (!(robustness >= 0 && robustness <= 1))
      return remark::argument("robust_aggregate", "robustness", robustness, "0 <= robustness <= 1");
    return set.check();
  }

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const robust_inputs<T, Space>& in, const robust_outputs<T, Space>& out) const {
    using namespace robust_detail;
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    static_assert(
        !requires { Set::uniform; },
        "rlhf: this is a fixed rule of weights, and robust_aggregate looks for the worst of a set (kl_ball, "
        "chi_square_ball, ...): give the rule to the loss itself");
    constexpr const char* name = "robust_aggregate";
    const std::int64_t n = in.loss.extent;
    if (n > 0 && !in.loss) return remark::null(name, "loss");
    if (in.weight && in.weight.extent != n) return remark::shape(name, "weight", in.weight.extent, n);
    if (in.mask && in.mask.extent != n) return remark::shape(name, "mask", in.mask.extent, n);
    if (out.loss && out.loss.extent != 1) return remark::shape(name, "loss", out.loss.extent, 1);
    if (out.weight && out.weight.extent != n) return remark::shape(name, "weight", out.weight.extent, n);
    if (out.dual && out.dual.extent != 1) return remark::shape(name, "dual", out.dual.extent, 1);
    if (auto s = check(); !s) return s;
    auto memory = be.template scratch<cells>(1);
    auto after = be.template scratch<double>(Set::ties_in_order ? n : 0);
    if (!memory.data() || !after.data()) return remark::memory(name);
    cells* const c = memory.data();
    const units<T, Space> unit{in};

    if (auto s = be.map(n, first_look<T, Space>{unit}, &c->first); !s) return s;
    if (auto s = be.map(n, second_look<T, Space>{unit, c}, &c->second); !s) return s;
    if (auto s = be.once(start_search<Set>{set, c}); !s) return s;
    if constexpr (Set::steps > 0) {
      for (int k = 0; k < Set::steps; ++k) {
        if (auto s = be.map(n, measure_units<Set, T, Space>{unit, set, c}, &c->step); !s) return s;
        if (auto s = be.once(next_step<Set>{set, c}); !s) return s;
      }
    }
    if (auto s = be.map(n, sum_factors<Set, T, Space>{unit, set, c}, &c->share); !s) return s;
    if constexpr (Set::ties_in_order) {
      const layout<Space> all{nullptr, 1, n, n};
      if (auto s = be.segment_scan(all, weights_after<T, Space>{unit, c, after.data()}); !s) return s;
    }
    const write_weights<Set, T, Space> weights{unit, set, robustness, c, after.data(), out};
    if (auto s = be.map(n, weights, &c->last); !s) return s;
    if (auto s = be.once(write_results<Set, T, Space>{set, robustness, c, out}); !s) return s;
    if (out.stats != nullptr) {
      totals<3, 1> found;
      if (auto s = read_cell(be, &c->last, found); !s) return s;
      if (found.sum[1] > 0) {
        out.stats->add("effective_size", 1 / found.sum[1], 1);
        out.stats->add("max_weight_ratio", found.max[0], 1);
      }
    }
    if constexpr (B::synchronous) {
      totals<3, 2> found;
      if (auto s = read_cell(be, &c->first, found); !s) return s;
      if (!(found.sum[0] > 0)) return remark::empty(name, "weight");
    }
    return {};
  }
};
template <class S>
robust_aggregate(S) -> robust_aggregate<S>;
template <class S>
robust_aggregate(S, double) -> robust_aggregate<S>;

}  // namespace rlhf::inline v1
