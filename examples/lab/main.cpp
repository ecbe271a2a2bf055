// rlhf-lab: the theorems of preference alignment, measured with the same templates that train models.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "align/run/progress.hpp"
#include "lab/report.hpp"

namespace {

/// The experiments named, in the order of the table; all where none is named. Throws on a name that there is not.
std::vector<lab::experiment> chosen(const std::vector<lab::experiment>& all, const std::vector<std::string>& names) {
  if (names.empty()) return all;
  std::set<std::string> wanted(names.begin(), names.end());
  std::vector<lab::experiment> out;
  for (const auto& e : all)
    if (wanted.erase(e.id) > 0) out.push_back(e);
  if (!wanted.empty())
    throw std::invalid_argument("--only: there is no experiment " + *wanted.begin() +
                                "; rlhf-lab --list names them all");
  return out;
}

/// A number for each name: what an experiment draws does not depend on which others there are.
std::uint64_t number_of(const std::string& id) {
  std::uint64_t h = 1469598103934665603u;
  for (const char c : id) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return h >> 33;
}

}  // namespace

int main(int argc, char** argv) {
  lab::settings how;
  std::string out = "out/lab";
  std::vector<std::string> only;
  bool list = false;
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));

  CLI::App app{
      "Puts theorems about preference alignment to the test and writes lab.html (claim, equation, plot, verdict),\n"
      "lab-report.json and a CSV and SVG for each experiment. Exits with 1 where a claim does not hold."};
  app.add_flag("--list", list, "name the experiments and leave");
  app.add_option("--only", only, "these experiments, as X6,E1")->delimiter(',');
  app.add_option("--seed", how.seed, "of everything random; the same seed gives the same numbers")
      ->capture_default_str();
  app.add_option("--threads", threads, "threads; the results do not depend on it")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_flag("--quick", how.quick, "fewer repetitions, two minutes in all");
  app.add_option("--out", out, "folder for the report; made if it is not there")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  try {
    const std::vector<lab::experiment> all = lab::all_experiments();
    if (list) {
      for (const auto& e : all) std::printf("%-4s %s\n", e.id.c_str(), e.title.c_str());
      return 0;
    }
    const std::vector<lab::experiment> selected = chosen(all, only);
    lab::prepare_output(out);

    std::vector<lab::finished> done(selected.size());
    std::mutex mutex;
    std::int64_t count = 0;
    const auto start = std::chrono::steady_clock::now();
    {
      align::progress_line progress("rlhf-lab", static_cast<std::int64_t>(selected.size()), "experiments");
      lab::crew crew(threads);
      crew.for_each(selected.size(), [&](std::size_t i) {
        const auto begin = std::chrono::steady_clock::now();
        lab::finished f{selected[i], {}, {}, 0};
        try {
          f.result = f.what.run(lab::laboratory(crew, how.seed, number_of(f.what.id), how.quick));
        } catch (const std::exception& trouble) {
          f.failure = trouble.what();
        }
        f.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        const std::lock_guard lock(mutex);
        progress.update(++count, f.what.id);
        done[i] = std::move(f);
      });
    }
    lab::write_report(out, how, done);

    int failed = 0;
    for (const lab::finished& f : done) {
      std::printf("%-4s %-13s %s (%.1f s)\n", f.what.id.c_str(), f.pass() ? "holds" : "DOES NOT HOLD",
                  f.what.title.c_str(), f.seconds);
      if (!f.failure.empty()) std::printf("    %s\n", f.failure.c_str());
      for (const lab::check& c : f.result.checks) std::printf("%s\n", lab::line_of(c).c_str());
      failed += !f.pass();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%zu of %zu claims hold; report: %s/lab.html (%.0f s)\n",
                done.size() - static_cast<std::size_t>(failed), done.size(), out.c_str(), seconds);
    return failed > 0 ? 1 : 0;
  } catch (const std::exception& trouble) {
    std::fprintf(stderr, "rlhf-lab: %s\n", trouble.what());
    return 2;
  }
}
