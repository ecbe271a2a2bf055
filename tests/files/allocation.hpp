#pragma once
// Counts what a program allocates.

#include <atomic>
#include <cstddef>

/// Bytes of the largest single allocation and of all since the last reset.
inline std::atomic<std::size_t> largest_allocation = 0, all_allocations = 0;

inline void reset_allocations() { largest_allocation = 0, all_allocations = 0; }
