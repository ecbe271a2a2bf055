#pragma once
// Properties of drivers on whole batches: sequences of slots with any number of columns; items are sequences of one slot.

#include "property/support.hpp"
#include "rlhf/core/layout.hpp"

namespace property {

struct batch {
  std::int64_t rows = 0, width = 0;            ///< padded, where `offsets` is empty
  std::vector<std::int64_t> offsets{};         ///< packed
  std::vector<std::vector<double>> columns{};  ///< [fields][slots]
  std::vector<std::vector<double>> per_row{};  ///< [fields][rows]
  std::vector<std::uint8_t> mask{};            ///< empty: all slots are valid

  [[nodiscard]] std::size_t slots() const { return columns.front().size(); }
  [[nodiscard]] bool valid(std::size_t i) const { return mask.empty() || mask[i] != 0; }
  [[nodiscard]] rlhf::layout<> layout() const {
    return offsets.empty() ? rlhf::padded(rows, width) : rlhf::packed(offsets);
  }
  [[nodiscard]] rlhf::mask_view<> mask_or_none() const {
    return mask.empty() ? rlhf::mask_view<>{} : rlhf::mask_view<>(mask);
  }
  void put(std::size_t i, const std::vector<double>& x) {
    for (std::size_t k = 0; k < columns.size(); ++k) columns[k][i] = x[k];
  }
  [[nodiscard]] std::vector<double> get(std::size_t i) const {
    std::vector<double> x;
    for (const auto& c : columns) x.push_back(c[i]);
    return x;
  }
};

/// What a driver gave: a number, columns of slots, columns of rows.
struct outcome {
  double loss = 0;
  std::vector<std::vector<double>> slots{}, rows{};
};

/// Padded rows with gaps; about one row in five is empty and one in five has a single token. Masked slots hold numbers like
/// the others. `fill(random, x)` draws the columns of a slot.
template <class Fill>
batch make_batch(numbers& random, std::int64_t rows, std::int64_t width, std::size_t columns, Fill fill) {
  batch b;
  b.rows = rows;
  b.width = width;
  const auto n = static_cast<std::size_t>(rows * width);
  b.columns.assign(columns, std::vector<double>(n));
  b.mask.resize(n);
  std::vector<double> x(columns);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t kind = width == 1 ? 4 : random.integer(0, 4), only = random.integer(0, width - 1);
    for (std::int64_t t = 0; t < width; ++t) {
      const auto i = static_cast<std::size_t>(r * width + t);
      fill(random, x.data());
      b.put(i, x);
      const bool in = kind == 0 ? false : kind == 1 ? t == only : random.chance(0.75);
      b.mask[i] = in ? 1 : 0;
    }
  }
  return b;
}

/// The same with garbage wherever the mask is out.
inline batch spoiled(batch b, numbers& random) {
  for (auto& column : b.columns)
    for (std::size_t i = 0; i < column.size(); ++i)
      if (!b.valid(i)) column[i] = random.garbage();
  return b;
}

/// The rows in another order.
inline batch permuted(const batch& b, const std::vector<std::size_t>& order) {
  batch p = b;
  const auto w = static_cast<std::size_t>(b.width);
  for (std::size_t r = 0; r < order.size(); ++r) {
    for (std::size_t t = 0; t < w; ++t) {
      for (std::size_t k = 0; k < b.columns.size(); ++k) p.columns[k][r * w + t] = b.columns[k][order[r] * w + t];
      if (!b.mask.empty()) p.mask[r * w + t] = b.mask[order[r] * w + t];
    }
    for (std::size_t k = 0; k < b.per_row.size(); ++k) p.per_row[k][r] = b.per_row[k][order[r]];
  }
  return p;
}

/// The valid slots and nothing else; `from` says where they stood.
inline batch packed_of(const batch& b, std::vector<std::size_t>& from, std::int64_t first = 0, std::int64_t last = -1) {
  batch p;
  p.columns.resize(b.columns.size());
  p.offsets = {0};
  from.clear();
  if (last < 0) last = b.rows;
  p.rows = last - first;
  const auto sequences = b.layout();
  for (std::int64_t r = first; r < last; ++r) {
    for (std::int64_t at = sequences[r].begin; at < sequences[r].end; ++at) {
      const auto i = static_cast<std::size_t>(at);
      if (!b.valid(i)) continue;
      for (std::size_t k = 0; k < b.columns.size(); ++k) p.columns[k].push_back(b.columns[k][i]);
      from.push_back(i);
    }
    p.offsets.push_back(static_cast<std::int64_t>(from.size()));
  }
  for (const auto& c : b.per_row) p.per_row.emplace_back(c.begin() + first, c.begin() + last);
  return p;
}

inline double largest(const outcome& o) {
  double most = std::abs(o.loss);
  for (const auto& c : o.slots)
    for (const double x : c)
      if (std::isfinite(x)) most = std::max(most, std::abs(x));
  return most;
}
inline bool same_columns(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  for (std::size_t k = 0; k < a.size(); ++k)
    if (a[k].size() != b[k].size() || std::memcmp(a[k].data(), b[k].data(), a[k].size() * sizeof(double)) != 0)
      return false;
  return a.size() == b.size();
}

/// Garbage under the mask changes no bit, and what is written there is +0.
template <class Call>
void expect_mask_holds(const char* name, const batch& b, numbers& random, Call call) {
  const outcome clean = call(b), spoilt = call(spoiled(b, random));
  expect(same_bits(clean.loss, spoilt.loss) && same_columns(clean.slots, spoilt.slots) &&
             same_columns(clean.rows, spoilt.rows),
         name, ": garbage under the mask changes the result, ", clean.loss, " to ", spoilt.loss);
  for (const auto& column : clean.slots)
    for (std::size_t i = 0; i < column.size(); ++i)
      expect(b.valid(i) || plain_zero(column[i]), name, " writes ", column[i], " under the mask");
}

/// Another order of the rows gives the same, in that order.
template <class Call>
void expect_permutes(const char* name, const batch& b, numbers& random, Call call, double error = 0) {
  const auto order = random.order(static_cast<std::size_t>(b.rows));
  const outcome here = call(b), there = call(permuted(b, order));
  const double scale = largest(here);
  const auto w = static_cast<std::size_t>(b.width);
  expect(near(here.loss, there.loss, 1e-11, scale), name, ": another order makes ", here.loss, " to ", there.loss);
  for (std::size_t r = 0; r < order.size(); ++r) {
    for (std::size_t k = 0; k < here.slots.size(); ++k)
      for (std::size_t t = 0; t < w; ++t) {
        const double x = here.slots[k][order[r] * w + t], y = there.slots[k][r * w + t];
        expect(same_bits(x, y) || near(x, y, error, scale), name, ": another order makes ", x, " to ", y, " in output ",
               k);
      }
    for (std::size_t k = 0; k < here.rows.size(); ++k) {
      const double x = here.rows[k][order[r]], y = there.rows[k][r];
      expect(same_bits(x, y) || near(x, y, error, scale), name, ": another order makes ", x, " to ", y, " of a row");
    }
  }
}

/// Packed without the masked slots: the same.
template <class Call>
void expect_packs(const char* name, const batch& b, Call call, double error = 0) {
  std::vector<std::size_t> from;
  const batch p = packed_of(b, from);
  const outcome padded = call(b), tight = call(p);
  const double scale = largest(padded);
  expect(near(padded.loss, tight.loss, 1e-11, scale), name, ": packing makes ", padded.loss, " to ", tight.loss);
  for (std::size_t k = 0; k < padded.slots.size(); ++k)
    for (std::size_t i = 0; i < from.size(); ++i) {
      const double x = padded.slots[k][from[i]], y = tight.slots[k][i];
      expect(same_bits(x, y) || near(x, y, error, scale), name, ": packing makes ", x, " to ", y, " in output ", k);
    }
  for (std::size_t k = 0; k < padded.rows.size(); ++k)
    for (std::size_t r = 0; r < padded.rows[k].size(); ++r) {
      const double x = padded.rows[k][r], y = tight.rows[k][r];
      expect(same_bits(x, y) || near(x, y, error, scale), name, ": packing makes ", x, " to ", y, " of a row");
    }
}

}  // namespace property
