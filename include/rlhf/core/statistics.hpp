#pragma once
// What a loss reports beside its value: named sums that merge.

#include <cstdint>

namespace rlhf::inline v1 {

/// Names equal letter by letter; without <cstring>, so that it is constexpr.
[[nodiscard]] constexpr bool same_name(const char* a, const char* b) {
  for (; *a != 0 && *a == *b; ++a, ++b) {
  }
  return *a == *b;
}

/// Means and maxima of a pass, kept as sum and count so that parts of a batch merge into the whole's. Names are string
/// literals. `s["clip_fraction"]` is the mean; of an unknown or empty one 0.
struct statistics {
  struct entry {
    const char* name = "";
    double sum = 0;
    double count = 0;       ///< what the sum is divided by; 0 marks a maximum
    bool maximum = false;
  };
  static constexpr int capacity = 64;
  entry entries[capacity];
  int size = 0;

  constexpr void add(const char* name, double sum, double count) { put(name, sum, count, false); }
  constexpr void add_maximum(const char* name, double value) { put(name, value, 1, true); }

  constexpr void merge(const statistics& other) {
    for (int i = 0; i < other.size; ++i)
      put(other.entries[i].name, other.entries[i].sum, other.entries[i].count, other.entries[i].maximum);
  }
  [[nodiscard]] constexpr const entry* find(const char* name) const {
    for (int i = 0; i < size; ++i)
      if (same_name(entries[i].name, name)) return &entries[i];
    return nullptr;
  }
  [[nodiscard]] constexpr double operator[](const char* name) const {
    const entry* e = find(name);
    return e == nullptr ? 0 : e->maximum ? e->sum : e->count > 0 ? e->sum / e->count : 0;
  }

 private:
  constexpr void put(const char* name, double sum, double count, bool maximum) {
    for (int i = 0; i < size; ++i) {
      entry& e = entries[i];
      if (!same_name(e.name, name)) continue;
      if (maximum) {
        e.sum = sum > e.sum ? sum : e.sum;
      } else {
        e.sum += sum;
        e.count += count;
      }
      return;
    }
    if (size < capacity) entries[size++] = {name, sum, count, maximum};
  }
};

}  // namespace rlhf::inline v1
