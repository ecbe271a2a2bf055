#pragma once
// The few primitives that a backend offers, and what a kernel is.
//
// A kernel is a plain aggregate of views and hyperparameters with a templated call operator over the number type. The same
// kernel runs on plain loops, SIMD lanes, Thrust and CUDA threads: backends differ in how they walk, never in what is
// computed.

#include <concepts>
#include <cstdint>

#include "rlhf/core/layout.hpp"
#include "rlhf/math/memory.hpp"
#include "rlhf/math/monoids.hpp"

namespace rlhf::inline v1 {

/// Kernel types state what they add up: `sums` sums and `maxima` maxima, computed in `scalar`.
///
/// Optional members of any kernel:
///   `void prepare()`            called once on a private copy before it walks: read cells of earlier passes here;
///   `bool unit_stride() const`  may SIMD lanes walk it? Without the member: never, one element at a time;
///   `bool aligned() const`      with unit strides, do all arrays begin at multiples of 16 bytes? (begins_aligned)
///   `static int staged`         of a kernel of segment_reduce that works in `finish` alone: how many arrays of `stored` it reads,
///                               at `staged_input(k)`, and writes one at `staged_output()` (null: not so now), element for element
///                               of the sequences. It then has a `finish(s, row)` on copies of those, a staged_row;
///   `static int level(int k)`   of a scan kernel: -1 where recurrence k is `scan.next` of what reads no recurrence, 0 where it
///                               reads none or only such, one more than the highest level it reads elsewhere. Without the
///                               member any may read any other, and there is no `scan.next` on a device;
///   `fetch`, `solve`, `place`   of a scan kernel that lanes may walk: its call in three steps, so that a device may read once
///                               and solve several times: `place<V>(s, i, x, solve<V>(s, x, scan))`, with x of
///                               `fetch<V>(i)`, does what the call does;
///   `columns() const`           of a row kernel: about how long a row is;
///   `nanoseconds() const`       of a row kernel without sums: about how long one thread takes for a row, where that is long;
///   `static int resident`       how many blocks of 256 threads a device's processor should hold (else 2): a bound on registers.
template <class Kernel>
using accumulator_of = accumulator<typename Kernel::scalar, Kernel::sums, Kernel::maxima>;
template <class Kernel>
using totals_of = totals<Kernel::sums, Kernel::maxima>;

/// A sequence in memory where one thread walks it quickly: N arrays to read and one to write, n elements of each.
template <class S, int N>
struct staged_row {
  const S* in[static_cast<unsigned>(N)];
  S* out;
  std::int64_t n;
};

namespace backend_detail {

template <class Kernel>
RLHF_HD RLHF_INLINE void prepare(Kernel& kernel) {
  if constexpr (requires { kernel.prepare(); }) kernel.prepare();
}
template <class Kernel>
[[nodiscard]] RLHF_HD constexpr bool lanes_may_walk(const Kernel& kernel) {
  if constexpr (requires { kernel.unit_stride(); })
    return kernel.unit_stride();
  else
    return false;
}

/// Kernels that only the concept's check instantiates.
struct probe_map {
  using scalar = float;
  static constexpr int sums = 1, maxima = 0;
  template <class V>
  RLHF_HD void operator()(std::int64_t, accumulator<V, 1, 0>&) const {}
};
struct probe_segment_map : probe_map {
  template <class V>
  RLHF_HD void operator()(std::int64_t, std::int64_t, accumulator<V, 1, 0>&) const {}
};
struct probe_segment : probe_map {
  RLHF_HD void finish(std::int64_t, const totals<1>&) const {}
};
struct probe_scan {
  using scalar = float;
  static constexpr int scans = 1;
  RLHF_HD float initial(std::int64_t, int) const { return 0; }
  template <class V, class Scan>
  RLHF_HD void operator()(std::int64_t, std::int64_t, Scan&) const {}
};
struct probe_row : probe_map {
  template <class Team>
  RLHF_HD void operator()(std::int64_t, Team&, accumulator<float, 1, 0>&) const {}
};
struct probe_once {
  RLHF_HD void operator()() const {}
};

}  // namespace backend_detail

/// A place where kernels run. Every primitive returns a status, and may return before its work is done where that has
/// meaning (`synchronous` is false then); work given to one backend object is done in order.
///
/// - `map(n, kernel, totals)`: `kernel.template operator()<V>(i, accumulator)` for every i in [0, n), `lanes` elements at a
///   time; sums and maxima of all into the one cell `totals` (in the backend's space; null: not wanted).
/// - `segment_map(layout, kernel, totals)`: the same with the sequence known: `operator()<V>(sequence, i, accumulator)`.
/// - `segment_reduce(layout, kernel)`: per sequence, `operator()<V>(i, accumulator)` over its elements, then
///   `finish(sequence, totals)` once.
/// - `segment_scan(layout, kernel)`: per sequence from its last element to its first, `operator()<V>(sequence, i, scan)`,
///   where `scan.inclusive(k, a, b)` is y_i = b_i + a_i y_{i+1}, `scan.exclusive(k, a, b)` is y_{i+1} of the same recurrence,
///   and `scan.next(k, x)` is x_{i+1}; beyond the end each is `kernel.initial(sequence, k)`. One k for each call site that runs.
/// - `rows(n, kernel, totals)`: a team per row, `operator()(row, team, accumulator)`, where `team.each(n, f)` calls
///   `f.template operator()<V>(j)`, `team.reduce<State>(n, f, start)` gives the `State<scalar>` of all
///   `f.template operator()<V>(j)`, and `team.one(f)` calls `f()` once, after all that came before. State is a plain struct
///   whose members are all of its number type, with `add` of a number and `merge`; `start` (without it: the default) is one
///   to which nothing was added. With `add_unseen` and `sound` a team may add a block unseen and take it back.
/// - `argsort(n, keys, order)`: the places of the keys from the smallest to the largest; equal ones stay in their order, NaN
///   comes last.
/// - `once(f)`: `f()` a single time, in order with the rest.
/// - `scratch<T>(n)`: n elements in the backend's space, given back when the object goes; null when there is no memory.
/// - `read(cell)`: a cell of the backend's space as a host value; waits for it.
///
/// Optional: `status trouble() const`, of a backend whose `read` can fail: what went wrong. Drivers read by `read_cell`.
template <class B>
concept backend = requires(B& b, layout<typename B::space> sequences, totals<1>* cell, std::int64_t* order) {
  typename B::space;
  { B::deterministic } -> std::convertible_to<bool>;
  { B::synchronous } -> std::convertible_to<bool>;
  { b.map(std::int64_t{}, backend_detail::probe_map{}, cell) } -> std::same_as<status>;
  { b.segment_map(sequences, backend_detail::probe_segment_map{}, cell) } -> std::same_as<status>;
  { b.segment_reduce(sequences, backend_detail::probe_segment{}) } -> std::same_as<status>;
  { b.segment_scan(sequences, backend_detail::probe_scan{}) } -> std::same_as<status>;
  { b.rows(std::int64_t{}, backend_detail::probe_row{}, cell) } -> std::same_as<status>;
  { b.argsort(std::int64_t{}, static_cast<const float*>(nullptr), order) } -> std::same_as<status>;
  { b.once(backend_detail::probe_once{}) } -> std::same_as<status>;
  { b.template scratch<float>(std::int64_t{}).data() } -> std::same_as<float*>;
  { b.read(cell) } -> std::same_as<totals<1>>;
};

/// Reads a cell and tells whether that went well; what cannot be read is as `read` leaves it.
template <class B, class T>
[[nodiscard]] status read_cell(B& be, const T* cell, T& value) {
  value = be.read(cell);
  if constexpr (requires {
                  { be.trouble() } -> std::same_as<status>;
                })
    return be.trouble();
  else
    return {};
}

}  // namespace rlhf::inline v1
