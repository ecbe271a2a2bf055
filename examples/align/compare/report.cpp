// What a comparison shows: means over seeds with their intervals, at the end, at equal KL and at equal reward.

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>

#include "align/compare/comparison.hpp"
#include "align/compare/spread.hpp"
#include "align/files/save.hpp"
#include "align/report/curves.hpp"
#include "align/report/figure.hpp"
#include "align/report/page.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// The same, with how many of the runs it is of where it is not all.
std::string shown(const spread& s, int digits, std::size_t runs) {
  return shown(s, digits) +
         (s.n > 0 && s.n < runs ? " (" + std::to_string(s.n) + " of " + std::to_string(runs) + ")" : "");
}
ordered_json json_of(const spread& s) {
  ordered_json out = {{"runs", s.n}};
  out["mean"] = s.n > 0 ? ordered_json(s.mean) : ordered_json(nullptr);
  out["half"] = s.n > 1 ? ordered_json(s.half) : ordered_json(nullptr);
  return out;
}

/// Two cells of a table with commas; a single number has no interval.
std::string mean_and_half(const spread& s) {
  std::ostringstream text;
  if (s.n > 0) text << s.mean;
  text << ',';
  if (s.n > 1) text << s.half;
  return text.str();
}

/// `y` of a curve where `x` first comes to `at`, in the order of its evaluations.
template <class X, class Y>
std::optional<double> first_at(const std::vector<curve_point>& points, double at, X&& x, Y&& y) {
  if (points.empty()) return {};
  if (x(points.front()) >= at) return y(points.front());
  for (std::size_t i = 1; i < points.size(); ++i)
    if (const double a = x(points[i - 1]), b = x(points[i]); b >= at)
      return y(points[i - 1]) + (y(points[i]) - y(points[i - 1])) * (at - a) / (b - a);
  return {};
}
double reward_of(const curve_point& p) { return p.reward; }
double kl_of(const curve_point& p) { return p.kl; }
double tokens_of(const curve_point& p) { return static_cast<double>(p.tokens); }

std::optional<double> reward_at_kl(const compared_curve& c, double kl) {
  return first_at(c.points, kl, kl_of, reward_of);
}
std::optional<double> tokens_to(const compared_curve& c, double reward) {
  return first_at(c.points, reward, reward_of, tokens_of);
}

/// The curves of a label.
struct group {
  std::string label, title, color;
  std::vector<const compared_curve*> runs;
  [[nodiscard]] const compared_curve* with_seed(std::uint64_t seed) const {
    for (const compared_curve* c : runs)
      if (c->seed == seed) return c;
    return nullptr;
  }
};
std::vector<group> groups_of(const comparison& all) {
  std::vector<group> out;
  for (const compared_curve& c : all.curves) {
    auto it = std::find_if(out.begin(), out.end(), [&](const group& g) { return g.label == c.label; });
    if (it == out.end()) it = out.insert(out.end(), {c.label, c.title, c.color, {}});
    it->runs.push_back(&c);
  }
  return out;
}

/// Earlier versions' runs do not know everything.
void add_known(double x, std::vector<double>& to) {
  if (x == x) to.push_back(x);
}

/// The mean over runs of an evaluation that all of them have.
struct mean_point {
  std::int64_t iteration = 0;
  spread reward = {}, kl = {}, promised = {}, length = {}, wins = {};
  double tokens = 0;
};
std::vector<mean_point> mean_curve(const std::vector<const std::vector<curve_point>*>& runs) {
  std::vector<mean_point> out;
  if (runs.empty()) return out;
  for (const curve_point& p : *runs.front()) {
    std::vector<double> reward, kl, promised, length, wins;
    mean_point m{.iteration = p.iteration};
    for (const auto* run : runs)
      for (const curve_point& q : *run)
        if (q.iteration == p.iteration) {
          reward.push_back(q.reward);
          kl.push_back(q.kl);
          if (q.has_proxy) promised.push_back(q.proxy);
          add_known(q.length, length);
          add_known(q.win_rate, wins);
          m.tokens += static_cast<double>(q.tokens) / static_cast<double>(runs.size());
        }
    if (reward.size() != runs.size()) continue;
    m.reward = spread_of(reward);
    m.kl = spread_of(kl);
    m.promised = spread_of(promised);
    m.length = spread_of(length);
    m.wins = spread_of(wins);
    out.push_back(m);
  }
  return out;
}
std::vector<mean_point> mean_curve(const group& g) {
  std::vector<const std::vector<curve_point>*> runs;
  for (const compared_curve* c : g.runs) runs.push_back(&c->points);
  return mean_curve(runs);
}
/// Best-of-n of each seed once.
std::vector<mean_point> mean_best_of_n(const comparison& all) {
  std::set<std::uint64_t> seen;
  std::vector<const std::vector<curve_point>*> runs;
  for (const compared_curve& c : all.curves)
    if (!c.best_of_n.empty() && seen.insert(c.seed).second) runs.push_back(&c.best_of_n);
  return mean_curve(runs);
}

/// With a band that is the interval of the mean, where three runs or more tell it.
series series_of(const std::vector<mean_point>& points, bool by_kl) {
  series s;
  for (const mean_point& p : points) {
    s.x.push_back(by_kl ? p.kl.mean : p.tokens / 1000);
    s.y.push_back(p.reward.mean);
    if (p.reward.n < 3) continue;
    s.low.push_back(p.reward.mean - p.reward.half);
    s.high.push_back(p.reward.mean + p.reward.half);
  }
  return s;
}

figure drawn(const comparison& all, const std::vector<group>& groups, bool by_kl, bool excess) {
  figure f = by_kl ? figure{"reward-kl", "KL to the start, nats per " + all.unit, "mean reward", {}}
                   : figure{"reward-tokens", "thousand response tokens", "mean reward", {}};
  if (excess) f.name = "over-optimised";
  if (by_kl) {
    f.lines.push_back(series_of(mean_best_of_n(all), true));
    f.lines.back().title = title("best_of_n");
    f.lines.back().color = color("best_of_n");
    f.lines.back().dashed = true;
  }
  for (const group& g : groups) {
    if (overoptimised(g.runs.front()->method) != excess) continue;
    series s = series_of(mean_curve(g), by_kl);
    s.title = g.title;
    s.color = g.color;
    f.lines.push_back(s);
  }
  return f;
}

/// True rewards and, dashed, what the learned ones promised.
figure promises(const comparison& all, const std::vector<group>& groups) {
  figure f{"promises", "KL to the start, nats per " + all.unit, "mean reward", {}};
  for (const group& g : groups) {
    if (overoptimised(g.runs.front()->method)) continue;
    const std::vector<mean_point> points = mean_curve(g);
    series truth = series_of(points, true);
    truth.title = g.title;
    truth.color = g.color;
    series promise{.title = g.title + ": promised", .color = g.color, .dashed = true};
    for (const mean_point& p : points) {
      if (p.promised.n == 0) continue;
      promise.x.push_back(p.kl.mean);
      promise.y.push_back(p.promised.mean);
    }
    f.lines.push_back(truth);
    if (!promise.x.empty()) f.lines.push_back(promise);
  }
  return f;
}

/// In MiB, over the runs that recorded it.
struct memory_summary {
  spread trainable, frozen, activations, peak;
};
memory_summary memory_over(const group& g) {
  std::vector<double> trainable, frozen, activations, peak;
  const auto mebibytes = [](std::int64_t bytes) { return static_cast<double>(bytes) / 1048576; };
  for (const compared_curve* c : g.runs) {
    if (c->memory) {
      trainable.push_back(mebibytes(c->memory->trainable));
      frozen.push_back(mebibytes(c->memory->frozen));
      activations.push_back(mebibytes(c->memory->activations));
    }
    if (c->peak > 0) peak.push_back(mebibytes(c->peak));
  }
  return {spread_of(trainable), spread_of(frozen), spread_of(activations), spread_of(peak)};
}

/// What is said of a label.
struct summary {
  const group* of;
  spread reward, kl, gain, share, seconds, each, tokens, ahead, sooner;
  spread objective, iterations;  ///< J, and iterations to the first one's
  spread promised, peak, peak_kl;
  std::vector<spread> at_kl;
  memory_summary memory;
  spread wins, length;
};

class table_of_summaries {
 public:
  table_of_summaries(const comparison& all, const std::vector<group>& groups)
      : price_(all.price), maximised_(all.maximised) {
    const group* reference = nullptr;
    for (const group& g : groups)
      if (!g.runs.front()->points.empty()) {
        reference = &g;
        break;
      }
    if (reference == nullptr) return;
    first_ = reference->title;
    // As far as every run of the first one goes, and half as far.
    double furthest = infinity;
    for (const compared_curve* c : reference->runs) {
      double most = 0;
      for (const curve_point& p : c->points) most = std::max(most, p.kl);
      furthest = std::min(furthest, most);
    }
    for (const double level : {std::floor(5 * furthest) / 10, std::floor(10 * furthest) / 10})
      if (level > 0 && (levels_.empty() || level > levels_.back())) levels_.push_back(level);
    for (const group& g : groups)
      if (!g.runs.front()->points.empty()) rows_.push_back(look(g, *reference));
  }
  [[nodiscard]] bool empty() const { return rows_.empty(); }

  void show(page& out) const {
    std::vector<std::string> head{"", "runs", "reward", "gain", "KL, nats", "of best-of-n", "wins", "length"};
    std::vector<std::vector<std::string>> cells, others;
    for (const summary& s : rows_) {
      const std::size_t n = s.of->runs.size();
      cells.push_back({escaped(s.of->title), std::to_string(n), shown(s.reward, 2), shown(s.gain, 2), shown(s.kl, 2),
                       shown(s.share, 2, n), shown(s.wins, 2, n), shown(s.length, 1, n)});
    }
    out.table(head, cells);
    out.paragraph(
        "<small>The last evaluation; mean and 95&nbsp;% interval (Student) over the runs. Gain: over the start, in "
        "standard deviations of its samples' reward. Of best-of-n: the gain divided by what best-of-n gains over a "
        "single one of its own samples at the same KL, of the runs whose KL best-of-n comes to. Wins: how often a "
        "response scores higher than one of the start to the same prompt, ties half. Length: tokens of a response. A "
        "dash: the runs did not record it.</small>");
    if (price_ > 0) {
      std::vector<std::vector<std::string>> goals;
      for (const summary& s : rows_)
        goals.push_back({escaped(s.of->title), shown(s.objective, 2), shown(s.iterations, 1, s.of->runs.size())});
      out.table({"", "J", "iterations to " + escaped(first_) + "'s J"}, goals);
      out.paragraph("<small>J: the reward less " + fixed(price_, 3) + " times the KL" +
                    (maximised_ ? ", which is what " + escaped(first_) + " maximises" : "") +
                    ". What goes over a fixed set has evaluations, no iterations: a dash.</small>");
    }
    if (std::any_of(rows_.begin(), rows_.end(), [](const summary& s) { return s.promised.n > 0; })) {
      std::vector<std::vector<std::string>> promises;
      for (const summary& s : rows_)
        promises.push_back(
            {escaped(s.of->title), shown(s.promised, 2), shown(s.reward, 2), shown(s.peak, 2), shown(s.peak_kl, 1)});
      out.table({"", "promised", "true", "highest true", "at nats"}, promises);
      out.paragraph(
          "<small>What the learned reward promises and what the true one is at the last evaluation; the highest true "
          "reward of a curve, and where it is.</small>");
    }
    head = {"", "reward less " + escaped(first_) + "'s"};
    for (const double level : levels_) head.push_back("reward at " + fixed(level, 1) + " nats");
    head.insert(head.end(), {"samples to its reward", "seconds", "seconds an iteration"});
    for (const summary& s : rows_) {
      const std::size_t n = s.of->runs.size();
      std::vector<std::string> row{escaped(s.of->title), shown(s.ahead, 2)};
      for (const spread& one : s.at_kl) row.push_back(shown(one, 2, n));
      row.insert(row.end(), {shown(s.sooner, 2, n), shown(s.seconds, 1), shown(s.each, 2)});
      others.push_back(std::move(row));
    }
    out.table(head, others);
    out.paragraph(
        "<small>Differences and shares are of runs with the same seed. Samples: the response tokens that a method has "
        "sampled itself, or read of a fixed set for the first time, each once; what a guide or a value learned from "
        "before (RTO's pairs, DVPO's) is not counted. How many there were when the reward first comes to the last one "
        "of " +
        escaped(first_) +
        ", as a share of what that one had needed; where not every run comes so far, of those that do. Seconds: "
        "learning alone, without evaluation and without what is shared (start, reward, a guide's DPO).</small>");
    show_memory(out);
  }
  [[nodiscard]] std::string csv() const {
    std::ostringstream out;
    out << "method,runs,reward,reward_interval,kl,kl_interval,gain,gain_interval,of_best_of_n,of_best_of_n_interval,"
           "seconds,seconds_interval,seconds_an_iteration,seconds_an_iteration_interval,tokens,less_first,"
           "less_first_interval,samples_to_first,samples_to_first_interval,samples_to_first_runs";
    out << ",objective,objective_interval,iterations_to_first,iterations_to_first_interval,iterations_to_first_runs,"
           "promised,"
           "promised_interval,highest,highest_interval,highest_kl,highest_kl_interval";
    for (const double level : levels_)
      out << ",reward_at_" << fixed(level, 1) << ",reward_at_" << fixed(level, 1) << "_interval,reward_at_"
          << fixed(level, 1) << "_runs";
    for (const char* what : {"trainable", "frozen", "activations", "peak"})
      out << ',' << what << "_mib," << what << "_mib_interval";
    out << ",win_rate,win_rate_interval,length,length_interval";
    out << '\n';
    for (const summary& s : rows_) {
      out << s.of->label << ',' << s.of->runs.size() << ',' << mean_and_half(s.reward) << ',' << mean_and_half(s.kl)
          << ',' << mean_and_half(s.gain) << ',' << mean_and_half(s.share) << ',' << mean_and_half(s.seconds) << ','
          << mean_and_half(s.each) << ',' << s.tokens.mean << ',' << mean_and_half(s.ahead) << ','
          << mean_and_half(s.sooner) << ',' << s.sooner.n << ',' << mean_and_half(s.objective) << ','
          << mean_and_half(s.iterations) << ',' << s.iterations.n << ',' << mean_and_half(s.promised) << ','
          << mean_and_half(s.peak) << ',' << mean_and_half(s.peak_kl);
      for (const spread& one : s.at_kl) out << ',' << mean_and_half(one) << ',' << one.n;
      for (const spread& one : {s.memory.trainable, s.memory.frozen, s.memory.activations, s.memory.peak})
        out << ',' << mean_and_half(one);
      out << ',' << mean_and_half(s.wins) << ',' << mean_and_half(s.length) << '\n';
    }
    return out.str();
  }
  [[nodiscard]] ordered_json json() const {
    ordered_json list = ordered_json::array();
    for (const summary& s : rows_) {
      ordered_json one = {{"method", s.of->label},
                          {"runs", s.of->runs.size()},
                          {"reward", json_of(s.reward)},
                          {"kl", json_of(s.kl)},
                          {"gain", json_of(s.gain)},
                          {"of_best_of_n", json_of(s.share)},
                          {"tokens", json_of(s.tokens)},
                          {"seconds", json_of(s.seconds)},
                          {"seconds_an_iteration", json_of(s.each)},
                          {"less_first", json_of(s.ahead)},
                          {"samples_to_first", json_of(s.sooner)},
                          {"objective", json_of(s.objective)},
                          {"iterations_to_first", json_of(s.iterations)},
                          {"promised", json_of(s.promised)},
                          {"highest", json_of(s.peak)},
                          {"highest_kl", json_of(s.peak_kl)}};
      for (std::size_t i = 0; i < levels_.size(); ++i) one["reward_at"][fixed(levels_[i], 1)] = json_of(s.at_kl[i]);
      one["memory_mib"] = {{"trainable", json_of(s.memory.trainable)},
                           {"frozen", json_of(s.memory.frozen)},
                           {"activations", json_of(s.memory.activations)},
                           {"peak", json_of(s.memory.peak)}};
      one["win_rate"] = json_of(s.wins);
      one["length"] = json_of(s.length);
      list.push_back(std::move(one));
    }
    return list;
  }

 private:
  static constexpr double infinity = std::numeric_limits<double>::infinity();

  void show_memory(page& out) const {
    const auto known = [](const summary& s) { return s.memory.trainable.n + s.memory.peak.n > 0; };
    if (std::none_of(rows_.begin(), rows_.end(), known)) return;
    std::vector<std::vector<std::string>> cells;
    for (const summary& s : rows_)
      cells.push_back({escaped(s.of->title), shown(s.memory.trainable, 2), shown(s.memory.frozen, 2),
                       shown(s.memory.activations, 1), shown(s.memory.peak, 0)});
    out.heading("Memory, MiB");
    out.table({"", "trainable", "frozen", "activations", "peak"}, cells);
    out.paragraph(
        "<small>Of the method's own loop. Trainable: parameters, gradients and two moments of all that learns. Frozen: "
        "parameters of what is only read (reference, reward model, guide, frozen values). Activations: the most that "
        "passes needed beside them, kept activations, logits and workspaces. Peak: resident memory of the process, "
        "with data, samplers and evaluation. A dash: the run did not record it.</small>");
  }

  [[nodiscard]] summary look(const group& g, const group& reference) const {
    std::vector<double> reward, kl, gain, share, seconds, each, tokens, ahead, sooner, objective, iterations, promised,
        peak, peak_kl, wins, length;
    const auto j_of = [&](const curve_point& p) { return p.reward - price_ * p.kl; };
    const auto count_of = [](const curve_point& p) { return static_cast<double>(p.iteration); };
    std::vector<std::vector<double>> at_kl(levels_.size());
    for (const compared_curve* c : g.runs) {
      const curve_point &begin = c->points.front(), &end = c->points.back();
      reward.push_back(end.reward);
      kl.push_back(end.kl);
      gain.push_back(c->deviation > 0 ? (end.reward - begin.reward) / c->deviation : 0);
      if (const double sampled = best_of_n_gain(c->best_of_n, end.kl); sampled > 0)
        share.push_back((end.reward - begin.reward) / sampled);
      seconds.push_back(end.seconds);
      const bool iterates = !learns_from_a_fixed_set(c->method);
      if (iterates) each.push_back(end.seconds / static_cast<double>(std::max<std::int64_t>(1, end.iteration)));
      tokens.push_back(static_cast<double>(end.tokens));
      objective.push_back(j_of(end));
      const curve_point& best = *std::max_element(c->points.begin(), c->points.end(),
                                                  [](const auto& a, const auto& b) { return a.reward < b.reward; });
      peak.push_back(best.reward);
      peak_kl.push_back(best.kl);
      if (end.has_proxy) promised.push_back(end.proxy);
      add_known(end.win_rate, wins);
      add_known(end.length, length);
      for (std::size_t i = 0; i < levels_.size(); ++i)
        if (const auto at = reward_at_kl(*c, levels_[i])) at_kl[i].push_back(*at);
      const compared_curve* const other = reference.with_seed(c->seed);
      if (other == nullptr) continue;
      const double goal = other->points.back().reward;
      if (c != other) ahead.push_back(end.reward - goal);
      const auto mine = tokens_to(*c, goal), its = tokens_to(*other, goal);
      if (mine && its && *its > 0) sooner.push_back(*mine / *its);
      if (!iterates) continue;
      if (const auto at = first_at(c->points, j_of(other->points.back()), j_of, count_of)) iterations.push_back(*at);
    }
    summary s{&g,
              spread_of(reward),
              spread_of(kl),
              spread_of(gain),
              spread_of(share),
              spread_of(seconds),
              spread_of(each),
              spread_of(tokens),
              spread_of(ahead),
              spread_of(sooner),
              spread_of(objective),
              spread_of(iterations),
              spread_of(promised),
              spread_of(peak),
              spread_of(peak_kl),
              {},
              memory_over(g),
              spread_of(wins),
              spread_of(length)};
    for (const auto& one : at_kl) s.at_kl.push_back(spread_of(one));
    return s;
  }

  double price_;
  bool maximised_;
  std::string first_;
  std::vector<double> levels_;
  std::vector<summary> rows_;
};

/// How a label, or the word counts beside it, ranked the held-out preferences of each run.
struct ranking {
  std::string name, title;
  std::map<std::uint64_t, ordered_json> by_seed;

  /// A number of every run that has it: at `table`, `key`.
  [[nodiscard]] std::map<std::uint64_t, double> numbers(const char* table, const char* key) const {
    std::map<std::uint64_t, double> out;
    for (const auto& [seed, j] : by_seed)
      if (const auto at = j.find(table); at != j.end() && at->contains(key) && (*at)[key].is_number())
        out[seed] = (*at)[key].get<double>();
    return out;
  }
  [[nodiscard]] spread of(const char* table, const char* key, double scale = 1) const {
    std::vector<double> out;
    for (const auto& [seed, x] : numbers(table, key)) out.push_back(scale * x);
    return spread_of(out);
  }
  /// What is right here less what is right there, on the same held-out pairs.
  [[nodiscard]] spread ahead_of(const ranking& other, double scale = 1) const {
    std::vector<double> out;
    const auto theirs = other.numbers("accuracy", "share");
    for (const auto& [seed, x] : numbers("accuracy", "share"))
      if (const auto at = theirs.find(seed); at != theirs.end()) out.push_back(scale * (x - at->second));
    return spread_of(out);
  }
};
std::vector<ranking> rankings_of(const std::vector<group>& groups) {
  std::vector<ranking> out;
  ranking counted{"bag of words", "bag of words", {}};
  for (const group& g : groups) {
    std::map<std::string, ranking> own;
    for (const compared_curve* c : g.runs)
      for (const auto& [name, text] : c->judged) {
        ordered_json j = ordered_json::parse(text);
        if (!j.contains("accuracy")) continue;
        if (name == counted.name) {
          counted.by_seed.emplace(c->seed, std::move(j));  // the same for every label
        } else {
          ranking& r = own.try_emplace(name, ranking{g.label, g.title, {}}).first->second;
          r.by_seed.emplace(c->seed, std::move(j));
        }
      }
    for (auto& [name, r] : own) out.push_back(std::move(r));
  }
  if (!counted.by_seed.empty()) out.push_back(std::move(counted));
  return out;
}
void judged(page& out, const std::vector<ranking>& all) {
  out.heading("Held-out preferences");
  out.paragraph(
      "How often the preferred response is ranked first, in %: mean and 95&nbsp;% interval (Student) over the seeds, "
      "the "
      "mean of the runs' own binomial intervals, which say how sure a run is of the data that it was judged by, and "
      "what "
      "is more or less than the first one gets on the same pairs; what choosing the longer one would get; the accuracy "
      "where the preferred one is the longer and where it is the shorter; the calibration error, and the mean of -log "
      "of "
      "the probability of what was preferred (a coin: 0.693).");
  std::vector<std::vector<std::string>> rows;
  for (const ranking& r : all)
    rows.push_back({escaped(r.title), std::to_string(r.by_seed.size()), shown(r.of("accuracy", "share", 100), 1),
                    fixed(r.of("accuracy", "low", 100).mean, 1) + " – " + fixed(r.of("accuracy", "high", 100).mean, 1),
                    r.name == all.front().name ? "–" : shown(r.ahead_of(all.front(), 100), 1),
                    shown(r.of("longer_wins", "share", 100), 1), shown(r.of("longer_chosen", "share", 100), 1),
                    shown(r.of("shorter_chosen", "share", 100), 1), shown(r.of("calibration", "ece"), 3),
                    shown(r.of("calibration", "nll"), 3)});
  out.table({"", "runs", "right", "binomial", "less the first's", "longer wins", "if longer", "if shorter",
             "calibration error", "nats a pair"},
            rows);
}
ordered_json judged_json(const std::vector<ranking>& all) {
  ordered_json list = ordered_json::array();
  for (const ranking& r : all)
    list.push_back({{"method", r.name},
                    {"accuracy", json_of(r.of("accuracy", "share"))},
                    {"low", json_of(r.of("accuracy", "low"))},
                    {"high", json_of(r.of("accuracy", "high"))},
                    {"accuracy_difference", json_of(r.ahead_of(all.front()))},
                    {"longer_wins", json_of(r.of("longer_wins", "share"))},
                    {"longer_chosen", json_of(r.of("longer_chosen", "share"))},
                    {"shorter_chosen", json_of(r.of("shorter_chosen", "share"))},
                    {"calibration_error", json_of(r.of("calibration", "ece"))},
                    {"nll", json_of(r.of("calibration", "nll"))},
                    {"temperature", json_of(r.of("calibration", "temperature"))}});
  return list;
}
std::string judged_csv(const std::vector<ranking>& all) {
  std::ostringstream out;
  out << "method,runs";
  constexpr const char* columns[] = {"accuracy",       "accuracy_difference", "longer_wins", "longer_chosen",
                                     "shorter_chosen", "calibration_error",   "nll",         "temperature"};
  for (const char* name : columns) out << ',' << name << ',' << name << "_interval";
  out << ",binomial_low,binomial_high\n";
  for (const ranking& r : all)
    out << r.name << ',' << r.by_seed.size() << ',' << mean_and_half(r.of("accuracy", "share")) << ','
        << mean_and_half(r.ahead_of(all.front())) << ',' << mean_and_half(r.of("longer_wins", "share")) << ','
        << mean_and_half(r.of("longer_chosen", "share")) << ',' << mean_and_half(r.of("shorter_chosen", "share")) << ','
        << mean_and_half(r.of("calibration", "ece")) << ',' << mean_and_half(r.of("calibration", "nll")) << ','
        << mean_and_half(r.of("calibration", "temperature")) << ',' << r.of("accuracy", "low").mean << ','
        << r.of("accuracy", "high").mean << '\n';
  return out.str();
}

std::string words_of(const tried& t) {
  std::string out;
  for (const std::string& option : t.options) out += (out.empty() ? "" : " ") + option;
  return out.empty() ? "as it is" : out;
}

/// What settings were chosen among.
void tuned(page& out, const comparison& all) {
  out.heading("Settings chosen");
  std::vector<std::vector<std::string>> rows;
  for (const tried& t : all.tuning)
    rows.push_back({escaped(t.label), escaped(words_of(t)), t.failed.empty() ? shown(t.objective, 2) : "diverged",
                    shown(t.reward, 2), shown(t.kl, 2), t.chosen ? "chosen" : ""});
  out.table({"", "settings", "J", "reward", "KL, nats", ""}, rows, 2);
  out.paragraph(
      "<small>Before the runs of this page, on seeds of their own and the same number for each: the settings "
      "with the highest J at the last evaluation.</small>");
}
ordered_json tuning_json(const comparison& all) {
  ordered_json list = ordered_json::array();
  for (const tried& t : all.tuning) {
    list.push_back({{"method", t.label},
                    {"options", t.options},
                    {"objective", json_of(t.objective)},
                    {"reward", json_of(t.reward)},
                    {"kl", json_of(t.kl)},
                    {"chosen", t.chosen}});
    if (!t.failed.empty()) list.back()["failed"] = t.failed;
  }
  return list;
}
std::string tuning_csv(const comparison& all) {
  std::ostringstream out;
  out << "method,settings,runs,objective,objective_interval,reward,reward_interval,kl,kl_interval,chosen\n";
  for (const tried& t : all.tuning)
    out << t.label << ',' << words_of(t) << ',' << t.objective.n << ',' << mean_and_half(t.objective) << ','
        << mean_and_half(t.reward) << ',' << mean_and_half(t.kl) << ',' << (t.chosen ? 1 : 0) << '\n';
  return out.str();
}

std::string curves_csv(const std::vector<group>& groups, const comparison& all) {
  std::ostringstream out;
  out << "method,iteration,runs,reward,reward_interval,kl,kl_interval,tokens,win_rate,win_rate_interval,length,"
         "length_interval\n";
  const auto add = [&](const std::string& label, const std::vector<mean_point>& points) {
    for (const mean_point& p : points)
      out << label << ',' << p.iteration << ',' << p.reward.n << ',' << mean_and_half(p.reward) << ','
          << mean_and_half(p.kl) << ',' << p.tokens << ',' << mean_and_half(p.wins) << ',' << mean_and_half(p.length)
          << '\n';
  };
  add("best_of_n", mean_best_of_n(all));
  for (const group& g : groups) add(g.label, mean_curve(g));
  return out.str();
}

}  // namespace

void write_joined(const comparison& all, const std::string& out_folder) {
  const fs::path folder = out_folder;
  const std::vector<group> groups = groups_of(all);
  std::set<std::uint64_t> seeds;
  ordered_json points = ordered_json::array();
  std::set<std::uint64_t> told;
  const auto add = [&](const std::string& label, const std::vector<curve_point>& from) {
    for (const curve_point& p : from) points.push_back(json_of(p, label));
  };
  for (const compared_curve& c : all.curves) {
    seeds.insert(c.seed);
    if (told.insert(c.seed).second) add("best_of_n", c.best_of_n);
    add(c.label, c.points);
  }

  page out(all.title + ": " + std::to_string(all.folders.size()) + (all.folders.size() == 1 ? " run" : " runs"));
  std::string seed_list;
  for (const std::uint64_t seed : seeds) seed_list += (seed_list.empty() ? "" : ", ") + std::to_string(seed);
  out.paragraph("Seeds " + seed_list + ".");
  const table_of_summaries found(all, groups);
  if (!found.empty()) {
    found.show(out);
    for (const bool by_kl : {true, false}) {
      out.heading(by_kl ? "Reward against KL" : "Reward against samples");
      out.figure_of(draw(folder, drawn(all, groups, by_kl, false)));
    }
    if (std::any_of(all.curves.begin(), all.curves.end(), [](const compared_curve& c) {
          return !overoptimised(c.method) && !c.points.empty() && c.points.back().has_proxy;
        })) {
      out.heading("True and promised reward");
      out.figure_of(draw(folder, promises(all, groups)));
    }
    if (std::any_of(groups.begin(), groups.end(),
                    [](const group& g) { return overoptimised(g.runs.front()->method); })) {
      out.heading("Too far");
      out.figure_of(draw(folder, drawn(all, groups, true, true)));
    }
    out.paragraph(
        "<small>Means over the runs at each evaluation; a band is the 95&nbsp;% interval of the mean reward. The "
        "dashed line "
        "needs no training: draw n, keep the best.</small>");
  }
  const std::vector<ranking> preferences = rankings_of(groups);
  if (!preferences.empty()) judged(out, preferences);
  if (!all.tuning.empty()) tuned(out, all);
  out.heading("Runs");
  std::string which;
  for (const std::string& run : all.folders) which += "<li><code>" + escaped(run) + "</code></li>";
  out.raw("<details><summary>" + std::to_string(all.folders.size()) + "</summary><ul>" + which + "</ul></details>");
  if (!all.settings.empty())
    out.raw("<details><summary>All settings</summary><pre>" + escaped(all.settings) + "</pre></details>");

  ordered_json json = {{"task", all.title},
                       {"unit", all.unit},
                       {"seeds", seeds},
                       {"methods", found.json()},
                       {"preferences", judged_json(preferences)}};
  if (!all.tuning.empty()) {
    json["tuning"] = tuning_json(all);
    save_file(folder / "tuning.csv", tuning_csv(all));
  }
  if (!preferences.empty()) save_file(folder / "preferences.csv", judged_csv(preferences));
  save_file(folder / "report.json", points.dump(1) + "\n");
  save_file(folder / "comparison.json", json.dump(1) + "\n");
  save_file(folder / "compare.csv", found.csv());
  save_file(folder / "curves.csv", curves_csv(groups, all));
  save_file(folder / "report.html", out.text());
}

}  // namespace align
