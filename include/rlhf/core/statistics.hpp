#pragma once
// What a loss reports beside its value: named sums that merge.

#include <cstdint>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// Names equal letter by letter; without <cstring>, so that it is constexpr.
[[nodiscard]] constexpr bool same_name(const char* a, const char* b) {
  for (; *a != 0 && *a == *b; ++a, ++b) {}
  return *a == *b;
}

/// How a statistic merges with its like.
enum class statistic_kind : std::uint8_t {
  mean,      ///< sums and counts add up; the value is their quotient
  total,     ///< sums add up
  maximum,   ///< the larger one
  explained  ///< moments merge; the value is 1 - Var(what is left) / Var(all), 0 where the divisor is 0
};

/// What a pass found, kept so that parts of a batch merge into the whole's. Names are string literals.
/// `s["clip_fraction"]` is the value; of an unknown statistic, or of the mean of nothing, 0.
struct statistics {
  /// A mean and the sum of squares about it; the count is the entry's.
  struct spread_of {
    double mean = 0;
    double squares = 0;

    RLHF_INLINE constexpr void merge(const spread_of& other, double count, double others) {
      const double delta = other.mean - mean, share = others / (count + others);
      mean += delta * share;
      squares += other.squares + delta * delta * count * share;
    }
  };
  struct entry {
    const char* name = "";
    double sum = 0;
    double count = 0;  ///< what the sum of a mean is divided by
    statistic_kind kind = statistic_kind::mean;
    spread_of left{}, all{};  ///< of `explained`
  };
  static constexpr int capacity = 64;
  entry entries[capacity];
  int size = 0;

  RLHF_INLINE constexpr void add(const char* name, double sum, double count) {
    add(entry{.name = name, .sum = sum, .count = count});
  }
  RLHF_INLINE constexpr void add_total(const char* name, double sum) {
    add(entry{.name = name, .sum = sum, .kind = statistic_kind::total});
  }
  RLHF_INLINE constexpr void add_maximum(const char* name, double value) {
    add(entry{.name = name, .sum = value, .kind = statistic_kind::maximum});
  }
  RLHF_INLINE constexpr void add_explained(const char* name, double count, const spread_of& left,
                                           const spread_of& all) {
    add(entry{.name = name, .count = count, .kind = statistic_kind::explained, .left = left, .all = all});
  }

  RLHF_INLINE constexpr void add(const entry& more) {
    for (int i = 0; i < size; ++i) {
      entry& e = entries[i];
      if (!same_name(e.name, more.name)) continue;
      if (e.kind == statistic_kind::maximum) {
        e.sum = more.sum > e.sum ? more.sum : e.sum;
      } else {
        if (e.kind == statistic_kind::explained && more.count > 0) {
          e.left.merge(more.left, e.count, more.count);
          e.all.merge(more.all, e.count, more.count);
        }
        e.sum += more.sum;
        e.count += more.count;
      }
      return;
    }
    if (size < capacity) entries[size++] = more;
  }
  RLHF_INLINE constexpr void merge(const statistics& other) {
    for (int i = 0; i < other.size; ++i) add(other.entries[i]);
  }
  [[nodiscard]] RLHF_INLINE constexpr const entry* find(const char* name) const {
    for (int i = 0; i < size; ++i)
      if (same_name(entries[i].name, name)) return &entries[i];
    return nullptr;
  }
  [[nodiscard]] RLHF_INLINE constexpr double operator[](const char* name) const {
    const entry* e = find(name);
    if (e == nullptr) return 0;
    if (e->kind == statistic_kind::explained) return e->all.squares > 0 ? 1 - e->left.squares / e->all.squares : 0;
    if (e->kind != statistic_kind::mean) return e->sum;
    return e->count > 0 ? e->sum / e->count : 0;
  }
};

}  // namespace rlhf::inline v1
