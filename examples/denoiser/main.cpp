// A few-step denoiser of pictures that are points of the plane: fitted to data by likelihood, then aligned to a taste by PPO, by
// REBEL, by REBEL against pictures of the data set, and in the form of REBEL's image experiments. The loops are those that
// train language models.
//
//   rlhf-denoiser [--quick] [--seed 1] [--steps 8] [--out FOLDER]
//     --quick: shorter, less sharp; FOLDER: where figures go

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>

#include "denoiser/denoiser.hpp"
#include "denoiser/figure.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/per_prompt_reward.hpp"
#include "rlhf/train/supervised.hpp"

namespace {

using namespace denoising;

constexpr double beta = 0.2;  ///< the price of a nat of KL, in units of reward

struct budget {
  std::size_t steps = 8;  ///< of the denoiser
  std::uint64_t seed = 1;
  std::uint32_t pictures = 10000;  ///< of each kind, to fit
  std::int64_t epochs = 30;        ///< of the fit
  std::int64_t iterations = 100;   ///< of each algorithm, of 512 prompts
  std::int64_t drawn = 4000;       ///< pictures of each kind that a policy is measured by
};

/// What a policy is worth: means over pictures of all kinds.
struct worth {
  double reward = 0, kl = 0, off = 0;  ///< off: the share that is further from the data than 4 of its deviations
  [[nodiscard]] double objective() const { return reward - beta * kl; }
};

/// n prompts, half of each kind: a start is drawn for each of them when it is sampled for.
rlhf::prompt_list ask(std::int64_t n) {
  rlhf::prompt_list out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back({static_cast<std::int32_t>(i % 2)});
  return out;
}

point end_of(const rlhf::responses& drawn, std::int64_t i) {
  const auto moves = drawn.response(i);
  return {static_cast<double>(rlhf::number_of(moves[moves.size() - 2])),
          static_cast<double>(rlhf::number_of(moves[moves.size() - 1]))};
}

worth measure(denoiser& policy, denoiser& start, std::int64_t of_each_kind, rlhf::random_key key) {
  const rlhf::responses drawn = policy.sample(ask(2 * of_each_kind), 1, key);
  const std::vector<double> kl = policy.kl(start, drawn);
  worth sum;
  for (std::int64_t i = 0; i < drawn.size(); ++i) {
    const auto what = static_cast<kind>(drawn.prompt(i)[0]);
    const point x = end_of(drawn, i);
    sum.reward += taste::of(what, x);
    sum.kl += kl[static_cast<std::size_t>(i)];
    sum.off += away(what, x) > 4 * width[static_cast<std::size_t>(what)] ? 1 : 0;
  }
  const auto n = static_cast<double>(drawn.size());
  return {sum.reward / n, sum.kl / n, sum.off / n};
}

/// No policy of whatever form has a larger reward less beta KL: the mean over starts of beta log E exp(reward / beta), the
/// expectation over what the start policy makes of a start.
double best_objective(denoiser& start, std::int64_t starts, std::int64_t samples, rlhf::random_key key) {
  const rlhf::responses drawn = start.sample(ask(starts), samples, key);
  double sum = 0;
  for (std::int64_t s = 0; s < starts; ++s) {
    double mean = 0;
    for (std::int64_t i = s * samples; i < (s + 1) * samples; ++i)
      mean += std::exp(taste::of(static_cast<kind>(drawn.prompt(i)[0]), end_of(drawn, i)) / beta);
    sum += beta * std::log(mean / static_cast<double>(samples));
  }
  return sum / static_cast<double>(starts);
}

rlhf::parameter_update<rlhf::cosine_schedule> falling(double rate, std::int64_t total) {
  return {{.rate = rate, .total = total}, {{.weight_decay = 0}}, 1.0};
}

bool failed = false;
void expect(bool holds, const std::string& what) {
  if (!holds) std::printf("WRONG: %s\n", what.c_str());
  failed = failed || !holds;
}

/// The backward pass against differences: along its own gradient a sum of log-probabilities climbs by its norm.
void check_gradient(denoiser policy, const rlhf::responses& batch) {
  std::vector<float> weight(static_cast<std::size_t>(batch.response_tokens())), logp(weight.size());
  for (std::size_t t = 0; t < weight.size(); ++t) weight[t] = 0.1f * static_cast<float>(t % 7) - 0.2f;
  policy.log_probs(batch, logp);
  policy.backward(weight);
  const std::vector<float> at(policy.parameters().begin(), policy.parameters().end()),
      slope(policy.gradient().begin(), policy.gradient().end());
  // Each step's hidden layer for itself, then all that is behind it: a small part is not to hide in a large one.
  const std::size_t of_step = (at.size() - policy.steps()) / policy.steps(),
                    inner = (2 + kinds) * step_networks::hidden;
  for (std::size_t begin = 0, k = 0; begin < at.size(); ++k) {
    const std::size_t end = k == 2 * policy.steps() ? at.size() : begin + (k % 2 == 0 ? inner : of_step - inner);
    const double norm = rlhf::gradient_norm(std::span(slope).subspan(begin, end - begin));
    const auto moved = [&](double by) {
      for (std::size_t i = begin; i < end; ++i)
        policy.parameters()[i] = at[i] + static_cast<float>(by / norm) * slope[i];
      policy.log_probs(batch, logp);
      double sum = 0;
      for (std::size_t t = 0; t < logp.size(); ++t)
        sum += static_cast<double>(weight[t]) * static_cast<double>(logp[t]);
      return sum;
    };
    const double step = 3e-3, climbed = (moved(step) - moved(-step)) / (2 * step);
    (void)moved(0);
    expect(std::abs(climbed / norm - 1) < 0.02,
           "the gradient is that of differences: " + std::to_string(climbed) + " for " + std::to_string(norm));
    begin = end;
  }
}

int run(const budget& cost, const std::string& out) {
  const std::uint64_t seed = cost.seed;
  const std::size_t steps = cost.steps;
  //! [fit]
  rlhf::reference_backend cpu;
  denoiser start(steps, {seed, 1});
  const rlhf::responses data = noised_pictures(cost.pictures, steps, {seed, 2});
  const rlhf::loop_options walk{.batch = 256, .epochs = cost.epochs, .key = {seed, 3}};
  auto fit = falling(0.01, rlhf::minibatches(data.size(), walk));
  rlhf::train_supervised(cpu, start, fit, data, walk);
  start.noise_learns = false;
  //! [fit]
  denoiser fitted = start;
  fitted.noise_learns = true;
  check_gradient(fitted, data.select(std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));

  std::vector<portrait> portraits;
  const auto show = [&](const char* name, denoiser& policy, portrait so_far) {
    const worth w = measure(policy, start, cost.drawn, {seed, 7});
    std::printf("| %s | %.3f | %.2f | %.3f | %.1f %% |\n", name, w.reward, w.kl, w.objective(), 100 * w.off);
    so_far.name = name;
    const rlhf::responses drawn = policy.sample(ask(500), 1, {seed, 9});
    for (std::int64_t i = 0; i < drawn.size(); ++i)
      so_far.drawn[static_cast<std::size_t>(drawn.prompt(i)[0])].push_back(end_of(drawn, i));
    portraits.push_back(std::move(so_far));
    return w;
  };
  std::printf("| policy | reward | KL, nats per picture | reward - %.1f KL | off the data |\n|---|---|---|---|---|\n",
              beta);
  const worth before = show("start", start, {});

  // Each algorithm from the start policy; on the way it is measured now and then.
  taste reward;
  const auto align = [&](const char* name,
                         const std::function<void(denoiser&, std::function<void(const rlhf::iteration&)>)>& by) {
    denoiser policy = start;
    portrait way;
    const auto watch = [&](const rlhf::iteration& now) {
      if (now.number % 5 != 0 && now.number != 1) return;
      const worth w = measure(policy, start, 500, {seed, 7});
      way.kl.push_back(w.kl);
      way.reward.push_back(w.reward);
    };
    by(policy, watch);
    return show(name, policy, std::move(way));
  };
  const auto prompts = [](std::int64_t) { return ask(512); };
  const rlhf::on_policy_options often{.iterations = cost.iterations, .epochs = 4, .minibatch = 256, .key = {seed, 100}};

  //! [ppo]
  const worth by_ppo = align("PPO", [&](denoiser& policy, auto watch) {
    rlhf::ppo algorithm;
    algorithm.reward.coefficient = beta;
    algorithm.estimator.lambda = 1;
    critic values(steps, {seed, 4});
    auto update = falling(3e-3, 8 * cost.iterations), critic_update = falling(1e-2, 8 * cost.iterations);
    auto options = often;
    options.samples = 2;
    rlhf::train_ppo(cpu, algorithm, policy, values, start, reward, update, critic_update, prompts, options, watch);
  });
  //! [ppo]

  //! [rebel]
  const rlhf::rebel_regression rebel{.eta = 1, .kl_coefficient = beta};
  const worth by_rebel = align("REBEL", [&](denoiser& policy, auto watch) {
    auto update = falling(3e-3, 8 * cost.iterations);
    rlhf::train_rebel(cpu, rebel, policy, start, reward, update, prompts, often, watch);
  });
  //! [rebel]

  //! [offline]
  // The second picture of a pair is one of the data set, and the policy begins its own where that one does.
  const worth by_offline = align("REBEL, y' from the data", [&](denoiser& policy, auto watch) {
    auto update = falling(3e-3, 8 * cost.iterations);
    const auto row = [&](std::int64_t i, std::int64_t k) { return (512 * i + k) % data.size(); };
    rlhf::train_rebel(
        cpu, rebel, policy, start, reward, update,
        [&](std::int64_t i) {
          rlhf::prompt_list starts;
          for (std::int64_t k = 0; k < 512; ++k) {
            const auto prompt = data.prompt(row(i, k));
            starts.emplace_back(prompt.begin(), prompt.end());
          }
          return starts;
        },
        often, watch,
        [&](std::int64_t i, const rlhf::prompt_list& asked) {
          rlhf::responses pictures;
          for (std::int64_t k = 0; k < std::ssize(asked); ++k) pictures.add(data, row(i, k));
          return pictures;
        });
  });
  //! [offline]

  //! [rlcm]
  // As REBEL's image experiments have it: the reward a z-score of its prompt, kappa (h - h') against it, no KL, one epoch.
  const worth by_rlcm = align("REBEL, RLCM's form", [&](denoiser& policy, auto watch) {
    rlhf::per_prompt_reward scored(reward, {.capacity = 512, .prompt_tokens = 1});
    const double kappa = 1;
    auto update = falling(3e-3, 2 * cost.iterations);
    auto options = often;
    options.epochs = 1;
    rlhf::train_rebel(cpu, {.eta = 1 / kappa, .kl_coefficient = 0, .paper_scaling = true}, policy, start, scored,
                      update, prompts, options, watch);
  });
  //! [rlcm]

  const double best = best_objective(start, 400, 1000, {seed, 8});
  std::printf("\nThe start has %.3f, no policy more than %.3f of reward - %.1f KL.\n", before.objective(), best, beta);
  expect(before.off < 0.3, "what the start draws looks like the data");
  for (const auto& [name, w] :
       {std::pair{"PPO", by_ppo}, {"REBEL", by_rebel}, {"REBEL against the data", by_offline}}) {
    const std::string who = name;
    expect(w.reward > before.reward + 0.3, who + " raises the reward by more than 0.3");
    expect(w.kl < 2, who + " stays within 2 nats of the start");
    expect(w.objective() > before.objective() + 0.13, who + " raises reward less KL by more than 0.13");
    expect(w.objective() < best, who + " has less than can be had");
    expect(w.off < before.off + 0.02, "what " + who + " draws looks like the data as much as the start's");
  }
  expect(std::abs(by_ppo.objective() - by_rebel.objective()) < 0.02, "PPO and REBEL come to the same");
  expect(by_rlcm.reward > by_rebel.reward + 0.2, "without KL the reward is higher");
  expect(by_rlcm.objective() < by_rebel.objective(), "and what it costs in KL more than it brings");
  if (!out.empty() && !draw(out, portraits)) std::printf("no figures: gnuplot is missing or failed\n");
  return failed ? 1 : 0;
}

template <class N>
bool parse(const char* text, N& out) {
  const char* const end = text + std::strlen(text);
  const auto [stop, failure] = std::from_chars(text, end, out);
  return failure == std::errc{} && stop == end;
}

}  // namespace

int main(int argc, char** argv) {
  budget cost;
  std::string out;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--quick") {
      cost.pictures = 3000;
      cost.epochs = 20;
      cost.iterations = 40;
      cost.drawn = 1000;
    } else if (word == "--seed" && i + 1 < argc && parse(argv[i + 1], cost.seed)) {
      ++i;
    } else if (word == "--steps" && i + 1 < argc && parse(argv[i + 1], cost.steps) && cost.steps > 0) {
      ++i;
    } else if (word == "--out" && i + 1 < argc) {
      out = argv[++i];
    } else {
      std::fprintf(
          stderr, "rlhf-denoiser: what is '%s'? usage: rlhf-denoiser [--quick] [--seed 1] [--steps 8] [--out FOLDER]\n",
          word.c_str());
      return 2;
    }
  }
  try {
    return run(cost, out);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "rlhf-denoiser: %s\n", e.what());
    return 1;
  }
}
