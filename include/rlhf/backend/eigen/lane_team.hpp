#pragma once
// A row walked on lanes: the team of the Eigen backend.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "rlhf/backend/eigen/lane_math.hpp"
#include "rlhf/backend/eigen/lane_memory.hpp"

namespace rlhf::inline v1 {

/// One thread that walks a row: packs of four registers, then single registers, then elements.
template <class T, unsigned Isa = instruction_set>
class lane_team {
  static constexpr int wide_registers = 4;
  using wide = lane<T, wide_registers, Isa>;
  using narrow = lane<T, 1, Isa>;

 public:
  template <class F>
  RLHF_INLINE void each(std::int64_t n, F&& f) const {
    const std::remove_cvref_t<F> own(f);  // a copy that no store can reach stays in registers
    std::int64_t j = 0;
    for (; n - j >= wide::size; j += wide::size) own.template operator()<wide>(j);
    for (; n - j >= narrow::size; j += narrow::size) own.template operator()<narrow>(j);
    for (; j < n; ++j) own.template operator()<T>(j);
  }
  template <class F>
  RLHF_INLINE void one(F&& f) const {
    f();
  }
  /// Each lane keeps a state of its own; they are merged in a fixed order.
  template <template <class> class State, class F>
  [[nodiscard]] RLHF_INLINE State<T> reduce(std::int64_t n, F&& f, const State<T>& start = {}) const {
    const std::remove_cvref_t<F> own(f);
    std::int64_t j = 0;
    State<T> total = start;
    if (n >= narrow::size) {
      State<narrow> some = everywhere<State<narrow>, narrow>(start);
      if (n >= wide::size) {
        State<wide> all = everywhere<State<wide>, wide>(start);
        while (n - j >= wide::size) j = add_block(all, own, j, n);
        const State<wide> done = all;  // what is indexed lives in memory; the state of the loop must not
        some = register_of<State<narrow>>(done, 0);
        for (int k = 1; k < wide_registers; ++k) some.merge(register_of<State<narrow>>(done, k));
      }
      for (; n - j >= narrow::size; j += narrow::size) some.add(own.template operator()<narrow>(j));
      for (int half = narrow::size / 2; half > 0; half /= 2) some.merge(upper<State<narrow>>(some, half));
      total = first_of<State<T>>(some);
    }
    for (; j < n; ++j) total.add(own.template operator()<T>(j));
    return total;
  }

 private:
  static constexpr std::int64_t block = 16 * wide::size;

  /// The elements of a block from j, unseen where the state takes them so and is sound afterwards.
  template <class S, class F>
  [[nodiscard]] static RLHF_INLINE std::int64_t add_block(S& state, const F& own, std::int64_t j, std::int64_t n) {
    const std::int64_t stop = j + std::min(block, (n - j) / wide::size * wide::size);
    if constexpr (requires(const wide& x) { state.add_unseen(x); }) {
      S guess = state;
      for (std::int64_t k = j; k < stop; k += wide::size) guess.add_unseen(own.template operator()<wide>(k));
      if (__builtin_expect(guess.sound(), 1)) {
        state = guess;
        return stop;
      }
    }
    for (; j < stop; j += wide::size) state.add(own.template operator()<wide>(j));
    return stop;
  }

  // A state is a struct of numbers and nothing else, so it is an array of them.
  template <class Number, class S>
  [[nodiscard]] static RLHF_INLINE Number* members(S& s) {
    return reinterpret_cast<Number*>(&s);
  }
  template <class Number, class S>
  [[nodiscard]] static RLHF_INLINE const Number* members(const S& s) {
    return reinterpret_cast<const Number*>(&s);
  }
  template <class Number, class S>
  static constexpr int count = [] {
    static_assert(std::is_standard_layout_v<S> && sizeof(S) % sizeof(Number) == 0,
                  "rlhf: the State of a reduction is a plain struct whose members are all of its number type");
    return static_cast<int>(sizeof(S) / sizeof(Number));
  }();
  /// A state of scalars in every lane.
  template <class To, class Number, class From>
  [[nodiscard]] static RLHF_INLINE To everywhere(const From& from) {
    To to;
    for (int m = 0; m < count<T, From>; ++m) members<Number>(to)[m] = Number(members<T>(from)[m]);
    return to;
  }
  template <class To, class From>
  [[nodiscard]] static RLHF_INLINE To register_of(const From& from, int k) {
    To to;
    for (int m = 0; m < count<wide, From>; ++m) members<narrow>(to)[m].v[0] = members<wide>(from)[m].v[k];
    return to;
  }
  /// Lanes [half, 2 half) moved down to [0, half).
  template <class S>
  [[nodiscard]] static RLHF_INLINE S upper(const S& from, int half) {
    S to = from;
    for (int m = 0; m < count<narrow, S>; ++m)
      for (int j = 0; j < half; ++j) members<narrow>(to)[m].v[0][j] = members<narrow>(from)[m].v[0][j + half];
    return to;
  }
  template <class To, class From>
  [[nodiscard]] static RLHF_INLINE To first_of(const From& from) {
    To to;
    for (int m = 0; m < count<narrow, From>; ++m) members<T>(to)[m] = members<narrow>(from)[m].v[0][0];
    return to;
  }
};

}  // namespace rlhf::inline v1
