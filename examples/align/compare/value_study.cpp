#include "align/compare/value_study.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <stdexcept>

#include "align/compare/spread.hpp"
#include "align/files/reward_safetensors.hpp"
#include "align/files/save.hpp"
#include "align/report/figure.hpp"
#include "align/report/page.hpp"
#include "align/report/report.hpp"
#include "align/run/peak_memory.hpp"
#include "align/run/pipeline.hpp"
#include "align/run/rehearsal.hpp"
#include "align/run/workshop.hpp"
#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/train/prefix.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// What is measured of one way to estimate, for one seed; NaN: not of this one.
struct measured {
  double error = std::nan(""), bias = std::nan(""), correlation = std::nan("");
  double variance = std::nan(""), noise = std::nan("");
  double signal = std::nan("");  ///< squared length of the mean gradient, without bias: may be below 0
};
/// Names of the ways in the order of the report, and what was measured of each.
using findings = std::vector<std::pair<std::string, measured>>;

std::string by_rollouts(std::int64_t k) { return "K = " + std::to_string(k); }
constexpr const char* critic_name = "critic";
constexpr const char* critic_gae_name = "critic, GAE 0.95";
constexpr const char* return_name = "return alone";

/// The sum of gradients and of their squares.
struct gradient_sums {
  std::vector<double> sum;
  double squares = 0;
  void add(std::span<const float> g) {
    sum.resize(g.size());
    for (std::size_t i = 0; i < g.size(); ++i) {
      sum[i] += static_cast<double>(g[i]);
      squares += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    }
  }
  void look(std::int64_t batches, measured& to) const {
    const auto n = static_cast<double>(batches);
    double square = 0;
    for (const double x : sum) square += x * x;
    to.variance = (squares - square / n) / (n - 1);
    // The square of a mean of n is too large by its variance.
    to.signal = square / (n * n) - to.variance / n;
    if (to.signal > 0) to.noise = to.variance / to.signal;
  }
};

class study_of_seed {
 public:
  study_of_seed(workshop& w, const value_study& how)
      : w_(w),
        how_(how),
        model_(w.loaded("ppo")),
        critic_(w.new_critic()),
        most_(*std::max_element(how.rollouts.begin(), how.rollouts.end())) {
    load_reward_model(w.folder.model("ppo_critic"), w.subject.shape, critic_.parameters());
    for (const std::int64_t k : how_.rollouts) found_.push_back({by_rollouts(k), {}});
    for (const char* name : {critic_name, critic_gae_name, return_name}) found_.push_back({name, {}});
  }

  [[nodiscard]] findings run() {
    judge_values();
    judge_gradients();
    return found_;
  }
  /// Seconds of all of it, by a part.
  [[nodiscard]] static double rehearse(workshop& w, const value_study& how) {
    value_study some = how;
    some.truth = some.batches = 2;
    study_of_seed part(w, some);
    const auto times = [](std::int64_t all, std::int64_t done, double seconds) {
      return seconds * static_cast<double>(all) / static_cast<double>(done);
    };
    return times(how.truth + part.most_, some.truth + part.most_, seconds_of([&] { part.judge_values(); })) +
           times(how.batches, some.batches, seconds_of([&] { part.judge_gradients(); }));
  }
  /// Standard deviation of the true values between states.
  [[nodiscard]] double deviation() const { return deviation_; }
  /// States whose values were judged: equal ones of several responses are one.
  [[nodiscard]] std::size_t states() const { return states_; }

 private:
  /// Fresh responses, their states and the returns of rollouts from each.
  struct sampled {
    rlhf::rollout drawn;
    rlhf::response_steps steps;
    std::vector<double> returns;  ///< [states, n]
    std::int64_t n = 0;
  };
  [[nodiscard]] measured& of(const std::string& name) {
    return std::find_if(found_.begin(), found_.end(), [&](const auto& f) { return f.first == name; })->second;
  }

  /// The score less the price of the log-ratio of the whole response.
  [[nodiscard]] double return_of(const rlhf::rollout& r, std::int64_t j) const {
    return static_cast<double>(r.score[static_cast<std::size_t>(j)]) - w_.sizes.ppo.kl * r.log_ratio(j);
  }
  [[nodiscard]] sampled sample(std::int64_t number, std::int64_t responses, std::int64_t rollouts) {
    const rlhf::random_key own = w_.key(value_draws + static_cast<std::uint64_t>(2 * number));
    rlhf::rollout r = rlhf::collect(model_, w_.start(), w_.reward(), w_.prompts(number, responses), 1, own, 0);
    rlhf::response_steps steps(r.batch, rlhf::every_n_tokens{w_.sizes.vine.step});
    const rlhf::random_key next{own.seed, own.stream + 1};
    const rlhf::responses continued = model_.sample_at_most(steps.prefixes, rollouts, next, steps.room(w_.longest()));
    const rlhf::rollout whole = rlhf::collect(model_, w_.start(), w_.reward(), steps.whole(continued, rollouts), 0);
    std::vector<double> returns;
    for (std::int64_t j = 0; j < whole.batch.size(); ++j) returns.push_back(return_of(whole, j));
    return {std::move(r), std::move(steps), std::move(returns), rollouts};
  }
  /// The mean of the returns [first, first + k) of a state.
  [[nodiscard]] static double mean(const sampled& s, std::size_t state, std::int64_t first, std::int64_t k) {
    const auto begin = s.returns.begin() + static_cast<std::ptrdiff_t>(state) * s.n + first;
    return std::accumulate(begin, begin + k, 0.0) / static_cast<double>(k);
  }
  /// The critic's values of the states: what it expects still to come, and what was paid before.
  [[nodiscard]] std::vector<double> critic_values(const sampled& s) {
    std::vector<float> value(s.drawn.old_logp.size());
    critic_.values(s.drawn.batch, value);
    std::vector<double> out(s.steps.prefixes.size());
    for (std::int64_t i = 0; i < s.drawn.batch.size(); ++i) {
      const auto row = static_cast<std::size_t>(i);
      const auto first = static_cast<std::size_t>(s.drawn.batch.response_offsets()[row]);
      for (auto k = static_cast<std::size_t>(s.steps.offsets[row]);
           k < static_cast<std::size_t>(s.steps.offsets[row + 1]); ++k) {
        const auto state = static_cast<std::size_t>(s.steps.state[k]);
        const auto begun = static_cast<std::size_t>(s.steps.begun[state]);
        double paid = 0;
        for (std::size_t t = first; t < first + begun; ++t)
          paid +=
              w_.sizes.ppo.kl * (static_cast<double>(s.drawn.old_logp[t]) - static_cast<double>(s.drawn.ref_logp[t]));
        out[state] = static_cast<double>(value[first + begun]) - paid;
      }
    }
    return out;
  }

  void judge_values() {
    // Truth and estimates are made of different rollouts.
    const sampled s = sample(0, std::max<std::int64_t>(1, how_.states / 3), how_.truth + most_);
    const std::size_t states = std::min(s.steps.prefixes.size(), static_cast<std::size_t>(how_.states));
    if (states < 2)
      throw std::runtime_error("values: the responses have " + std::to_string(states) +
                               " different states, wants 2 or more: more --states, or a shorter --vine-step");
    states_ = states;
    std::vector<double> truth(states);
    double error_of_truth = 0, center = 0;
    for (std::size_t i = 0; i < states; ++i) {
      // Spread over all states there are.
      const std::size_t state = i * s.steps.prefixes.size() / states;
      truth[i] = mean(s, state, 0, how_.truth);
      double squares = 0;
      for (std::int64_t j = 0; j < how_.truth; ++j) squares += rlhf::square(mean(s, state, j, 1) - truth[i]);
      error_of_truth += squares / static_cast<double>(how_.truth - 1) / static_cast<double>(how_.truth);
      center += truth[i] / static_cast<double>(states);
    }
    error_of_truth /= static_cast<double>(states);
    double spread = 0;
    double moment = 0;  // over all states there are, as the other moments below
    for (const double v : truth) {
      spread += rlhf::square(v - center) / static_cast<double>(states - 1);
      moment += rlhf::square(v - center) / static_cast<double>(states);
    }
    deviation_ = std::sqrt(std::max(0.0, spread - error_of_truth));

    /// Of `value(i, part)` for all parts.
    const auto look = [&](measured& to, std::int64_t parts, auto&& value) {
      double squares = 0, bias = 0, own = 0, own_squares = 0, both = 0;
      const auto n = static_cast<double>(states) * static_cast<double>(parts);
      for (std::size_t i = 0; i < states; ++i)
        for (std::int64_t part = 0; part < parts; ++part) {
          const double v = value(i * s.steps.prefixes.size() / states, part), gap = v - truth[i];
          squares += gap * gap / n;
          bias += gap / n;
          own += v / n;
          own_squares += v * v / n;
          both += v * (truth[i] - center) / n;
        }
      to.error = std::sqrt(std::max(0.0, squares - error_of_truth));
      to.bias = bias;
      const double deviations = std::sqrt(std::max(0.0, own_squares - own * own) * moment);
      to.correlation = deviations > 0 ? both / deviations : 0;
    };
    for (const std::int64_t k : how_.rollouts)
      look(of(by_rollouts(k)), most_ / k,
           [&](std::size_t state, std::int64_t part) { return mean(s, state, how_.truth + part * k, k); });
    const std::vector<double> learned = critic_values(s);
    look(of(critic_name), 1, [&](std::size_t state, std::int64_t) { return learned[state]; });
  }

  void judge_gradients() {
    std::vector<gradient_sums> sums(found_.size());
    for (std::int64_t b = 0; b < how_.batches; ++b) {
      const sampled s = sample(b + 1, how_.responses, most_);
      const rlhf::responses& batch = s.drawn.batch;
      std::vector<float> logp(s.drawn.old_logp.size()), returns;
      for (std::int64_t j = 0; j < batch.size(); ++j) returns.push_back(static_cast<float>(return_of(s.drawn, j)));
      model_.log_probs(batch, logp);
      const auto add = [&](const std::string& name, const std::vector<float>& advantage) {
        std::vector<float> slope;
        for (const float a : advantage) slope.push_back(a / static_cast<float>(batch.size()));
        std::fill(model_.gradient().begin(), model_.gradient().end(), 0.0f);
        model_.backward(slope);
        const auto at = std::find_if(found_.begin(), found_.end(), [&](const auto& f) { return f.first == name; });
        sums[static_cast<std::size_t>(at - found_.begin())].add(model_.gradient());
      };
      const auto over_steps = [&](const std::string& name, auto&& value) {
        std::vector<float> values, advantage(logp.size());
        for (const std::int64_t state : s.steps.state)
          values.push_back(static_cast<float>(value(static_cast<std::size_t>(state))));
        rlhf::or_throw(rlhf::vineppo{.whiten_advantages = false}.prepare(
            w_.cpu, batch.layout(),
            rlhf::vine_inputs<float>{rlhf::packed(s.steps.offsets), values, returns, s.steps.step}, advantage));
        add(name, advantage);
      };
      for (const std::int64_t k : how_.rollouts)
        over_steps(by_rollouts(k), [&](std::size_t state) { return mean(s, state, 0, k); });
      const std::vector<double> learned = critic_values(s);
      over_steps(critic_name, [&](std::size_t state) { return learned[state]; });

      std::vector<float> value(logp.size()), shaped(logp.size()), advantage(logp.size()), target(logp.size());
      critic_.values(batch, value);
      rlhf::ppo proximal;
      proximal.reward.coefficient = w_.sizes.ppo.kl;
      proximal.whiten_advantages = false;
      rlhf::or_throw(proximal.prepare(
          w_.cpu, batch.layout(),
          rlhf::rollout_inputs<float>{
              .old_logp = s.drawn.old_logp, .ref_logp = s.drawn.ref_logp, .value = value, .score = s.drawn.score},
          rlhf::rollout_outputs<float>{.reward = shaped, .advantage = advantage, .returns = target}));
      add(critic_gae_name, advantage);

      std::size_t at = 0;
      for (std::int64_t j = 0; j < batch.size(); ++j)
        for (std::size_t t = 0; t < batch.response(j).size(); ++t)
          advantage[at++] = returns[static_cast<std::size_t>(j)];
      add(return_name, advantage);
    }
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i].look(how_.batches, found_[i].second);
    std::fill(model_.gradient().begin(), model_.gradient().end(), 0.0f);
  }

  workshop& w_;
  const value_study& how_;
  policy model_;
  scalar_policy critic_;
  std::int64_t most_;
  findings found_;
  double deviation_ = 0;
  std::size_t states_ = 0;
};

/// The run of PPO that is measured.
settings run_of_seed(const request& asked, std::uint64_t seed) {
  settings s = asked.run;
  s.algorithms = {"ppo"};
  s.seed = seed;
  s.resume = true;
  s.anew = false;
  s.out = (fs::path(asked.run.out) / ("seed-" + std::to_string(seed))).string();
  return s;
}

/// Nothing of it is left to do; other settings are an error.
bool is_trained(const settings& s) {
  // The report is written last: a run that was killed before has none.
  return holds_finished(s.out, identity(s)) && fs::exists(fs::path(s.out) / "report.html");
}

/// Trains PPO where that is not done, and measures.
findings study(const settings& s, const value_study& how, double& deviation, std::size_t& states) {
  const bool trained = is_trained(s);  // other settings are an error before any work
  const task t = task_of(s);
  require_writable(s.out);
  require_room(s.out, disk_need(s, t));
  run_folder folder({.folder = s.out, .identity = identity(s), .resume = true, .anew = false, .keep = s.keep});
  if (!trained) write_report(s, t, run_pipeline(s, t, folder));
  workshop w(s, t, folder, true);
  study_of_seed all(w, how);
  findings out = all.run();
  deviation = all.deviation();
  states = all.states();
  return out;
}

/// Noise to signal of all seeds: the sum of their variances over that of their signals. A seed whose signal drowned in the noise
/// (0 or below) counts too; leaving it out would make the ratio look better than it is. The interval is the jackknife's.
spread pooled_noise(const std::vector<findings>& all, std::size_t i) {
  double variance = 0, signal = 0;
  for (const findings& f : all) {
    if (!std::isfinite(f[i].second.variance)) return {};
    variance += f[i].second.variance;
    signal += f[i].second.signal;
  }
  if (!(signal > 0)) return {};
  // The pseudo-values of the jackknife have the pooled ratio's spread.
  std::vector<double> pseudo;
  const auto n = static_cast<double>(all.size());
  for (const findings& f : all) {
    const double rest = signal - f[i].second.signal;
    if (all.size() > 1 && !(rest > 0)) return {1, variance / signal, 0};  // too little signal for an interval
    pseudo.push_back(all.size() > 1 ? n * variance / signal - (n - 1) * (variance - f[i].second.variance) / rest
                                    : variance / signal);
  }
  spread out = spread_of(pseudo);
  out.mean = variance / signal;
  return out;
}

constexpr std::pair<const char*, double measured::*> columns[] = {{"value_error", &measured::error},
                                                                  {"value_bias", &measured::bias},
                                                                  {"value_correlation", &measured::correlation},
                                                                  {"gradient_variance", &measured::variance},
                                                                  {"noise_to_signal", &measured::noise}};

}  // namespace

plan_of_runs plan_value_study(const request& asked) {
  kind_plan trained{.name = "ppo"}, measured{.name = "values"};
  for (const std::uint64_t seed : asked.seeds)
    if (!is_trained(run_of_seed(asked, seed))) ++trained.left;
  trained.runs = measured.runs = measured.left = asked.seeds.size();

  const settings s = run_of_seed(asked, asked.seeds.front());
  task t = task_of(s);
  const run_plan ppo = plan_pipeline(s, t);
  if (trained.left > 0) {
    trained.seconds = ppo.seconds;
    trained.peak_bytes = ppo.peak_bytes;
    trained.disk_bytes = ppo.disk_bytes;
  }
  t.start = ppo.start;
  forget_all_peaks();
  passing_run place;
  workshop w(s, t, place.folder(), true);
  scalar_policy critic = w.new_critic();
  if (!t.rule) place.leave_reward(t.shape, critic);
  w.keep("ppo", w.start());
  save_reward_model(w.folder.model("ppo_critic"), t.shape, critic.parameters());
  measured.seconds = study_of_seed::rehearse(w, asked.study);
  measured.peak_bytes = static_cast<double>(peak_of_all());
  return added_up({trained, measured});
}

void run_value_study(const request& asked) {
  require_writable(asked.run.out);
  const fs::path folder = asked.run.out;
  std::vector<findings> all;
  std::vector<double> deviations;
  std::vector<std::size_t> states;
  std::ostringstream csv;
  csv << "seed,estimate";
  for (const auto& [name, column] : columns) csv << ',' << name;
  csv << '\n';
  for (const std::uint64_t seed : asked.seeds) {
    std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(seed));
    all.push_back(study(run_of_seed(asked, seed), asked.study, deviations.emplace_back(), states.emplace_back()));
    for (const auto& [name, m] : all.back()) {
      csv << seed << ",\"" << name << '"';
      for (const auto& [column, member] : columns) {
        csv << ',';
        if (std::isfinite(m.*member)) csv << m.*member;
      }
      csv << '\n';
    }
  }

  ordered_json list = ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  series errors{.title = "K rollouts", .color = "#004488"},
      variances = errors, flat{.title = "critic", .color = "#228833", .dashed = true}, flat_variance = flat;
  for (std::size_t i = 0; i < all.front().size(); ++i) {
    const std::string& name = all.front()[i].first;
    std::vector<std::string> row{name};
    ordered_json one = {{"estimate", name}};
    spread found[std::size(columns)];
    for (std::size_t c = 0; c < std::size(columns); ++c) {
      std::vector<double> x;
      for (const findings& f : all)
        if (const double v = f[i].second.*columns[c].second; std::isfinite(v)) x.push_back(v);
      found[c] = spread_of(x);
      if (columns[c].second == &measured::noise) found[c] = pooled_noise(all, i);
      row.push_back(shown(found[c], c == 4 ? 1 : 3));
      one[columns[c].first] = {{"runs", found[c].n},
                               {"mean", found[c].mean},
                               {"half", found[c].n > 1 ? ordered_json(found[c].half) : ordered_json(nullptr)}};
    }
    rows.push_back(std::move(row));
    list.push_back(std::move(one));
    const auto put = [&](series& to, double x, const spread& s) {
      to.x.push_back(x);
      to.y.push_back(s.mean);
      if (s.n < 3) return;
      to.low.push_back(s.mean - s.half);
      to.high.push_back(s.mean + s.half);
    };
    if (i < asked.study.rollouts.size()) {
      put(errors, static_cast<double>(asked.study.rollouts[i]), found[0]);
      put(variances, static_cast<double>(asked.study.rollouts[i]), found[3]);
    } else if (name == critic_name) {
      for (const std::int64_t k : asked.study.rollouts) {
        put(flat, static_cast<double>(k), found[0]);
        put(flat_variance, static_cast<double>(k), found[3]);
      }
    }
  }

  std::string used;
  for (const std::size_t n : states) used += (used.empty() ? "" : ", ") + std::to_string(n);
  page out("Values of states, and the policy gradient");
  std::string seeds;
  for (const std::uint64_t seed : asked.seeds) seeds += (seeds.empty() ? "" : ", ") + std::to_string(seed);
  out.paragraph("Seeds " + seeds + ". After " + std::to_string(asked.run.how.iterations) +
                " iterations of PPO its policy and its critic stand still. The true value of a state is the mean of " +
                std::to_string(asked.study.truth) + " rollouts; the true values of the " + used +
                " different states of the seeds deviate by " + shown(spread_of(deviations), 3) +
                ". Means and 95&nbsp;% intervals (Student) over the seeds.");
  out.table({"", "value error", "bias", "correlation", "gradient variance", "noise to signal"}, rows);
  out.paragraph(
      "<small>Value error: root of the mean square, less what the truth itself errs. Gradient variance: trace of the "
      "covariance "
      "of "
      "the gradient of " +
      std::to_string(asked.study.responses) +
      " responses, advantages not whitened; noise to signal: the same divided by the squared length of the mean "
      "gradient, both summed over the seeds, with the jackknife's interval. K "
      "rollouts and the critic: a step's advantage is the difference of the values around it (" +
      std::to_string(asked.run.how.vine.step) + " tokens a step).</small>");
  figure f{"value-error", "rollouts of a state, K", "value error", {}};
  f.lines = {errors, flat};
  out.figure_of(draw(folder, f));
  f = {"gradient-variance", "rollouts of a state, K", "gradient variance", {}};
  f.lines = {variances, flat_variance};
  out.figure_of(draw(folder, f));
  const ordered_json json = {{"seeds", asked.seeds},
                             {"truth", asked.study.truth},
                             {"states", asked.study.states},
                             {"gradients", asked.study.batches},
                             {"responses", asked.study.responses},
                             {"value_deviation", spread_of(deviations).mean},
                             {"estimates", list},
                             {"states_used", states}};
  save_file(folder / "values.json", json.dump(1) + "\n");
  save_file(folder / "values.csv", csv.str());
  save_file(folder / "report.html", out.text());
}

}  // namespace align
