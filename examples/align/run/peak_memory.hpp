#pragma once
// How much memory this process has held, as Linux counts it.

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

namespace align {

/// The most resident memory since the start or since `forget_peak_memory`, in bytes; 0 where the system does not say.
[[nodiscard]] inline std::int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word)
    if (word == "VmHWM:") {
      std::int64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  return 0;
}

/// The largest peak that was forgotten.
[[nodiscard]] inline std::int64_t& forgotten_peak() {
  static std::int64_t most = 0;
  return most;
}

/// Counts the peak from what is held now. Where the system does not allow it the peak stays that of the whole process.
inline void forget_peak_memory() {
  forgotten_peak() = std::max(forgotten_peak(), peak_memory());
  std::ofstream("/proc/self/clear_refs") << 5;
}

/// The most resident memory since the start or since `forget_all_peaks`, whatever was forgotten in between.
[[nodiscard]] inline std::int64_t peak_of_all() { return std::max(forgotten_peak(), peak_memory()); }
inline void forget_all_peaks() {
  forget_peak_memory();
  forgotten_peak() = 0;
}

}  // namespace align
