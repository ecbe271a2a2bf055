#include "align/comparison.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "align/algorithms.hpp"
#include "align/curves.hpp"
#include "align/files/bytes.hpp"
#include "align/files/save.hpp"
#include "align/report.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// A run of the comparison: its settings, and the run that it goes on after.
struct planned_run {
  settings how = {};
  fs::path after = {};
  bool only_shared = false;
  std::string name = {};
};

/// Everything that a comparison runs, in order: for each seed what is shared first.
class schedule {
 public:
  explicit schedule(const request& asked) : asked_(asked) {
    for (const std::uint64_t seed : asked.seeds)
      for (const variant& v : asked.variants) add(v, seed);
  }
  [[nodiscard]] const std::vector<planned_run>& runs() const { return runs_; }
  [[nodiscard]] settings settings_of(const variant& v, std::uint64_t seed) const {
    settings s = placed(with_options(asked_.run, v.options), v.label, seed);
    s.algorithms = {v.algorithm};
    return s;
  }

 private:
  [[nodiscard]] settings placed(settings s, const std::string& folder, std::uint64_t seed) const {
    s.seed = seed;
    s.resume = true;
    s.anew = false;
    s.out = (fs::path(asked_.run.out) / folder / ("seed-" + std::to_string(seed))).string();
    return s;
  }
  void add(const variant& v, std::uint64_t seed) {
    const algorithm_entry& a = *find_algorithm(v.algorithm);
    planned_run run{settings_of(v, seed), {}, false, v.label};
    if (a.run != nullptr) {
      const std::string shared = add_shared(v, seed, false);
      const bool guided = (a.needs & need::guide) != 0 || v.algorithm == "dpo";
      run.after = guided ? add_shared(v, seed, true) : shared;
    }
    runs_.push_back(std::move(run));
  }
  /// The shared run that fits a variant; a second one has a number, where settings of variants differ before all methods.
  std::string add_shared(const variant& v, std::uint64_t seed, bool guide) {
    settings s = shared_settings(asked_.run, v);
    if (guide) s.algorithms = {"dpo"};
    std::vector<std::vector<std::string>>& kinds = guide ? guides_ : shared_;
    s.seed = 0;
    const std::vector<std::string> kind = identity(s);
    auto it = std::find(kinds.begin(), kinds.end(), kind);
    if (it == kinds.end()) it = kinds.insert(it, kind);
    const auto number = it - kinds.begin();
    const std::string name =
        std::string(guide ? "guide" : "shared") + (number > 0 ? "-" + std::to_string(number + 1) : "");
    s = placed(s, name, seed);
    const auto known =
        std::find_if(runs_.begin(), runs_.end(), [&](const planned_run& r) { return r.how.out == s.out; });
    if (known == runs_.end())
      runs_.push_back({s, guide ? fs::path(add_shared(v, seed, false)) : fs::path{}, !guide, name});
    return s.out;
  }

  const request& asked_;
  std::vector<std::vector<std::string>> shared_, guides_;
  std::vector<planned_run> runs_;
};

/// Runs what is not finished yet.
void finish(const planned_run& run, std::size_t number, std::size_t of) {
  const std::vector<std::string> same = identity(run.how);
  const fs::path out = run.how.out;
  const bool over = holds_finished(out, same) && fs::exists(out / "report.html");  // which is written last
  std::fprintf(stderr, "[%zu/%zu] %s, seed %llu%s\n", number, of, run.name.c_str(),
               static_cast<unsigned long long>(run.how.seed), over ? ": finished before" : "");
  if (over) return;
  const task t = task_of(run.how);
  require_writable(out);
  require_room(out, disk_need(run.how, t));
  run_folder folder({.folder = run.how.out,
                     .identity = same,
                     .resume = true,
                     .anew = false,
                     .keep = run.how.keep,
                     .after = run.after});
  const run_results results = run.only_shared ? prepare_pipeline(run.how, t, folder) : run_pipeline(run.how, t, folder);
  write_report(run.how, t, results);
}

/// A finished run from its folder, with the seconds of its clock.
struct finished_run {
  run_results results;
  std::string title, unit;
};
finished_run read_run(const fs::path& folder) {
  for (const char* file : {"results.json", "report.json", "summary.json"})
    if (!fs::exists(folder / file))
      throw std::runtime_error("compare: " + folder.string() + " holds no finished run: there is no " + file);
  const auto text = [&](const char* file) {
    return std::string(as_text(read_whole(folder / file, std::uint64_t{1} << 30)));
  };
  finished_run run{results_of(text("results.json"), (folder / "results.json").string()), {}, {}};
  const auto clocked = ordered_json::parse(text("report.json"), nullptr, false);
  for (std::size_t i = 0; clocked.is_array() && i < std::min(clocked.size(), run.results.points.size()); ++i)
    run.results.points[i].seconds = clocked[i].value("seconds", 0.0);
  const auto summary = ordered_json::parse(text("summary.json"), nullptr, false);
  if (!summary.is_object())
    throw std::runtime_error("compare: " + (folder / "summary.json").string() + " is no JSON object");
  run.title = summary.value("task", "");
  run.unit = summary.value("unit", "response");
  return run;
}

compared_curve curve_of(const run_results& from, const std::string& method) {
  compared_curve c;
  c.points = curve(from.points, method);
  c.best_of_n = curve(from.points, "best_of_n");
  if (const auto it = from.figures.find("reward_deviation"); it != from.figures.end()) c.deviation = it->second;
  return c;
}

/// The judgements of one method; of what only a reward model can say, its own.
std::map<std::string, std::string> judged_by(const run_results& from, const std::string& method) {
  std::map<std::string, std::string> out;
  for (const auto& [name, table] : from.tables)
    if (name == method || name == "bag of words" || (name == "reward" && method == "reward_model")) out[name] = table;
  return out;
}

void use_title(comparison& all, const std::string& run, const finished_run& found) {
  if (!all.title.empty() && found.title != all.title)
    throw std::runtime_error("compare: " + run + " is about `" + found.title + "`, the runs before it about `" +
                             all.title + "`");
  all.title = found.title;
  all.unit = found.unit;
}

/// What a nat of KL costs in what an algorithm maximises; 0 where it has no such price.
double price_of(const std::string& algorithm, const recipe& r) {
  const auto one_of = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), algorithm) != names.end();
  };
  if (one_of({"dpo", "kto", "una"})) return r.dpo.beta;
  if (one_of({"online_dpo", "vpo", "xpo", "selm"})) return r.online.beta;
  if (one_of({"ppo", "rto", "drto", "hydra_ppo", "rloo", "reinforce_plus_plus", "remax", "vineppo", "zpg", "zbcpg"}))
    return r.ppo.kl;
  return algorithm == "rebel" ? r.rebel.kl : algorithm == "dvpo" ? r.dvpo.kl : algorithm == "grpo" ? r.group.kl : 0;
}

/// A colour for each label: the algorithm's, where no other label has it.
std::map<std::string, std::string> colors_of(const std::vector<variant>& variants) {
  static constexpr const char* others[] = {"#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee",
                                           "#aa3377", "#ee7733", "#009988", "#332288", "#882255"};
  std::map<std::string, std::string> out;
  const auto used = [&](const std::string& c) {
    return std::any_of(out.begin(), out.end(), [&](const auto& one) { return one.second == c; });
  };
  for (const variant& v : variants) {
    std::string c = color(v.algorithm);
    for (const char* other : others)
      if (used(c)) c = other;
    out[v.label] = c;
  }
  return out;
}

}  // namespace

void run_comparison(const request& asked) {
  const schedule plan(asked);
  require_writable(asked.run.out);
  for (const auto& file : fs::directory_iterator(asked.run.out))
    if (file.path().extension() == ".new") fs::remove(file.path());  // what a killed one had not written whole
  // Other settings are an error before any work.
  for (const planned_run& run : plan.runs()) (void)holds_finished(run.how.out, identity(run.how));
  for (std::size_t i = 0; i < plan.runs().size(); ++i) finish(plan.runs()[i], i + 1, plan.runs().size());

  comparison all;
  const auto colors = colors_of(asked.variants);
  for (const variant& v : asked.variants)
    for (const std::uint64_t seed : asked.seeds) {
      const settings s = plan.settings_of(v, seed);
      const finished_run run = read_run(s.out);
      use_title(all, s.out, run);
      compared_curve c = curve_of(run.results, v.algorithm);
      c.judged = judged_by(run.results, v.algorithm);
      c.label = v.label;
      c.title = v.label == v.algorithm ? title(v.algorithm) : v.label;
      c.color = colors.at(v.label);
      c.seed = seed;
      all.curves.push_back(std::move(c));
      all.folders.push_back(fs::relative(s.out, asked.run.out).string());
    }
  const variant& first = asked.variants.front();
  all.price = price_of(first.algorithm, plan.settings_of(first, asked.seeds.front()).how);
  settings shown = asked.run;
  shown.overoptimise = false;
  for (const std::string& one : identity(shown))
    if (one.rfind("seed=", 0) != 0 && one.rfind("algorithm=", 0) != 0) all.settings += one + "\n";
  for (const variant& v : asked.variants) {
    all.settings += v.label + ": " + v.algorithm;
    for (const std::string& option : v.options) all.settings += " " + option;
    all.settings += "\n";
  }
  write_joined(all, asked.run.out);
}

void write_comparison(const std::vector<std::string>& runs, const std::string& out) {
  require_writable(out);
  comparison all;
  for (const std::string& folder : runs) {
    const finished_run run = read_run(folder);
    use_title(all, folder, run);
    std::vector<std::string> found = methods(run.results.points);
    if (run.results.points.empty()) found = {"reward_model"};
    for (const std::string& method : found) {
      if (method == "best_of_n") continue;
      compared_curve c = curve_of(run.results, method);
      c.judged = judged_by(run.results, method);
      if (c.points.empty() && c.judged.empty()) continue;
      c.label = method;
      c.title = title(method);
      c.color = color(method);
      c.seed = c.points.empty() ? 0 : c.points.front().seed;
      all.curves.push_back(std::move(c));
    }
    all.folders.push_back(folder);
  }
  write_joined(all, out);
}

}  // namespace align
