#pragma once
// The two public macros, and the compilers and flags the library refuses.

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0)
#error \
    "rlhf: -ffast-math (or -Ofast, or -ffinite-math-only) removes NaN and infinity from the language, which the masks, the log-probabilities of impossible tokens and the non-finite counters need. Use -O3 -fno-math-errno -fno-trapping-math instead."
#endif

#if !defined(__CUDACC__) && defined(__cplusplus) && __cplusplus < 202002L
#error "rlhf needs C++20: compile with -std=c++20"
#endif

/// Marks a function that also runs on the device when a CUDA compiler reads it; nothing to other compilers.
#if defined(__CUDACC__)
#define RLHF_HD __host__ __device__
#else
#define RLHF_HD
#endif

/// Marks a function that must leave no symbol of its own: translation units compiled with other instruction sets may then
/// be linked together without one's code being taken for the other's.
#if defined(__GNUC__) || defined(__clang__)
#define RLHF_INLINE inline __attribute__((always_inline))
#else
#define RLHF_INLINE inline
#endif
