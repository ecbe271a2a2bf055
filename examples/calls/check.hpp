#pragma once
// What the little programs check themselves with: each ends with `return failures()`.

#include <cmath>
#include <cstdio>

#include "rlhf/core/status.hpp"

namespace calls {

inline int& failures() {
  static int count = 0;
  return count;
}

/// Prints a number beside the one it should be.
inline void expect(const char* what, double got, double want, double tolerance = 1e-6) {
  const bool good = std::abs(got - want) <= tolerance * (1 + std::abs(want));
  if (!good) ++failures();
  std::printf("%-48s %13.7g   wants %13.7g%s\n", what, got, want, good ? "" : "   WRONG");
}

/// Prints a sentence that should be true.
inline void expect(const char* what, bool holds) {
  if (!holds) ++failures();
  std::printf("%-48s %s\n", what, holds ? "yes" : "NO");
}

/// Prints the message of a call that failed; an empty mask is a remark, not a failure.
inline void expect(const rlhf::status& done) {
  if (done || done.code == rlhf::errc::empty_mask) return;
  ++failures();
  std::printf("%s\n", done.message().c_str());
}

}  // namespace calls
