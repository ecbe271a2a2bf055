// rlhf-bench: our calls against the machine's bandwidth, plain loops, compilers and PyTorch.

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "table.hpp"

namespace bench {
namespace {

/// Keeps the time of every repetition by name; prints nothing.
class collector : public benchmark::BenchmarkReporter {
 public:
  std::map<std::string, std::vector<double>> seconds;

  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      if (run.run_type == Run::RT_Iteration && run.iterations > 0)
        seconds[run.run_name.function_name].push_back(run.real_accumulated_time / static_cast<double>(run.iterations));
  }
};

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::sort(x.begin(), x.end());
  return x.size() % 2 == 1 ? x[x.size() / 2] : (x[x.size() / 2 - 1] + x[x.size() / 2]) / 2;
}

std::string json(const std::vector<row>& rows) {
  std::ostringstream out;
  out.precision(6);
  out << "[\n";
  for (std::size_t i = 0; i < rows.size(); ++i)
    out << "  {\"name\": \"" << rows[i].name << "\", \"ours\": " << rows[i].ours << ", \"against\": " << rows[i].against
        << ", \"what\": \"" << rows[i].what << "\", \"ratio\": " << rows[i].against / rows[i].ours << "}"
        << (i + 1 < rows.size() ? ",\n" : "\n");
  out << "]\n";
  return out.str();
}

void print(const std::vector<row>& rows) {
  std::printf("%-48s %12s %12s %8s  %s\n", "row", "ours", "against", "ratio", "against what");
  for (const row& r : rows)
    std::printf("%-48s %9.3f ms %9.3f ms %8.2f  %s\n", r.name.c_str(), r.ours * 1e3, r.against * 1e3,
                r.against / r.ours, r.what.c_str());
  std::fflush(stdout);
}

void write_whole(const std::string& path, const std::string& text) {
  std::ofstream file(path + ".new");
  file << text;
  file.close();
  if (!file) {
    std::fprintf(stderr, "rlhf-bench: cannot write %s\n", path.c_str());
    std::exit(1);
  }
  std::filesystem::rename(path + ".new", path);
}

/// The rows that another build of this program measured: one a line, tab-separated.
std::vector<row> other_build(const std::string& program, bool quick) {
  std::vector<row> rows;
  std::FILE* const pipe = popen(("'" + program + "' --rows" + (quick ? " --quick" : "")).c_str(), "r");
  if (pipe == nullptr) return rows;
  char line[1024];
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    std::istringstream fields(line);
    row r;
    std::string ours, against;
    if (std::getline(fields, r.name, '\t') && std::getline(fields, ours, '\t') && std::getline(fields, against, '\t') &&
        std::getline(fields, r.what)) {
      r.ours = std::atof(ours.c_str());
      r.against = std::atof(against.c_str());
      r.name += "/x86-64-v3";
      rows.push_back(r);
    }
  }
  pclose(pipe);
  return rows;
}

}  // namespace

std::vector<row> measure(const std::vector<contest>& contests, int repetitions) {
  std::vector<std::string> words = {"rlhf-bench", "--benchmark_enable_random_interleaving=true",
                                    "--benchmark_min_time=0.03",
                                    "--benchmark_repetitions=" + std::to_string(repetitions)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  for (const contest& c : contests)
    for (const bool ours : {true, false}) {
      const auto& work = ours ? c.ours : c.against;
      benchmark::RegisterBenchmark((c.name + (ours ? "#ours" : "#against")).c_str(), [&work](benchmark::State& state) {
        for ([[maybe_unused]] auto _ : state) {
          work();
          benchmark::ClobberMemory();
        }
      })->UseRealTime();
    }
  collector times;
  benchmark::RunSpecifiedBenchmarks(&times);
  benchmark::Shutdown();
  std::vector<row> rows;
  for (const contest& c : contests)
    rows.push_back(
        {c.name, median(times.seconds[c.name + "#ours"]), median(times.seconds[c.name + "#against"]), c.what});
  return rows;
}

}  // namespace bench

int main(int argc, char** argv) {
  bool quick = false, rows_only = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      quick = true;
    } else if (std::strcmp(argv[i], "--rows") == 0) {
      rows_only = true;
    } else {
      std::fprintf(stderr,
                   "usage: rlhf-bench [--quick] [--rows]\nWrites bench-report.json into the working folder; --rows "
                   "prints what was measured here and no more.\n");
      return std::strcmp(argv[i], "--help") == 0 ? 0 : 2;
    }
  }
  std::vector<bench::contest> contests;
  bench::add_token_contests(contests, quick);
  bench::add_logit_contests(contests, quick);
  bench::add_linear_contests(contests, quick);
  bench::add_lab_contests(contests, quick);
  std::vector<bench::row> rows = bench::measure(contests, quick ? 5 : 15);
  if (rows_only) {
    for (const auto& r : rows) std::printf("%s\t%.9g\t%.9g\t%s\n", r.name.c_str(), r.ours, r.against, r.what.c_str());
    return 0;
  }
  const auto add = [&](const std::vector<bench::row>& more) { rows.insert(rows.end(), more.begin(), more.end()); };
  const std::vector<bench::row> native = rows;
  const std::string v3 = (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "rlhf-bench-v3").string();
  if (std::filesystem::exists(v3)) add(bench::other_build(v3, quick));
  add(bench::torch_rows(native, quick));
  add(bench::compile_rows(quick));
  bench::print(rows);
  bench::write_whole("bench-report.json", bench::json(rows));
  std::printf("wrote bench-report.json\n");
}
