#pragma once
// A row walked on lanes: the team of the Eigen backend.

#include <cstdint>
#include <cstring>
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
  [[nodiscard]] RLHF_INLINE State<T> reduce(std::int64_t n, F&& f) const {
    const std::remove_cvref_t<F> own(f);
    std::int64_t j = 0;
    State<T> total;
    if (n >= narrow::size) {
      State<narrow> some;
      if (n >= wide::size) {
        State<wide> all;
        for (; n - j >= wide::size; j += wide::size) all.add(own.template operator()<wide>(j));
        some = register_of<State<narrow>>(all, 0);
        for (int k = 1; k < wide_registers; ++k) some.merge(register_of<State<narrow>>(all, k));
      }
      for (; n - j >= narrow::size; j += narrow::size) some.add(own.template operator()<narrow>(j));
      for (int half = narrow::size / 2; half > 0; half /= 2) some.merge(upper<State<narrow>>(some, half));
      total = first_of<State<T>>(some);
    }
    for (; j < n; ++j) total.add(own.template operator()<T>(j));
    return total;
  }

 private:
  // A state is a struct of numbers and nothing else, so it is an array of them.
  template <class Number, class S>
  struct members {
    static_assert(std::is_trivially_copyable_v<S> && sizeof(S) % sizeof(Number) == 0,
                  "rlhf: the State of a reduction is a trivially copyable struct whose members are all of its number type");
    static constexpr unsigned count = sizeof(S) / sizeof(Number);
    Number number[count];
    RLHF_INLINE explicit members(const S& s) { std::memcpy(number, &s, sizeof s); }
    [[nodiscard]] RLHF_INLINE S state() const {
      S s;
      std::memcpy(&s, number, sizeof s);
      return s;
    }
  };
  template <class To, class From>
  [[nodiscard]] static RLHF_INLINE To register_of(const From& from, int k) {
    const members<wide, From> source(from);
    members<narrow, To> out{To{}};
    for (unsigned m = 0; m < source.count; ++m) out.number[m].v[0] = source.number[m].v[k];
    return out.state();
  }
  /// Lanes [half, 2 half) moved down to [0, half).
  template <class S>
  [[nodiscard]] static RLHF_INLINE S upper(const S& from, int half) {
    members<narrow, S> out(from);
    for (auto& x : out.number)
      for (int j = 0; j < half; ++j) x.v[0][j] = x.v[0][j + half];
    return out.state();
  }
  template <class To, class From>
  [[nodiscard]] static RLHF_INLINE To first_of(const From& from) {
    const members<narrow, From> source(from);
    members<T, To> out{To{}};
    for (unsigned m = 0; m < source.count; ++m) out.number[m] = source.number[m].v[0][0];
    return out.state();
  }
};

}  // namespace rlhf::inline v1
