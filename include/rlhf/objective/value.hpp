#pragma once
// Losses of value predictions.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// How a clipped prediction is formed. The two agree but for the slope exactly on a bound.
enum class value_clip {
  difference,  ///< old + clamp(value - old, -c, c): full slope on the bound (OpenRLHF, TRL)
  bounds       ///< max(min(value, old + c), old - c): half (verl)
};

/// PPO's clipped value loss: \f$ \frac12 \max((V-G)^2, (V_{clip}-G)^2) \f$, \f$ V_{clip} = V_{old} + [V - V_{old}]_{\pm c} \f$.
///
/// `clip` infinite: plain squared error. `scale` is the factor in front (1/2 in TRL, verl, OpenRLHF; 1 in AReaL).
/// `clip_fraction` counts a strictly larger clipped term with |V - V_old| > c, so that rounding of `old + (V - old)` is
/// not counted.
/// Gradient: 2 scale (V - G) where the clip does not hold the prediction or the unclipped term is the larger, else 0; at a
/// tie of the two terms each gives half.
/// Source: the PPO code of OpenAI's baselines (the clip is not in the paper); catalogue V-01, V-02.
struct clipped_value {
  double clip = 0.2;                         ///< c: how far a prediction may move from the old one
  double scale = 0.5;                        ///< factor in front
  value_clip form = value_clip::difference;  ///< how the clipped prediction is formed

  static constexpr unsigned reads = field::old_value | field::returns;

  [[nodiscard]] constexpr status check() const {
    if (!(clip > 0)) return remark::argument("clipped_value", "clip", clip, "more than 0 (infinity turns it off)");
    if (!(scale > 0 && scale < infinity))
      return remark::argument("clipped_value", "scale", scale, "a finite number above 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const value_item<V>& v) const {
    const V plain = square(v.value - v.returns);
    return max(plain, square(clipped(v) - v.returns)) * constant<V>(scale);
  }

  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const value_item<V>& v, V (&out)[1]) const {
    const auto larger = square(clipped(v) - v.returns) > square(v.value - v.returns);
    const auto outside = abs(v.value - v.old_value) > constant<V>(clip);
    out[0] = select(larger & outside, constant<V>(1), constant<V>(0));
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V clipped(const value_item<V>& v) const {
    const value_t<V> c = constant<V>(clip);
    if (form == value_clip::bounds) return max(min(v.value, v.old_value + c), v.old_value - c);
    return clamp(v.value - v.old_value, -c, c) + v.old_value;
  }
};

/// Huber's loss of the error, clipped as clipped_value is: \f$ s\max(h(V - G), h(V_{clip} - G)) \f$,
/// h(x) = x^2/2 for |x| <= delta, else delta(|x| - delta/2).
///
/// `clip` infinite: the plain Huber loss. Errors up to delta: clipped_value with half the scale. `clip_fraction` as there.
/// Gradient: scale [V - G]_{+-delta} where the clip does not hold the prediction or the unclipped term is the larger, else 0; at a
/// tie of the two terms each gives half.
/// Source: Huber 1964; AReaL, whose delta this is. Catalogue V-03.
struct huber_value {
  double delta = 10;  ///< error from which on the loss is linear
  double clip = 0.2;  ///< c: how far a prediction may move from the old one
  double scale = 1;   ///< factor in front

  static constexpr unsigned reads = field::old_value | field::returns;

  [[nodiscard]] constexpr status check() const {
    if (!(delta > 0 && delta < infinity))
      return remark::argument("huber_value", "delta", delta, "a finite number above 0");
    if (!(clip > 0)) return remark::argument("huber_value", "clip", clip, "more than 0 (infinity turns it off)");
    if (!(scale > 0 && scale < infinity))
      return remark::argument("huber_value", "scale", scale, "a finite number above 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const value_item<V>& v) const {
    const V plain = huber(v.value - v.returns);
    return max(plain, huber(clipped(v) - v.returns)) * constant<V>(scale);
  }

  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const value_item<V>& v, V (&out)[1]) const {
    const auto larger = huber(clipped(v) - v.returns) > huber(v.value - v.returns);
    const auto outside = abs(v.value - v.old_value) > constant<V>(clip);
    out[0] = select(larger & outside, constant<V>(1), constant<V>(0));
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V huber(const V& x) const {
    const value_t<V> d = constant<V>(delta);
    const V size = abs(x);
    return select(size <= d, square(x) * constant<V>(0.5), d * (size - d * constant<V>(0.5)));
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V clipped(const value_item<V>& v) const {
    const value_t<V> c = constant<V>(clip);
    return clamp(v.value - v.old_value, -c, c) + v.old_value;
  }
};

/// Squared error \f$ \frac12 (V-G)^2 \f$. Catalogue V-02.
struct squared_value {
  double scale = 0.5;  ///< factor in front
  static constexpr unsigned reads = field::returns;

  [[nodiscard]] constexpr status check() const {
    if (!(scale > 0 && scale < infinity))
      return remark::argument("squared_value", "scale", scale, "a finite number above 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const value_item<V>& v) const {
    return square(v.value - v.returns) * constant<V>(scale);
  }
};

}  // namespace rlhf::inline v1
