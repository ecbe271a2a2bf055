#pragma once
// Subnormal numbers cost a hundred cycles each on x86 and mean nothing to a network: activations that fade away can
// make
// a step ten times slower.

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace align {

/// Lets the calling thread read and write subnormal numbers as zero from now on; does nothing on other machines than
/// x86.
inline void flush_subnormals() {
#if defined(__SSE2__)
  _mm_setcsr(_mm_getcsr() | 0x8040u);  // flush to zero, denormals are zero
#endif
}

/// The same for the life of the object; the thread's own setting comes back after it. Every function of the model that
/// runs in a thread pool holds one, so its results do not depend on the setting of the thread it happens to run in.
class flushed_subnormals {
 public:
#if defined(__SSE2__)
  flushed_subnormals() : before_(_mm_getcsr()) { flush_subnormals(); }
  ~flushed_subnormals() { _mm_setcsr(before_); }
#else
  flushed_subnormals() {}
#endif
  flushed_subnormals(const flushed_subnormals&) = delete;
  flushed_subnormals& operator=(const flushed_subnormals&) = delete;

 private:
#if defined(__SSE2__)
  unsigned before_;
#endif
};

}  // namespace align
