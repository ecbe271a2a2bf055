#pragma once
// A run of adjacent elements given to a kernel on lanes, and what it adds up.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "rlhf/backend/concept.hpp"
#include "rlhf/backend/eigen/lane_math.hpp"
#include "rlhf/backend/eigen/lane_memory.hpp"

namespace rlhf::inline v1 {

/// Walks runs of elements and keeps their sums and maxima.
///
/// Sums grow in T for a few packs only and are then added to doubles, so that the mean of 16 million floats is right to
/// about 1e-7 and no order of the elements can lose more.
template <class Kernel, unsigned Isa = instruction_set>
class lane_sums {
  using T = typename Kernel::scalar;
  using P = lane_detail::packet<T, Isa>;
  static constexpr int sums = Kernel::sums, maxima = Kernel::maxima;
  static constexpr int packs_between_spills = 8, elements_between_spills = 16;
  static constexpr bool on_lanes = requires(const Kernel& kernel) { kernel.unit_stride(); };

 public:
  using wide = lane<T, 2, Isa>;
  using narrow = lane<T, 1, Isa>;

  RLHF_INLINE lane_sums() {
    for (auto& s : sum_) s = typename P::doubles{};
    for (auto& m : max_) m = P::all(-std::numeric_limits<T>::infinity());
  }

  /// Calls `element.template operator()<V>(i, accumulator)` for all of [begin, end).
  template <class Element>
  RLHF_INLINE void run(std::int64_t begin, std::int64_t end, [[maybe_unused]] bool lanes, const Element& element) {
    std::int64_t i = begin;
    if constexpr (on_lanes) {
      if (lanes) {
        i = walk<wide, packs_between_spills>(i, end, element);
        i = walk<narrow, packs_between_spills>(i, end, element);
      }
    }
    walk<T, elements_between_spills>(i, end, element);
  }

  [[nodiscard]] RLHF_INLINE totals<sums, maxima> result() const {
    totals<sums, maxima> total = scalar_;
    for (int k = 0; k < sums; ++k)
      for (int j = 0; j < P::bytes / 8; ++j) total.sum[k] += sum_[k][j];
    for (int m = 0; m < maxima; ++m) {
      for (int j = 0; j < P::size; ++j) {
        const double x = static_cast<double>(max_[m][j]);
        total.max[m] = x > total.max[m] ? x : total.max[m];
      }
    }
    return total;
  }

 private:
  template <class V, int Packs, class Element>
  RLHF_INLINE std::int64_t walk(std::int64_t i, std::int64_t end, const Element& element) {
    constexpr int size = memory_traits<V>::lanes;
    while (end - i >= size) {
      accumulator<V, sums, maxima> some;
      const std::int64_t stop = i + size * std::min<std::int64_t>(Packs, (end - i) / size);
      for (; i < stop; i += size) element.template operator()<V>(i, some);
      spill(some);
    }
    return i;
  }
  RLHF_INLINE void spill(const accumulator<T, sums, maxima>& some) { scalar_.add(some); }
  template <int K>
  RLHF_INLINE void spill(const accumulator<lane<T, K, Isa>, sums, maxima>& some) {
    using packet = typename P::type;
    for (int k = 0; k < sums; ++k)
      sum_[k] = P::widen(sum_[k], lane_detail::fold_packets([](packet a, packet b) { return a + b; }, some.sum[k]));
    for (int m = 0; m < maxima; ++m)
      max_[m] = P::larger(lane_detail::fold_packets([](packet a, packet b) { return P::larger(a, b); }, some.max[m]),
                          max_[m]);
  }

  totals<sums, maxima> scalar_;
  typename P::doubles sum_[static_cast<unsigned>(sums > 0 ? sums : 1)];
  typename P::type max_[static_cast<unsigned>(maxima > 0 ? maxima : 1)];
};

}  // namespace rlhf::inline v1
