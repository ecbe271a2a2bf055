#include "align/compare/comparison.hpp"

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "align/compare/runs.hpp"
#include "align/files/save.hpp"
#include "align/report/curves.hpp"
#include "align/run/algorithms.hpp"
#include "align/run/run_folder.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;

/// What a run recorded of a setting that is a whole number; 1 where it did not.
std::int64_t whole_number_of(const std::vector<std::string>& lines, const std::string& name) {
  for (const std::string& line : lines)
    if (line.rfind(name + "=", 0) == 0) return std::max<std::int64_t>(1, std::stoll(line.substr(name.size() + 1)));
  return 1;
}

/// Runs of earlier versions counted a fixed set again in every epoch, so that its curves rise to the end: here each token once.
void count_once(std::vector<curve_point>& points, std::int64_t epochs) {
  if (epochs < 2 || points.size() < 3) return;
  const std::int64_t last = points.back().tokens;
  const std::int64_t all = last > points[points.size() - 2].tokens ? last / epochs : last;
  for (curve_point& p : points) p.tokens = std::min(p.tokens, all);
}
compared_curve curve_of(const finished_run& run, const std::string& method) {
  const run_results& from = run.results;
  compared_curve c;
  c.method = method;
  c.points = curve(from.points, method);
  if (learns_from_a_fixed_set(method)) count_once(c.points, whole_number_of(run.recorded, "dpo-epochs"));
  c.best_of_n = curve(from.points, "best_of_n");
  if (const auto it = from.figures.find("reward_deviation"); it != from.figures.end()) c.deviation = it->second;
  if (const auto it = from.memory.find(method); it != from.memory.end()) c.memory = it->second;
  if (const auto it = from.peaks.find(method); it != from.peaks.end()) c.peak = it->second;
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

/// What a nat of KL costs an algorithm; 0 where it has no such price.
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

/// Is the reward that is reported, less that price, what an algorithm's own objective is the mean of? Not where it learns from
/// another reward (DVPO's value, RTO's guide, a learned one), from preferences, or where its KL is of another kind (GRPO's).
bool maximises_j(const std::string& algorithm, const settings& s) {
  static constexpr const char* all[] = {"ppo", "hydra_ppo", "rloo", "reinforce_plus_plus", "remax", "vineppo", "rebel"};
  return std::find(std::begin(all), std::end(all), algorithm) != std::end(all) &&
         (algorithm != "ppo" || s.ppo_reward == "true");
}

/// A colour for each label: the algorithm's, where no other label has it.
std::map<std::string, std::string> colors_of(const std::vector<std::pair<std::string, std::string>>& labels) {
  static constexpr const char* others[] = {"#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee",
                                           "#aa3377", "#ee7733", "#009988", "#332288", "#882255"};
  std::map<std::string, std::string> out;
  const auto used = [&](const std::string& c) {
    return std::any_of(out.begin(), out.end(), [&](const auto& one) { return one.second == c; });
  };
  for (const auto& [label, algorithm] : labels) {
    if (out.contains(label)) continue;
    std::string c = color(algorithm);
    for (const char* other : others)
      if (used(c)) c = other;
    out[label] = c;
  }
  return out;
}

/// The settings of a run by which runs of a method are told apart: all but the seed and the list of methods.
std::string apart_from_seed(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines)
    if (line.rfind("seed=", 0) != 0 && line.rfind("algorithm=", 0) != 0) out += line + "\n";
  return out;
}
/// How a folder is called: by its own name, or by the one above `seed-N`.
std::string name_of_run(const fs::path& folder) {
  fs::path whole = fs::absolute(folder).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  const std::string own = whole.filename().string();
  return own.rfind("seed-", 0) == 0 ? whole.parent_path().filename().string() : own;
}
bool same_points(const std::vector<curve_point>& a, const std::vector<curve_point>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const curve_point& p, const curve_point& q) {
    return p.iteration == q.iteration && p.reward == q.reward && p.kl == q.kl && p.tokens == q.tokens;
  });
}

/// Curves of single runs, to be joined by method: a copy counts once (DPO's, where it guides several), and what was learned with
/// other settings has a label of its own.
class joined_curves {
 public:
  void add(compared_curve c, const std::string& how, const std::string& folder) {
    for (const compared_curve& known : curves_)
      if (known.method == c.method && known.seed == c.seed && same_points(known.points, c.points) &&
          known.judged == c.judged)
        return;
    // Of two different curves with the same seed one was made in another way, whatever is recorded.
    std::vector<kind>& kinds = kinds_[c.method];
    const auto fits = [&](const kind& k) { return k.how == how && !k.seeds.contains(c.seed); };
    auto it = std::find_if(kinds.begin(), kinds.end(), fits);
    if (it == kinds.end()) it = kinds.insert(it, {how, name_of_run(folder), {}});
    it->seeds.insert(c.seed);
    kind_of_.push_back(static_cast<std::size_t>(it - kinds.begin()));
    curves_.push_back(std::move(c));
  }
  [[nodiscard]] std::vector<compared_curve> labelled() {
    std::vector<std::pair<std::string, std::string>> labels;
    for (std::size_t i = 0; i < curves_.size(); ++i) {
      compared_curve& c = curves_[i];
      const std::vector<kind>& kinds = kinds_[c.method];
      const kind& own = kinds[kind_of_[i]];
      c.label = c.method;
      c.title = title(c.method);
      if (kinds.size() > 1 && own.name != c.method) {
        c.label += "_" + own.name;
        c.title += ", " + own.name;
      }
      std::size_t before = 0;
      for (std::size_t k = 0; k < kind_of_[i]; ++k) before += kinds[k].name == own.name ? 1u : 0u;
      if (before > 0) {
        c.label.append("-").append(std::to_string(before + 1));
        c.title += " (" + std::to_string(before + 1) + ")";
      }
      labels.emplace_back(c.label, c.method);
    }
    const auto colors = colors_of(labels);
    for (compared_curve& c : curves_) c.color = colors.at(c.label);
    return std::move(curves_);
  }

 private:
  struct kind {
    std::string how, name;  ///< its settings; the name of its first folder
    std::set<std::uint64_t> seeds;
  };
  std::vector<compared_curve> curves_;
  std::vector<std::size_t> kind_of_;
  std::map<std::string, std::vector<kind>> kinds_;
};

}  // namespace

void run_comparison(request asked) {
  require_writable(asked.run.out);
  for (const auto& file : fs::directory_iterator(asked.run.out))
    if (left_unfinished(file.path())) fs::remove(file.path());  // what a killed one had not written whole
  comparison all;
  {
    const variant& first = asked.variants.front();
    const settings of_first = with_options(asked.run, first.options);
    all.price = price_of(first.algorithm, of_first.how);
    all.maximised = maximises_j(first.algorithm, of_first);
  }
  if (!asked.trials.empty()) all.tuning = tune(asked, all.price);

  const schedule plan(asked.run, asked.variants, asked.seeds);
  // Other settings are an error before any work.
  for (const planned_run& run : plan.runs()) (void)holds_finished(run.how.out, identity(run.how));
  for (std::size_t i = 0; i < plan.runs().size(); ++i) finish(plan.runs()[i], i + 1, plan.runs().size());

  std::vector<std::pair<std::string, std::string>> labels;
  for (const variant& v : asked.variants) labels.emplace_back(v.label, v.algorithm);
  const auto colors = colors_of(labels);
  for (const variant& v : asked.variants)
    for (const std::uint64_t seed : asked.seeds) {
      const settings s = plan.settings_of(v, seed);
      const finished_run run = read_run(s.out);
      use_title(all, s.out, run);
      compared_curve c = curve_of(run, v.algorithm);
      c.judged = judged_by(run.results, v.algorithm);
      c.label = v.label;
      c.title = v.label == v.algorithm ? title(v.algorithm) : v.label;
      c.color = colors.at(v.label);
      c.seed = seed;
      all.curves.push_back(std::move(c));
      all.folders.push_back(fs::relative(s.out, asked.run.out).string());
    }
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
  joined_curves curves;
  for (const std::string& folder : runs) {
    const finished_run run = read_run(folder);
    use_title(all, folder, run);
    std::vector<std::string> found = methods(run.results.points);
    if (run.results.points.empty()) found = {"reward_model"};
    for (const std::string& method : found) {
      if (method == "best_of_n") continue;
      compared_curve c = curve_of(run, method);
      c.judged = judged_by(run.results, method);
      if (c.points.empty() && c.judged.empty()) continue;
      c.seed = c.points.empty() ? run.seed : c.points.front().seed;
      curves.add(std::move(c), apart_from_seed(run.recorded), folder);
    }
    all.folders.push_back(folder);
  }
  all.curves = curves.labelled();
  write_joined(all, out);
}

}  // namespace align
