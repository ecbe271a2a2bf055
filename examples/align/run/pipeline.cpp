#include "align/run/pipeline.hpp"

#include <algorithm>

#include "align/methods/methods.hpp"
#include "align/run/algorithms.hpp"

namespace align {
namespace {

/// The entries that a run takes, in the order of the table; DPO too where another one is guided by it.
std::vector<const algorithm_entry*> chosen(const settings& s, const task& t) {
  const std::vector<std::string>& list = s.algorithms.empty() ? t.algorithms : s.algorithms;
  std::vector<const algorithm_entry*> out;
  const auto named = [&](const algorithm_entry& a) {
    return std::find(list.begin(), list.end(), a.name) != list.end();
  };
  const auto all = all_algorithms();
  const bool guided =
      std::any_of(all.begin(), all.end(), [&](const auto& a) { return named(a) && (a.needs & need::guide) != 0; });
  for (const algorithm_entry& a : all)
    if (named(a) || (guided && a.run == dpo)) out.push_back(&a);
  return out;
}

/// What optimisation makes of a reward when nothing holds it back: DPO with a step that is far too long, and PPO without a KL
/// penalty on a reward model learned from the same pairs; the true reward is known beside it.
void overoptimise(workshop& w) {
  dpo_recipe hot = w.sizes.dpo;
  hot.rate = 1e-3;
  (void)learn_dpo(w, "dpo_hot", hot);
  scalar_policy proxy = w.model_reward("proxy", {.pairs = w.pairs()});
  ppo_proxy(w, proxy);
}

/// What all methods are held against.
void measure_before(workshop& w) {
  if (w.done("frontier")) return;
  w.measure_start();
  w.best_of_n();
  w.close("frontier");
}

}  // namespace

run_results prepare_pipeline(const settings& s, const task& t, run_folder& folder) {
  workshop w(s, t, folder);
  if (folder.complete()) return std::move(w.results());
  (void)w.start();
  (void)w.reward();
  measure_before(w);
  w.finish_run();
  return std::move(w.results());
}

run_results run_pipeline(const settings& s, const task& t, run_folder& folder) {
  workshop w(s, t, folder);
  if (folder.complete()) return std::move(w.results());
  const auto methods = chosen(s, t);
  const auto named = [&](const char* name) {
    return std::any_of(methods.begin(), methods.end(), [&](const auto* a) { return name == std::string(a->name); });
  };
  unsigned needs = s.overoptimise ? need::pairs : 0;
  bool trains = s.overoptimise;
  for (const algorithm_entry* a : methods) {
    needs |= a->needs;
    trains = trains || a->run != nullptr;
  }

  (void)w.start();
  if (trains || named("reward_model")) (void)w.reward();
  if (trains) {
    if ((needs & need::pairs) != 0) (void)w.pairs();
    measure_before(w);
    for (const algorithm_entry* a : methods)
      if (a->run != nullptr && !w.done(a->name)) a->run(w);
    if (s.overoptimise) overoptimise(w);
  }
  w.finish_run();
  return std::move(w.results());
}

}  // namespace align
