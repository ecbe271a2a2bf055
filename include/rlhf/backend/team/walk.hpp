#pragma once
// A row walked by a group of threads: the team that row kernels see.
//
// The row is cut at multiples of 16 bytes: a ragged head, packs that neighbouring threads read side by side, a ragged tail.

#include <cstdint>
#include <type_traits>

#include "rlhf/backend/team/pack.hpp"
#include "rlhf/math/monoids.hpp"

namespace rlhf::inline v1 {

namespace walk_detail {

// What a column's function may tell of itself: `stored`, the type of all it reads and writes, and `origin()`, where its column 0
// lies: null where its arrays lie differently against 16 bytes. Packs are then read and written in one piece.
template <class F, class T>
struct stored_of {
  using type = T;
};
template <class F, class T>
  requires requires { typename F::stored; }
struct stored_of<F, T> {
  using type = typename F::stored;
};

template <class F>
concept placed_in_memory = requires(const F& f) { f.origin(); };

/// Columns before the first whole pack, and how many packs there are.
struct cut {
  std::int64_t head = 0, packs = 0, tail = 0;  ///< tail: the first column after the packs
};
template <int N, class F>
[[nodiscard]] RLHF_HD RLHF_INLINE cut cut_of(std::int64_t n, const F& f) {
  cut c;
  if constexpr (placed_in_memory<F>) {
    constexpr std::uintptr_t size = sizeof(*f.origin());
    const std::uintptr_t over = reinterpret_cast<std::uintptr_t>(f.origin()) % (size * N);
    if (f.origin() == nullptr || over % size != 0) return {n, 0, n};  // one by one
    c.head = over == 0 ? 0 : static_cast<std::int64_t>((size * N - over) / size);
    c.head = c.head < n ? c.head : n;
  }
  c.packs = (n - c.head) / N;
  c.tail = c.head + c.packs * N;
  return c;
}

template <class F, class V>
concept in_two_steps =
    requires(const F& f) { f.template place<V>(std::int64_t{}, f.template fetch<V>(std::int64_t{})); };

/// Adds what stands at the columns from j; several at once where the state takes them so, with their places where it asks.
template <class State, class T, int N, access How>
RLHF_HD RLHF_INLINE void add(State& state, const pack<T, N, How>& z, std::int64_t j) {
  if constexpr (requires { state.add_at(z.v, j); }) {
    state.add_at(z.v, j);
  } else if constexpr (requires { state.add_all(z.v); }) {
    state.add_all(z.v);
  } else {
    for (int k = 0; k < N; ++k) state.add(z.v[k]);
  }
}
template <class State, class T>
RLHF_HD RLHF_INLINE void add_one(State& state, T z, std::int64_t j) {
  pack<T, 1> one;
  one.v[0] = z;
  add(state, one, j);
}

template <class State>
struct merge_states {
  RLHF_HD RLHF_INLINE State operator()(State a, const State& b) const {
    a.merge(b);
    return a;
  }
};

/// A column and what stands there; the larger one goes first, of equal ones the first.
template <class T>
struct found {
  T z = T(0);
  std::int64_t place = -1;  ///< -1: nothing
  [[nodiscard]] RLHF_HD RLHF_INLINE bool before(const found& other) const {
    if (place < 0 || other.place < 0) return place >= 0;
    return z > other.z || (!(z < other.z) && place < other.place);
  }
};
template <class T>
struct first_found {
  RLHF_HD RLHF_INLINE found<T> operator()(const found<T>& a, const found<T>& b) const { return b.before(a) ? b : a; }
};
/// The first in that order of what comes after a given one.
template <class T>
struct next_largest {
  found<T> after, best{};
  bool any = false;  ///< is there one to come after?
  template <std::size_t N>
  RLHF_HD RLHF_INLINE void add_at(const T (&z)[N], std::int64_t j) {
    for (unsigned k = 0; k < N; ++k) {
      if (z[k] != z[k]) continue;
      const found<T> it{z[k], j + k};
      if ((!any || after.before(it)) && it.before(best)) best = it;
    }
  }
};

}  // namespace walk_detail

/// A team of the threads of a group, for the primitive `rows`. It knows the places of what it reduces (`knows_places`), so that
/// a state may have `add_at(z, j)`, and finds the largest of a row.
template <class T, class Group>
class walking_team {
  static constexpr int width = Group::width;
  template <class F>
  static constexpr int lanes = static_cast<int>(16 / sizeof(typename walk_detail::stored_of<F, T>::type));
  template <class F>
  using number_of = pack<T, lanes<F>, walk_detail::placed_in_memory<F> ? access::aligned : access::any>;
  /// Packs that a thread has on their way at a time: as many as it has registers to hold.
  template <class F>
  static constexpr int batch_of = lanes<F> >= 16 ? 1 : 16 / lanes<F>;

 public:
  static constexpr bool knows_places = true;

  RLHF_HD RLHF_INLINE explicit walking_team(Group& group) : group_(group) {}

  template <class F>
  RLHF_HD RLHF_INLINE void each(std::int64_t n, F&& f) const {
    group_.barrier();
    group_.run([&](int t) { each_share(t, n, f); });
  }
  template <class F>
  RLHF_HD RLHF_INLINE void one(F&& f) const {
    group_.barrier();
    group_.once(f);
    group_.barrier();
  }
  template <template <class> class State, class F>
  [[nodiscard]] RLHF_HD RLHF_INLINE State<T> reduce(std::int64_t n, F&& f, const State<T>& start = {}) const {
    typename Group::template per<State<T>> mine;
    group_.barrier();
    group_.run([&](int t) {
      State<T> state = start;
      reduce_share(t, n, f, state);
      mine[t] = state;
    });
    return group_.fold(mine, walk_detail::merge_states<State<T>>{});
  }
  /// The k largest of `f.operator()<V>(j)`, from the largest down, of equal ones the first first: `emit(i, value, place)` by one
  /// thread for each. Each thread keeps its own best; whoever's was taken looks at its share of the row once more.
  template <class F, class Emit>
  RLHF_HD RLHF_INLINE void largest(std::int64_t n, F&& f, std::int64_t k, Emit&& emit) const {
    using walk_detail::found;
    typename Group::template per<found<T>> best, offered;
    group_.barrier();
    group_.run([&](int t) { best[t] = next_of(t, n, f, {}, false); });
    for (std::int64_t i = 0; i < k; ++i) {
      group_.run([&](int t) { offered[t] = best[t]; });
      const found<T> top = group_.fold(offered, walk_detail::first_found<T>{});
      group_.once(
          [&] { emit(i, top.place < 0 ? T(not_a_number) : top.z, top.place < 0 ? std::int64_t{0} : top.place); });
      group_.run([&](int t) {
        if (best[t].place == top.place && top.place >= 0) best[t] = next_of(t, n, f, top, true);
      });
    }
    group_.barrier();
  }

 private:
  template <class F>
  static RLHF_HD RLHF_INLINE void each_share(int t, std::int64_t n, const F& f) {
    using V = number_of<F>;
    constexpr int batch = batch_of<F>;
    const walk_detail::cut c = walk_detail::cut_of<V::size>(n, f);
    for (std::int64_t j = t; j < c.head; j += width) f.template operator()<T>(j);
    std::int64_t p = t;
    if constexpr (walk_detail::in_two_steps<F, V>) {
      // All loads before the first store: the compiler may not move one across the other.
      for (; p + (batch - 1) * width < c.packs; p += batch * width) {
        V z[static_cast<unsigned>(batch)];
        for (int b = 0; b < batch; ++b) z[b] = f.template fetch<V>(c.head + (p + b * width) * V::size);
        for (int b = 0; b < batch; ++b) f.template place<V>(c.head + (p + b * width) * V::size, z[b]);
      }
    }
    for (; p < c.packs; p += width) f.template operator()<V>(c.head + p * V::size);
    for (std::int64_t j = c.tail + t; j < n; j += width) f.template operator()<T>(j);
  }
  template <class F, class State>
  static RLHF_HD RLHF_INLINE void reduce_share(int t, std::int64_t n, const F& f, State& state) {
    using V = number_of<F>;
    constexpr int batch = batch_of<F>;
    const walk_detail::cut c = walk_detail::cut_of<V::size>(n, f);
    for (std::int64_t j = t; j < c.head; j += width) walk_detail::add_one(state, f.template operator()<T>(j), j);
    std::int64_t p = t;
    for (; p + (batch - 1) * width < c.packs; p += batch * width) {
      V z[static_cast<unsigned>(batch)];
      for (int b = 0; b < batch; ++b) z[b] = f.template operator()<V>(c.head + (p + b * width) * V::size);
      for (int b = 0; b < batch; ++b) walk_detail::add(state, z[b], c.head + (p + b * width) * V::size);
    }
    for (; p < c.packs; p += width) {
      const std::int64_t j = c.head + p * V::size;
      walk_detail::add(state, f.template operator()<V>(j), j);
    }
    for (std::int64_t j = c.tail + t; j < n; j += width) walk_detail::add_one(state, f.template operator()<T>(j), j);
  }
  template <class F>
  [[nodiscard]] static RLHF_HD RLHF_INLINE walk_detail::found<T> next_of(int t, std::int64_t n, const F& f,
                                                                         const walk_detail::found<T>& after, bool any) {
    walk_detail::next_largest<T> state{after, {}, any};
    reduce_share(t, n, f, state);
    return state.best;
  }

  Group& group_;
};

}  // namespace rlhf::inline v1
