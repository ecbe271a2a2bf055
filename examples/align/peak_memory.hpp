#pragma once
// How much memory this process has held, as Linux counts it.

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

/// Counts the peak from what is held now. Where the system does not allow it the peak stays that of the whole process.
inline void forget_peak_memory() { std::ofstream("/proc/self/clear_refs") << 5; }

}  // namespace align
