#pragma once
// What the fuzz targets share. A target is a .cpp here with `seeds()` and `one_input()`: small valid inputs to start from,
// and what must hold for any input. Beyond a std::runtime_error, which is how readers refuse, nothing may be thrown.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace fuzz {

std::vector<std::string> seeds();
void one_input(std::span<const std::byte> bytes);

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

/// Reads with `read`, and with what it gave does `use`; what is refused must be so with a sentence.
template <class Read, class Use>
void refused_or(Read&& read, Use&& use) {
  try {
    auto value = read();
    use(value);
  } catch (const std::runtime_error& problem) {
    require(std::string(problem.what()).size() > 10, "an error has a message");
  }
}

inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace fuzz

/// The first folder on the command line gets the seeds.
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  const auto last = *arguments + *count;
  const auto folder =
      std::find_if(*arguments + 1, last, [](const char* a) { return std::filesystem::is_directory(a); });
  if (folder == last) return 0;
  int number = 0;
  for (const std::string& seed : fuzz::seeds())
    std::ofstream(std::filesystem::path(*folder) / ("seed-" + std::to_string(number++)), std::ios::binary) << seed;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::one_input(std::as_bytes(std::span(data, size)));
  return 0;
}
