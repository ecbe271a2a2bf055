// What a header costs: the time the compiler takes over a unit that only includes it, less an empty unit's.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "table.hpp"

namespace bench {
namespace {

namespace fs = std::filesystem;

double compile_seconds(const std::string& unit) {
  const auto start = std::chrono::steady_clock::now();
  const std::string command =
      std::string(BENCH_COMPILER) + " -std=c++20 " + BENCH_INCLUDES + " -fsyntax-only '" + unit + "' 2>/dev/null";
  if (std::system(command.c_str()) != 0) return -1;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::vector<row> compile_rows(bool quick) {
  const fs::path include = BENCH_INCLUDE_DIR;
  std::vector<std::string> headers;
  for (const auto& entry : fs::recursive_directory_iterator(include / "rlhf"))
    if (entry.path().extension() == ".hpp") headers.push_back(fs::relative(entry.path(), include).string());
  std::sort(headers.begin(), headers.end());

  const fs::path folder = fs::temp_directory_path() /
                          ("rlhf-bench-" + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count()));
  fs::create_directories(folder);
  const std::string unit = (folder / "unit.cpp").string();
  const auto cost = [&](const std::string& text) {
    std::ofstream(unit) << text;
    double best = -1;
    for (int i = 0; i < (quick ? 1 : 3); ++i) {
      const double seconds = compile_seconds(unit);
      if (seconds < 0) return -1.0;
      best = best < 0 ? seconds : std::min(best, seconds);
    }
    return best;
  };
  const double empty = cost("");
  std::vector<row> rows;
  for (const std::string& header : headers) {
    const double seconds = cost("#include \"" + header + "\"\n");
    if (seconds < 0) continue;  // wants a package that is not here
    const bool backend =
        header.find("backend/eigen") != std::string::npos || header.find("backend/thrust") != std::string::npos;
    rows.push_back(
        {"include/" + header, std::max(seconds - empty, 1e-3), backend ? 2.5 : 0.6,
         backend ? "the budget of a backend, 2.5 s over an empty unit" : "the budget of 0.6 s over an empty unit"});
  }
  fs::remove_all(folder);
  return rows;
}

}  // namespace bench
