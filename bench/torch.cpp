// The same work in PyTorch, measured by bench/peers/torch_rows.py in a process of its own.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>

#include "table.hpp"

namespace bench {
namespace {

/// Runs the script; seconds by row name. Empty where there is no Python with torch.
std::map<std::string, double> run_peer(bool quick) {
  const char* const chosen = std::getenv("RLHF_PYTHON");
  // PyTorch's best: the widest instructions, and temporaries that are not given back to the system between calls.
  const std::string settings =
      "ATEN_CPU_CAPABILITY=${ATEN_CPU_CAPABILITY-avx512} MALLOC_MMAP_THRESHOLD_=8000000000 "
      "MALLOC_TRIM_THRESHOLD_=16000000000 ";
  std::vector<std::string> pythons = {"python3", "/usr/bin/python3"};
  if (chosen != nullptr) pythons = {chosen};
  std::map<std::string, double> seconds;
  for (const std::string& python : pythons) {
    std::FILE* const pipe =
        popen((settings + python + " '" BENCH_PEERS_DIR "/torch_rows.py'" + (quick ? " --quick" : "") + " 2>/dev/null")
                  .c_str(),
              "r");
    if (pipe == nullptr) continue;
    char line[256];
    while (std::fgets(line, sizeof line, pipe) != nullptr) {
      std::istringstream fields(line);
      std::string name;
      double value = 0;
      if (fields >> name >> value) seconds[name] = value;
    }
    if (pclose(pipe) == 0 && !seconds.empty()) break;
    seconds.clear();
  }
  return seconds;
}

}  // namespace

std::vector<row> torch_rows(const std::vector<row>& ours, bool quick) {
  const auto before = run_peer(quick);
  if (before.empty()) {
    std::fprintf(
        stderr,
        "rlhf-bench: no rows against PyTorch, `import torch` works in no python3 (RLHF_PYTHON names another)\n");
    return {};
  }
  // Ours was measured just before; theirs runs twice and the better run counts.
  std::map<std::string, double> mine_by_name;
  for (const row& r : ours) mine_by_name[r.name] = r.ours;
  const auto after = run_peer(quick);
  std::vector<row> rows;
  for (const auto& [name, seconds] : before) {
    const auto mine = mine_by_name.find(name);
    if (mine == mine_by_name.end()) continue;
    const auto later = after.find(name);
    const double theirs = later == after.end() ? seconds : std::min(seconds, later->second);
    rows.push_back({name + "/torch", mine->second, theirs, "PyTorch, its fastest formulation and settings"});
  }
  return rows;
}

}  // namespace bench
