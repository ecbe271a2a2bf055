#pragma once
// The way of a case's arrays to a backend and back. A backend in another memory space needs one more `memory` here.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "failure.hpp"
#include "problem.hpp"
#include "results.hpp"
#include "rlhf/core/layout.hpp"
#include "rlhf/core/statistics.hpp"
#include "rlhf/core/status.hpp"
#include "rlhf/driver/weights.hpp"

namespace eval {

/// Memory of a backend's space that lives as long as the object.
template <class Space>
class memory;

template <>
class memory<rlhf::host_space> {
 public:
  template <class T>
  [[nodiscard]] T* upload(const std::vector<T>& values) {
    auto copy = std::make_shared<std::vector<T>>(values.size() + 1);  // an empty array is an array: not null
    std::copy(values.begin(), values.end(), copy->begin());
    T* const data = copy->data();
    kept_.push_back(std::move(copy));
    return data;
  }
  template <class T>
  [[nodiscard]] std::vector<T> download(const T* data, std::int64_t n) const {
    return std::vector<T>(data, data + n);
  }

 private:
  std::deque<std::shared_ptr<void>> kept_;
};

[[nodiscard]] inline const char* code_name(rlhf::errc code) {
  switch (code) {
    case rlhf::errc::ok:
      return "ok";
    case rlhf::errc::null:
      return "null";
    case rlhf::errc::shape:
      return "shape";
    case rlhf::errc::stride:
      return "stride";
    case rlhf::errc::argument:
      return "argument";
    case rlhf::errc::index:
      return "index";
    case rlhf::errc::empty_mask:
      return "empty_mask";
    case rlhf::errc::memory:
      return "memory";
    case rlhf::errc::backend:
      return "backend";
    case rlhf::errc::type:
      return "type";
  }
  return "unknown";
}

/// Throws what the library reports. An empty mask is a remark: the outputs are written.
inline void require(const rlhf::status& s) {
  if (!s && s.code != rlhf::errc::empty_mask) throw failure{code_name(s.code), s.message().c_str()};
}

/// One case on backend B in arithmetic T: the backend object and the memory of the case.
template <class B, class T>
class workspace {
 public:
  using space = typename B::space;
  using constant = rlhf::view<const T, 1, space>;
  using variable = rlhf::view<T, 1, space>;

  /// All cases share one backend object.
  [[nodiscard]] static B& backend() {
    static B object;
    return object;
  }

  /// Numbers rounded to T; a null view where there are none to give.
  [[nodiscard]] constant in(const std::vector<double>& values) {
    return {memory_.upload(rounded(values)), values.size()};
  }
  [[nodiscard]] constant in(const problem& p, const std::string& name) {
    return p.has(name) ? in(p.data(name)) : constant{};
  }
  [[nodiscard]] rlhf::view<const T, 2, space> matrix(const array& a) {
    return {memory_.upload(rounded(a.data)), a.shape[0], a.shape[1]};
  }
  /// An input of whole numbers.
  [[nodiscard]] rlhf::view<const std::int32_t, 1, space> integers(const problem& p, const std::string& name) {
    std::vector<std::int32_t> out;
    for (const double x : p.data(name)) {
      if (!(std::abs(x) < 0x1p31 && x == std::floor(x)))
        throw failure{"argument", text("inputs.", name, " holds ", std::to_string(x), ", wants whole numbers")};
      out.push_back(static_cast<std::int32_t>(x));
    }
    return {memory_.upload(out), out.size()};
  }
  /// Everything but 0 is in.
  [[nodiscard]] rlhf::mask_view<space> mask(const std::vector<double>& values) {
    std::vector<std::uint8_t> out;
    for (const double x : values) out.push_back(x != 0);
    return {memory_.upload(out), out.size()};
  }

  /// Memory for an output, filled with NaN so that what nobody wrote is seen.
  [[nodiscard]] variable out(std::int64_t n) {
    return {memory_.upload(std::vector<T>(static_cast<std::size_t>(n), std::numeric_limits<T>::quiet_NaN())), n};
  }
  [[nodiscard]] rlhf::view<T, 2, space> out(std::int64_t rows, std::int64_t columns) {
    return {out(rows * columns).data, rows, columns};
  }
  [[nodiscard]] rlhf::view<std::int64_t, 1, space> out_integers(std::int64_t n) {
    return {memory_.upload(std::vector<std::int64_t>(static_cast<std::size_t>(n), -1)), n};
  }

  [[nodiscard]] rlhf::view<std::uint8_t, 1, space> out_bytes(std::int64_t n) {
    return {memory_.upload(std::vector<std::uint8_t>(static_cast<std::size_t>(n), std::uint8_t{255})), n};
  }

  template <class U>
  [[nodiscard]] std::vector<double> read(const rlhf::view<U, 1, space>& v) const {
    std::vector<double> values;
    for (const auto x : memory_.template download<std::remove_const_t<U>>(v.data, v.extent))
      values.push_back(static_cast<double>(x));
    return values;
  }
  [[nodiscard]] std::vector<double> read(const rlhf::view<T, 2, space>& v) const {
    return read(variable(v.data, v.rows * v.columns));
  }
  [[nodiscard]] double read_one(const variable& v) const { return read(v)[0]; }

  /// Groups by equal ids, in the order in which the ids first occur.
  [[nodiscard]] rlhf::grouping<space> groups(const std::vector<double>& ids) {
    std::vector<double> seen;
    std::vector<std::int64_t> order, offsets{0};
    for (const double id : ids) {
      bool known = false;
      for (const double s : seen) known = known || s == id;
      if (known) continue;
      seen.push_back(id);
      for (std::size_t i = 0; i < ids.size(); ++i)
        if (ids[i] == id) order.push_back(static_cast<std::int64_t>(i));
      offsets.push_back(static_cast<std::int64_t>(order.size()));
    }
    rlhf::grouping<space> out;
    out.groups.sequences = static_cast<std::int64_t>(seen.size());
    out.groups.tokens = static_cast<std::int64_t>(ids.size());
    out.groups.offsets = memory_.upload(offsets);
    out.order = memory_.upload(order);
    return out;
  }
  /// Rows of a padded array.
  [[nodiscard]] static rlhf::layout<space> rows(std::int64_t n, std::int64_t width) {
    rlhf::layout<space> out;
    out.sequences = n;
    out.width = width;
    out.tokens = n * width;
    return out;
  }

 private:
  [[nodiscard]] static std::vector<T> rounded(const std::vector<double>& values) {
    std::vector<T> out;
    for (const double x : values) out.push_back(static_cast<T>(x));
    return out;
  }
  memory<space> memory_;
};

/// One value per sequence copied to each of its tokens.
[[nodiscard]] inline std::vector<double> spread(const std::vector<double>& per_row, std::int64_t width) {
  std::vector<double> out;
  for (const double x : per_row) out.insert(out.end(), static_cast<std::size_t>(width), x);
  return out;
}

/// The mask of a [B][T] case, all ones without one.
[[nodiscard]] inline std::vector<double> mask_or_ones(const problem& p, const std::string& name, std::int64_t n) {
  return p.has(name) ? p.data(name) : std::vector<double>(static_cast<std::size_t>(n), 1.0);
}

/// All that the library reports, under its own names.
inline void put(results& out, const rlhf::statistics& found) {
  for (int i = 0; i < found.size; ++i) out.stat(found.entries[i].name, found[found.entries[i].name]);
}

}  // namespace eval
