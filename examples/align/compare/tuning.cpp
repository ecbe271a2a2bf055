#include "align/compare/tuning.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <utility>

#include "align/compare/runs.hpp"
#include "align/report/curves.hpp"
#include "align/run/run_folder.hpp"

namespace align {
namespace {

/// The folder of a try: `tuning/ppo/ppo-rate-4e-4`.
std::string folder_of(const trial& t) {
  std::string name;
  for (const std::string& option : t.options) name += (name.empty() ? "" : "_") + option;
  for (char& c : name)
    if (c == '=' || c == '/') c = '-';
  return "tuning/" + t.label + "/" + (name.empty() ? "as-it-is" : name);
}

/// Each label with its own settings first, then with its tries.
std::vector<std::pair<variant, trial>> trials_of(const request& asked) {
  std::vector<std::pair<variant, trial>> out;
  if (asked.trials.empty()) return out;
  for (const variant& v : asked.variants) {
    out.emplace_back(v, trial{v.label, {}});
    for (const trial& t : asked.trials)
      if (t.label == v.label) out.emplace_back(v, t);
  }
  return out;
}

}  // namespace

std::vector<variant> candidates_of(const request& asked) {
  std::vector<variant> out;
  for (const auto& [v, t] : trials_of(asked)) {
    out.push_back(with_trial(v, t));
    out.back().label = folder_of(t);
  }
  return out;
}

std::vector<tried> tune(request& asked, double price) {
  const std::vector<variant> candidates = candidates_of(asked);
  std::vector<tried> all;
  for (const auto& [v, t] : trials_of(asked)) all.push_back({.label = t.label, .options = t.options});
  const schedule plan(asked.run, candidates, asked.tuning_seeds);
  const auto try_of = [&](const planned_run& run) -> tried* {
    for (std::size_t i = 0; i < candidates.size(); ++i)
      if (candidates[i].label == run.name) return &all[i];
    return nullptr;
  };
  for (const planned_run& run : plan.runs()) (void)holds_finished(run.how.out, identity(run.how));
  std::map<std::filesystem::path, std::string> broken;  // runs that diverged, and those that would go on after one
  for (std::size_t i = 0; i < plan.runs().size(); ++i) {
    const planned_run& run = plan.runs()[i];
    tried* const one = try_of(run);  // none: what several share
    if (one != nullptr && !one->failed.empty()) continue;
    if (const auto before = broken.find(run.after); before != broken.end()) {
      broken[run.how.out] = before->second;
    } else {
      try {
        finish(run, i + 1, plan.runs().size());
        continue;
      } catch (const diverged& trouble) {
        std::fprintf(stderr, "%s\n", trouble.what());
        broken[run.how.out] = trouble.what();
      }
    }
    if (one != nullptr) one->failed = broken[run.how.out];
  }

  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!all[i].failed.empty()) continue;
    std::vector<double> objective, reward, kl;
    for (const std::uint64_t seed : asked.tuning_seeds) {
      const finished_run run = read_run(plan.settings_of(candidates[i], seed).out);
      const std::vector<curve_point> points = curve(run.results.points, candidates[i].algorithm);
      if (points.empty())
        throw std::runtime_error("compare: " + all[i].label + " has no curve, so nothing can be chosen by its J");
      reward.push_back(points.back().reward);
      kl.push_back(points.back().kl);
      objective.push_back(reward.back() - price * kl.back());
    }
    all[i].objective = spread_of(objective);
    all[i].reward = spread_of(reward);
    all[i].kl = spread_of(kl);
  }
  for (variant& v : asked.variants) {
    tried* best = nullptr;
    for (tried& one : all)
      if (one.label == v.label && one.failed.empty() && (best == nullptr || one.objective.mean > best->objective.mean))
        best = &one;
    if (best == nullptr)
      throw std::runtime_error("compare: every try of " + v.label + " diverged: no settings are left");
    best->chosen = true;
    v = with_trial(v, {v.label, best->options});
  }
  return all;
}

}  // namespace align
