#pragma once
// Stations 1 and 3: logits to log-probabilities in one read of each row, and back in one read and one write.

#include "rlhf/driver/logp_kernels.hpp"

namespace rlhf::inline v1 {

/// Log-probability of each row's target, and whatever else is asked for, in one read of the logits.
///
/// \f$ \log p_y = z_y/\tau - \log\sum_v e^{z_v/\tau} \f$ by online log-sum-exp in float or wider, whatever the storage.
/// Shapes: logits [rows, columns], top_logp and top_token [rows, k] with k from 1 to the vocabulary, all others [rows]. Outputs
/// left null are not computed; argmax and the top k cost a second look at the row while it is in cache.
/// A row of minus infinities only has lse -inf and a NaN log-probability, which is counted. A target outside the
/// vocabulary gives 0, is counted, and host backends return `errc::index` after all rows are done.
/// Source: Milakov and Gimelshein 2018, arXiv 1805.02867.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space, class Index = std::int32_t>
  requires backend<B>
status token_logp(B& be, logits_inputs<L, Space, Index> in, const logp_outputs<T, Space>& out) {
  constexpr const char* name = "token_logp";
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  if (auto s = logp_detail::check(in, name); !s) return s;
  if (in.vocabulary == 0) in.vocabulary = in.logits.columns;
  const std::int64_t rows = in.logits.rows;
  const auto sized = [&](const auto& v, const char* what) -> status {
    return !v || v.extent == rows ? status{} : remark::shape(name, what, v.extent, rows);
  };
  if (auto s = sized(out.logp, "logp"); !s) return s;
  if (auto s = sized(out.entropy, "entropy"); !s) return s;
  if (auto s = sized(out.lse, "lse"); !s) return s;
  if (auto s = sized(out.square_sum, "square_sum"); !s) return s;
  if (auto s = sized(out.argmax, "argmax"); !s) return s;
  if (auto s = logp_detail::check_top(out, rows, in.vocabulary, name); !s) return s;
  auto cell = be.template scratch<totals<4>>(1);
  if (!cell.data()) return remark::memory(name);
  using logp_detail::forward_rows;
  const bool entropy = static_cast<bool>(out.entropy), squares = static_cast<bool>(out.square_sum);
  status done;
  if (out.top_logp)  // dear enough for a kernel of its own, with all else in it
    done = be.rows(rows, forward_rows<T, L, Space, Index, true, true, true>{in, out}, cell.data());
  else if (entropy && squares)
    done = be.rows(rows, forward_rows<T, L, Space, Index, true, true, false>{in, out}, cell.data());
  else if (entropy)
    done = be.rows(rows, forward_rows<T, L, Space, Index, true, false, false>{in, out}, cell.data());
  else if (squares)
    done = be.rows(rows, forward_rows<T, L, Space, Index, false, true, false>{in, out}, cell.data());
  else
    done = be.rows(rows, forward_rows<T, L, Space, Index, false, false, false>{in, out}, cell.data());
  if (!done) return done;
  if (out.stats != nullptr || B::synchronous) {
    totals<4> found;
    if (auto s = read_cell(be, cell.data(), found); !s) return s;
    if (out.stats != nullptr) {
      out.stats->add_total("rows", found.sum[0]);
      out.stats->add_total("nonfinite", found.sum[1]);
      if (entropy) out.stats->add("entropy", found.sum[3], found.sum[0]);
    }
    if (found.sum[2] > 0)
      return {
          errc::index, name, "target", "outside the vocabulary in rows:", found.sum[2], 0, "0 <= target < vocabulary"};
  }
  return {};
}

/// The gradient of the logits from the gradients of log-probability and entropy; it may be written over the logits.
///
/// \f$ dz_k = [g(1_{k=y} - p_k) - h\,p_k(\log p_k + H)]/\tau \f$. Columns beyond the vocabulary and ignored rows get 0; rows
/// with g = h = 0 get 0 without being read. bfloat16 and float16 are rounded once, on the store.
/// Shapes: grad_logits as logits; the rest [rows]. Errors as token_logp.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space, class Index = std::int32_t>
  requires backend<B>
status token_logp_backward(B& be, logits_inputs<L, Space, Index> in, const logp_gradients<T, Space>& gradients,
                           const std::type_identity_t<view<L, 2, Space>>& grad_logits) {
  constexpr const char* name = "token_logp_backward";
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  if (auto s = logp_detail::check(in, name); !s) return s;
  if (in.vocabulary == 0) in.vocabulary = in.logits.columns;
  const std::int64_t rows = in.logits.rows;
  const auto sized = [&](const auto& v, const char* what, bool required) -> status {
    if (!v) return required && rows > 0 ? remark::null(name, what) : status{};
    return v.extent == rows ? status{} : remark::shape(name, what, v.extent, rows);
  };
  const bool with_entropy = static_cast<bool>(gradients.grad_entropy);
  if (auto s = sized(gradients.lse, "lse", true); !s) return s;
  if (auto s = sized(gradients.grad_logp, "grad_logp", !with_entropy); !s) return s;
  if (auto s = sized(gradients.grad_entropy, "grad_entropy", false); !s) return s;
  if (auto s = sized(gradients.entropy, "entropy", with_entropy); !s) return s;
  if (rows > 0 && !grad_logits) return remark::null(name, "grad_logits");
  if (auto s = logp_detail::check_rows(grad_logits, name, "grad_logits", rows); !s) return s;
  if (grad_logits.columns < in.vocabulary)
    return {errc::shape,
            name,
            "grad_logits",
            "has columns:",
            static_cast<double>(grad_logits.columns),
            0,
            "at least the vocabulary"};
  auto cell = be.template scratch<totals<1>>(1);
  if (!cell.data()) return remark::memory(name);
  const status done =
      with_entropy
          ? be.rows(rows, logp_detail::backward_rows<T, L, Space, Index, true>{in, gradients, grad_logits}, cell.data())
          : be.rows(rows, logp_detail::backward_rows<T, L, Space, Index, false>{in, gradients, grad_logits},
                    cell.data());
  if (!done) return done;
  if constexpr (B::synchronous) {
    totals<1> bad;
    if (auto s = read_cell(be, cell.data(), bad); !s) return s;
    if (bad.sum[0] > 0)
      return {
          errc::index, name, "target", "outside the vocabulary in rows:", bad.sum[0], 0, "0 <= target < vocabulary"};
  }
  return {};
}

}  // namespace rlhf::inline v1
