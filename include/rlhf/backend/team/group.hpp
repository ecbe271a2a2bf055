#pragma once
// A group of threads that works in step, and its twin on the host, which does the threads' parts one after the other.
//
// A body of a kernel is written over a group. What stands between the calls of the group is done alike by all its threads (and
// once by the twin); what is a thread's own lives in `per<X>` and is touched inside `run` alone.

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// What every group offers; `width` threads, one function a line.
///
/// - `per<X>`: an X of each thread, `x[t]` for the thread t that runs.
/// - `common<X, N>`: N of X that all threads see, at `data()`; one object in a body, and a barrier between who writes and who reads.
/// - `run(f)`: `f(t)` for each thread t.
/// - `barrier()`: all that came before is done, and seen by all.
/// - `fold(x, merge)`: the x of all threads merged in the order of the threads, by a fixed tree; known to all threads.
/// - `scan(x, identity, compose)`: each x[t] becomes compose of all x[u] with u < t, and the result is that of all threads;
///   `compose(earlier, later)` need not commute.
/// - `shift(x, before)`: each x[t] becomes x[t - 1], x[0] becomes `before`, and the result is what the last thread had.
/// - `once(f)`: `f()` by one thread, without waiting.
/// `Tag` keeps the code of translation units with different -m flags apart.
template <int Width, class Tag = void>
struct serial_group {
  static constexpr int width = Width;

  template <class X>
  struct per {
    X x[static_cast<unsigned>(Width)];
    [[nodiscard]] RLHF_HD RLHF_INLINE X& operator[](int t) { return x[t]; }
  };
  template <class X, int N>
  struct common {
    X x[static_cast<unsigned>(N)];
    [[nodiscard]] RLHF_HD RLHF_INLINE X* data() { return x; }
  };
  template <class F>
  RLHF_HD RLHF_INLINE void run(F&& f) const {
    for (int t = 0; t < Width; ++t) f(t);
  }
  RLHF_HD RLHF_INLINE void barrier() const {}
  template <class F>
  RLHF_HD RLHF_INLINE void once(F&& f) const {
    f();
  }
  template <class X, class Merge>
  [[nodiscard]] RLHF_HD RLHF_INLINE X fold(per<X>& x, const Merge& merge) const {
    for (int distance = 1; distance < Width; distance *= 2)
      for (int t = 0; t + distance < Width; t += 2 * distance) x[t] = merge(x[t], x[t + distance]);
    return x[0];
  }
  template <class X, class Compose>
  [[nodiscard]] RLHF_HD RLHF_INLINE X scan(per<X>& x, const X& identity, const Compose& compose) const {
    X before = identity;
    for (int t = 0; t < Width; ++t) {
      const X mine = x[t];
      x[t] = before;
      before = compose(before, mine);
    }
    return before;
  }
  template <class X>
  [[nodiscard]] RLHF_HD RLHF_INLINE X shift(per<X>& x, const X& before) const {
    const X last = x[Width - 1];
    for (int t = Width - 1; t > 0; --t) x[t] = x[t - 1];
    x[0] = before;
    return last;
  }
};

}  // namespace rlhf::inline v1
