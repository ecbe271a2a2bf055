#pragma once
// One reward from the scores of several reward models, and its gradient.

#include "rlhf/backend/concept.hpp"
#include "rlhf/math/fields.hpp"

namespace rlhf::inline v1 {

/// What ensemble_reward writes; absent views are skipped.
template <class T = float, class Space = host_space>
struct ensemble_outputs {
  view<T, 1, Space> reward{};             ///< [responses]
  view<T, 2, Space> grad_score{};         ///< [members, responses]
  view<const T, 1, Space> grad_reward{};  ///< [responses], read: d loss / d reward; 1 without it
};

namespace ensemble_detail {

template <class Formula, class T, class Space>
struct members_kernel {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  view<const T, 2, Space> scores;
  ensemble_outputs<T, Space> out;
  Formula formula;

  struct members {
    const members_kernel& kernel;
    std::int64_t response;
    double upstream;
    [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t size() const { return kernel.scores.rows; }
    [[nodiscard]] RLHF_HD RLHF_INLINE double score(std::int64_t k) const {
      return memory_traits<double>::load(kernel.scores.row(k) + response);
    }
    RLHF_HD RLHF_INLINE void slope(std::int64_t k, double x) const {
      if (kernel.out.grad_score) memory_traits<double>::store(kernel.out.grad_score.row(k) + response, x * upstream);
    }
  };

  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    store(out.reward, i, formula(members{*this, i, load_or<double>(out.grad_reward, i, 1)}));
  }
};

}  // namespace ensemble_detail

/// Scores [members, responses] to rewards [responses], each response by itself.
/// Errors: null, shape, argument. Cost: one pass.
template <class Formula>
struct ensemble_reward {
  Formula formula{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const view<const T, 2, Space>& scores, const ensemble_outputs<T, Space>& out) const {
    constexpr const char* name = "ensemble_reward";
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    const std::int64_t responses = scores.columns;
    if (responses == 0) return {};
    if (!scores || scores.rows < 1) return remark::null(name, "scores");
    if (out.reward && out.reward.extent != responses)
      return remark::shape(name, "reward", out.reward.extent, responses);
    if (out.grad_reward && out.grad_reward.extent != responses)
      return remark::shape(name, "grad_reward", out.grad_reward.extent, responses);
    if (out.grad_score && (out.grad_score.rows != scores.rows || out.grad_score.columns != responses))
      return remark::shape(name, "grad_score", out.grad_score.rows * out.grad_score.columns, scores.rows * responses);
    if (auto s = check_of(formula); !s) return s;
    return be.map(responses, ensemble_detail::members_kernel<Formula, T, Space>{scores, out, formula}, nullptr);
  }
};
template <class F>
ensemble_reward(F) -> ensemble_reward<F>;

}  // namespace rlhf::inline v1
