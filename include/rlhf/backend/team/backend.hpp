#pragma once
// A backend of groups of threads: which body, in what shape, in what order. Where the groups run is the executor's.

#include <cstdint>

#include "rlhf/backend/team/bodies.hpp"
#include "rlhf/backend/team/scan.hpp"
#include "rlhf/backend/team/segments.hpp"
#include "rlhf/backend/team/staged.hpp"

namespace rlhf::inline v1 {

/// All primitives but argsort as launches of bodies. An executor has `space`, `deterministic`, `synchronous` and
///
/// - `launch<Width>(function, groups, body)`: `body(group, index, groups)` for so many groups of Width threads, which fill whole
///   blocks (launch::groups); in order with all else;
/// - `scratch<T>(n)`, `read(cell)`, `argsort(n, keys, order)`: as the concept says.
///
/// Totals are summed in two steps of a fixed order that depends on the sizes alone.
template <class Executor>
class team_backend : public Executor {
 public:
  using space = typename Executor::space;
  using Executor::Executor;

  template <class Kernel>
  status map(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    using body = team_detail::map_body<Kernel>;
    const std::int64_t groups = launch::map_groups(n, body::lanes);
    return total("map", groups, out, [&](totals_of<Kernel>* partial) {
      return this->template launch<launch::block_threads>("map", groups, body{kernel, n, partial});
    });
  }
  template <class Kernel>
  status segment_map(const layout<space>& sequences, Kernel kernel, totals_of<Kernel>* out) {
    using body = team_detail::segment_map_body<Kernel, space>;
    const std::int64_t groups = launch::map_groups(sequences.tokens, body::lanes);
    body walk = body::of(kernel, sequences, groups);
    return total("segment_map", groups, out, [&](totals_of<Kernel>* partial) {
      walk.partial = partial;
      return this->template launch<launch::block_threads>("segment_map", groups, walk);
    });
  }
  template <class Kernel>
  status segment_reduce(const layout<space>& sequences, Kernel kernel) {
    constexpr const char* name = "segment_reduce";
    using make = team_detail::segment_reduce_body<Kernel, space>;
    if constexpr (team_detail::finishes_alone<Kernel>()) {
      if constexpr (requires { Kernel::staged; }) {
        const auto body = team_detail::staged_reduce_body<Kernel, space>::of(kernel, sequences);
        if (body.tile > 0)
          return this->template launch<launch::block_threads>(
              name, launch::smaller(launch::ceil_div(sequences.sequences, body.tile), launch::most_map_blocks), body);
      }
      return each_sequence<1>(name, sequences, make{kernel, sequences, false});
    } else {
      const int width = launch::reduce_width(sequences.sequences, sequences.tokens);
      const make body = make::of(kernel, sequences, width);
      if (width == 8) return each_sequence<8>(name, sequences, body);
      if (width == 32) return each_sequence<32>(name, sequences, body);
      return each_sequence<launch::block_threads>(name, sequences, body);
    }
  }
  template <class Kernel>
  status segment_scan(const layout<space>& sequences, Kernel kernel) {
    constexpr const char* name = "segment_scan";
    if constexpr (requires { kernel.unit_stride(); }) {
      const launch::scan_plan plan =
          launch::plan_scan(sequences.sequences, sequences.tokens, team_detail::sequence_walk<Kernel>::share_of_thread);
      const team_detail::scan_body<Kernel, space> body{kernel, sequences, team_detail::walks_shares(kernel)};
      if (plan.width == 32) return each_sequence<32>(name, sequences, body);
      if (plan.chunks == 1) return each_sequence<launch::block_threads>(name, sequences, body);
      return scan_in_chunks(sequences, kernel, plan.chunks);
    } else {
      return each_sequence<1>(name, sequences, team_detail::serial_scan_body<Kernel, space>{kernel, sequences});
    }
  }
  template <class Kernel>
  status rows(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    std::int64_t columns = 0;
    if constexpr (requires { kernel.columns(); }) columns = kernel.columns();
    return launch::row_width(columns) == 32 ? rows_of<32>(n, kernel, out)
                                            : rows_of<launch::block_threads>(n, kernel, out);
  }
  template <class F>
  status once(F f) {
    return this->template launch<1>("once", launch::groups(1, 1, 1), team_detail::once_body<F>{f});
  }

 private:
  /// Runs `walk(partial)` on so many groups and folds what they leave.
  template <class Total, class Walk>
  [[nodiscard]] status total(const char* function, std::int64_t groups, Total* out, const Walk& walk) {
    if (out == nullptr) return groups > 0 ? walk(nullptr) : status{};
    if (groups == 1) return walk(out);
    auto partial = this->template scratch<Total>(groups);
    if (partial.data() == nullptr) return remark::memory(function);
    if (groups > 0)
      if (auto s = walk(partial.data()); !s) return s;
    return this->template launch<launch::block_threads>(function, 1,
                                                        team_detail::fold_partials<Total>{partial.data(), groups, out});
  }
  template <int Width, class Kernel>
  [[nodiscard]] status rows_of(std::int64_t n, const Kernel& kernel, totals_of<Kernel>* out) {
    const std::int64_t groups = launch::row_groups(n, Width);
    return total("rows", groups, out, [&](totals_of<Kernel>* partial) {
      return this->template launch<Width>("rows", groups, team_detail::rows_body<Kernel>{kernel, n, partial});
    });
  }
  template <int Width, class Body>
  [[nodiscard]] status each_sequence(const char* function, const layout<space>& sequences, const Body& body) {
    if (sequences.sequences <= 0) return {};
    return this->template launch<Width>(function, launch::groups(sequences.sequences, Width, launch::most_blocks),
                                        body);
  }
  template <class Kernel>
  [[nodiscard]] status scan_in_chunks(const layout<space>& sequences, const Kernel& kernel, std::int64_t chunks) {
    constexpr const char* name = "segment_scan";
    using T = typename Kernel::scalar;
    using namespace team_detail;
    // One at least: it is what keeps the shifts.
    constexpr int passes = recurrences<Kernel>::passes() > 0 ? recurrences<Kernel>::passes() : 1;
    const std::int64_t parts = sequences.sequences * chunks;
    auto found = this->template scratch<affine_maps<T, Kernel::scans>>(passes * parts);
    auto shifted = this->template scratch<carried<T, Kernel::scans>>(recurrences<Kernel>::shifts > 0 ? parts : 1);
    if (found.data() == nullptr || shifted.data() == nullptr) return remark::memory(name);
    const chunk_maps<Kernel> maps{found.data(), shifted.data(), chunks, parts};
    const bool shares = walks_shares(kernel);
    for (int pass = 0; pass < passes; ++pass)
      if (auto s = this->template launch<launch::block_threads>(
              name, parts, scan_chunks_body<Kernel, space, false>{kernel, sequences, shares, maps, pass});
          !s)
        return s;
    return this->template launch<launch::block_threads>(
        name, parts, scan_chunks_body<Kernel, space, true>{kernel, sequences, shares, maps, passes});
  }
};

}  // namespace rlhf::inline v1
