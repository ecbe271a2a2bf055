#include "align/compare/runs.hpp"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "align/files/bytes.hpp"
#include "align/files/save.hpp"
#include "align/report/report.hpp"
#include "align/run/algorithms.hpp"
#include "align/run/pipeline.hpp"
#include "align/run/run_folder.hpp"
#include "align/run/task.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;
using lines = std::vector<std::string>;

/// FNV-1a of some lines, eight digits of it.
std::string sum_of(const lines& all) {
  std::uint64_t sum = 14695981039346656037u;
  for (const std::string& line : all)
    for (const char c : line + '\n') sum = (sum ^ static_cast<unsigned char>(c)) * 1099511628211u;
  char text[20];
  std::snprintf(text, sizeof text, "%08llx", static_cast<unsigned long long>(sum >> 32));
  return text;
}

/// Are all lines of `kind`, but for the seed, among those of a run?
bool includes(const lines& run, const lines& kind) {
  return std::all_of(kind.begin(), kind.end(), [&](const std::string& line) {
    return line.rfind("seed=", 0) == 0 || std::find(run.begin(), run.end(), line) != run.end();
  });
}

}  // namespace

schedule::schedule(const settings& all, const std::vector<variant>& variants, const std::vector<std::uint64_t>& seeds)
    : all_(all) {
  for (const std::uint64_t seed : seeds)
    for (const variant& v : variants) add(v, seed);
}

settings schedule::settings_of(const variant& v, std::uint64_t seed) const {
  settings s = placed(with_options(all_, v.options), v.label, seed);
  s.algorithms = {v.algorithm};
  return s;
}

settings schedule::placed(settings s, const std::string& folder, std::uint64_t seed) const {
  s.seed = seed;
  s.resume = true;
  s.anew = false;
  s.out = (fs::path(all_.out) / folder / ("seed-" + std::to_string(seed))).string();
  return s;
}

void schedule::add(const variant& v, std::uint64_t seed) {
  const algorithm_entry& a = *find_algorithm(v.algorithm);
  planned_run run{settings_of(v, seed), {}, {}, false, v.label};
  if (a.run != nullptr) {
    const settings shared = add_shared(v, seed, false);
    const bool guided = (a.needs & need::guide) != 0 || v.algorithm == "dpo";
    const settings before = guided ? add_shared(v, seed, true) : shared;
    run.after = before.out;
    run.after_identity = identity(before);
  }
  runs_.push_back(std::move(run));
}

/// The shared run that fits a variant.
settings schedule::add_shared(const variant& v, std::uint64_t seed, bool guide) {
  settings s = shared_settings(all_, v);
  if (guide) s.algorithms = {"dpo"};
  // How often DPO is evaluated matters where it is what is shown.
  if (guide && v.algorithm == "dpo") s.how.iterations = with_options(all_, v.options).how.iterations;
  s.seed = 0;
  const std::string name = name_of(guide ? "guide" : "shared", identity(s));
  s = placed(s, name, seed);
  const auto known = std::find_if(runs_.begin(), runs_.end(), [&](const planned_run& r) { return r.how.out == s.out; });
  if (known == runs_.end()) {
    planned_run run{s, {}, {}, !guide, name};
    if (guide) {
      const settings before = add_shared(v, seed, false);
      run.after = before.out;
      run.after_identity = identity(before);
    }
    runs_.push_back(std::move(run));
  }
  return s;
}

/// The folder of a shared stage with these settings (of seed 0): the one that has them already, whatever it is called; else the
/// plain name where nobody has it, and a name by the settings. So the order of the algorithms does not matter.
std::string schedule::name_of(const std::string& stage, const lines& kind) {
  std::map<std::string, lines>& known = names_[stage];
  if (known.empty()) known = on_disk(stage);
  for (const auto& [name, recorded] : known)
    if (includes(recorded, kind)) return name;
  const std::string fresh = known.contains(stage) ? stage + "-" + sum_of(kind) : stage;
  known[fresh] = kind;
  return fresh;
}

/// The settings of the shared runs that earlier comparisons left here.
std::map<std::string, lines> schedule::on_disk(const std::string& stage) const {
  std::map<std::string, lines> out;
  std::error_code none;
  for (const auto& folder : fs::directory_iterator(all_.out, none)) {
    const std::string name = folder.path().filename().string();
    if (name != stage && name.rfind(stage + "-", 0) != 0) continue;
    for (const auto& seed : fs::directory_iterator(folder.path(), none))
      if (lines recorded = recorded_settings(seed.path()); !recorded.empty()) out[name] = std::move(recorded);
  }
  return out;
}

bool is_finished(const planned_run& run) {
  return holds_finished(run.how.out, identity(run.how)) &&
         fs::exists(fs::path(run.how.out) / "report.html");  // which is written last
}

void finish(const planned_run& run, std::size_t number, std::size_t of) {
  const fs::path out = run.how.out;
  const bool over = is_finished(run);
  std::fprintf(stderr, "[%zu/%zu] %s, seed %llu%s\n", number, of, run.name.c_str(),
               static_cast<unsigned long long>(run.how.seed), over ? ": finished before" : "");
  if (over) return;
  // What a run goes on after is of its own settings, or an error.
  if (!run.after.empty()) (void)holds_finished(run.after, run.after_identity);
  const task t = task_of(run.how);
  require_writable(out);
  require_room(out, disk_need(run.how, t));
  run_folder folder({.folder = run.how.out,
                     .identity = identity(run.how),
                     .resume = true,
                     .anew = false,
                     .keep = run.how.keep,
                     .after = run.after});
  const run_results results = run.only_shared ? prepare_pipeline(run.how, t, folder) : run_pipeline(run.how, t, folder);
  write_report(run.how, t, results);
}

finished_run read_run(const fs::path& folder) {
  for (const char* file : {"results.json", "report.json", "summary.json"})
    if (!fs::exists(folder / file))
      throw std::runtime_error("compare: " + folder.string() + " holds no finished run: there is no " + file);
  const auto text = [&](const char* file) {
    return std::string(as_text(read_whole(folder / file, std::uint64_t{1} << 30)));
  };
  finished_run run{
      results_of(text("results.json"), (folder / "results.json").string()), {}, {}, 0, recorded_settings(folder)};
  const auto clocked = nlohmann::json::parse(text("report.json"), nullptr, false);
  for (std::size_t i = 0; clocked.is_array() && i < std::min(clocked.size(), run.results.points.size()); ++i)
    run.results.points[i].seconds = clocked[i].value("seconds", 0.0);
  const auto summary = nlohmann::json::parse(text("summary.json"), nullptr, false);
  if (!summary.is_object())
    throw std::runtime_error("compare: " + (folder / "summary.json").string() + " is no JSON object");
  run.title = summary.value("task", "");
  run.unit = summary.value("unit", "response");
  run.seed = summary.value("seed", std::uint64_t{0});
  if (summary.contains("memory")) run.results.memory = memory_of(summary["memory"].dump());
  if (summary.contains("peak_bytes") && summary["peak_bytes"].is_object())
    for (const auto& [method, bytes] : summary["peak_bytes"].items())
      if (bytes.is_number()) run.results.peaks[method] = bytes;
  return run;
}

}  // namespace align
