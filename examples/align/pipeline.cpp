#include "align/pipeline.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "align/names.hpp"
#include "align/policy.hpp"
#include "align/progress.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/train/evaluate.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"

namespace align {
namespace {

using backend = rlhf::eigen_backend;
using policy = language_policy<backend>;

// Every use of random numbers has a stream of its own.
enum stream : std::uint64_t {
  initial = 1,
  sft_order,
  reward_order,
  pair_choice,
  dpo_order,
  evaluation,
  frontier,
  texts,
  on_policy = 1000
};

/// Sizes of the stages.
struct recipe {
  std::int64_t sft_epochs = 10, reward_pairs = 16384, preference_pairs = 8192, iterations = 24, prompts = 256,
               judged = 1024;
  std::int64_t frontier = 8192;
};
constexpr recipe full{};
constexpr recipe quick{.sft_epochs = 4,
                       .reward_pairs = 6144,
                       .preference_pairs = 3072,
                       .iterations = 8,
                       .prompts = 192,
                       .judged = 512,
                       .frontier = 2048};

rlhf::responses as_responses(const token_sequences& sequences) {
  rlhf::responses out;
  for (std::size_t i = 0; i < sequences.size(); ++i) out.add(sequences[i].first(1), sequences[i].subspan(1));
  return out;
}
rlhf::preference_pairs as_pairs(const preference_pairs& pairs) {
  return {as_responses(pairs.chosen), as_responses(pairs.rejected)};
}

std::string number(const char* format, double x) {
  char text[64];
  std::snprintf(text, sizeof text, format, x);
  return text;
}

/// A clock that can be stopped while something is measured.
class stopwatch {
 public:
  void stop() {
    total_ += running();
    on_ = false;
  }
  void go() {
    start_ = now();
    on_ = true;
  }
  [[nodiscard]] double seconds() const { return total_ + (on_ ? running() : 0); }

 private:
  using clock = std::chrono::steady_clock;
  [[nodiscard]] static clock::time_point now() { return clock::now(); }
  [[nodiscard]] double running() const { return std::chrono::duration<double>(now() - start_).count(); }
  clock::time_point start_ = now();
  double total_ = 0;
  bool on_ = true;
};

/// All stages share the models, the judge and the bookkeeping.
class job {
 public:
  explicit job(const pipeline_options& options)
      : options_(options),
        sizes_(options.quick ? quick : full),
        pool_(options.threads),
        names_(read_names({.directory = options.data, .seed = options.seed})) {}

  pipeline_result run() {
    const stopwatch all;
    policy sft = fine_tune();
    scalar_policy reward = model_reward(sft);
    pairs_ = judged_pairs(sft, reward);
    start_ = measured(sft, sft, reward);
    result_.reward_deviation = start_.reward_deviation;
    best_of_n(sft, reward);
    policy guided = prefer(sft, reward);
    regress(sft, reward);
    proximal("ppo", sft, reward, nullptr);
    proximal("rto", sft, reward, &guided);
    result_.seconds = all.seconds();
    return std::move(result_);
  }

 private:
  [[nodiscard]] rlhf::random_key key(std::uint64_t which) const { return {options_.seed, which}; }
  [[nodiscard]] rlhf::prompt_list prompts(std::int64_t n) const {
    return rlhf::prompt_list(static_cast<std::size_t>(n), {name_tokens::begin});
  }

  policy fine_tune() {
    policy model(cpu_, pool_, language_model<float>({}, key(initial)));
    const rlhf::responses data = as_responses(encode(names_.train)), held_out = as_responses(encode(names_.held_out));
    const rlhf::loop_options loop{.batch = 64, .epochs = sizes_.sft_epochs, .key = key(sft_order)};
    const auto steps = rlhf::minibatches(data.size(), loop);
    rlhf::parameter_update update{
        rlhf::cosine_schedule{.rate = 4e-3, .warmup = 50, .total = steps, .final_rate = 4e-5}};
    progress_line line("sft", steps, "updates");
    rlhf::train_supervised(cpu_, model, update, data, loop, [&](const rlhf::progress& p) {
      line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
    });
    std::vector<float> logp(static_cast<std::size_t>(held_out.response_tokens()));
    model.log_probs(held_out, logp);
    for (const float x : logp) result_.sft_loss -= static_cast<double>(x) / static_cast<double>(logp.size());
    std::fprintf(stderr, "sft            held-out loss %.3f nats per character\n", result_.sft_loss);
    return model;
  }

  scalar_policy model_reward(const policy& sft) {
    scalar_policy model(pool_, scalar_model<float>(sft.model()));
    const auto data =
        as_pairs(female_over_male(names_.train, static_cast<std::size_t>(sizes_.reward_pairs), key(pair_choice)));
    const auto held_out = as_pairs(female_over_male(names_.held_out, 2000, key(pair_choice)));
    const rlhf::loop_options loop{.batch = 64, .epochs = 2, .key = key(reward_order)};
    const auto steps = rlhf::minibatches(data.chosen.size(), loop);
    rlhf::parameter_update update{rlhf::cosine_schedule{.rate = 2e-3, .warmup = 20, .total = steps}};
    progress_line line("reward model", steps, "updates");
    rlhf::train_reward_model(
        cpu_, model, update, data, loop,
        [&](const rlhf::progress& p) { line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"])); },
        {.objective = {.center = 0.01}});
    std::vector<float> chosen(static_cast<std::size_t>(held_out.chosen.size())), rejected(chosen.size());
    model.rewards(held_out.chosen, chosen);
    model.rewards(held_out.rejected, rejected);
    for (std::size_t i = 0; i < chosen.size(); ++i) result_.reward_accuracy += chosen[i] > rejected[i] ? 1 : 0;
    result_.reward_accuracy /= static_cast<double>(chosen.size());
    result_.reward_pairs = held_out.chosen.size();
    std::fprintf(stderr, "reward model   held-out pair accuracy %.3f on %lld pairs\n", result_.reward_accuracy,
                 static_cast<long long>(result_.reward_pairs));
    return model;
  }

  /// Pairs of the SFT model's own samples, labelled by the Bradley-Terry law of the reward model.
  rlhf::preference_pairs judged_pairs(policy& sft, scalar_policy& reward) {
    const rlhf::responses drawn = sft.sample(prompts(sizes_.preference_pairs), 2, key(pair_choice + 100));
    std::vector<float> score(static_cast<std::size_t>(drawn.size()));
    reward.rewards(drawn, score);
    const rlhf::random_numbers label(key(pair_choice + 101));
    rlhf::preference_pairs out;
    for (std::int64_t i = 0; i + 1 < drawn.size(); i += 2) {
      const double gap =
          static_cast<double>(score[static_cast<std::size_t>(i)] - score[static_cast<std::size_t>(i) + 1]);
      const bool first = label.uniform({.prompt = static_cast<std::uint32_t>(i)}) < rlhf::sigmoid(gap);
      out.chosen.add(drawn, first ? i : i + 1);
      out.rejected.add(drawn, first ? i + 1 : i);
    }
    return out;
  }

  rlhf::evaluation measured(policy& model, policy& sft, scalar_policy& reward) {
    return rlhf::evaluate(model, sft, reward, prompts(sizes_.judged), 1, key(evaluation));
  }
  /// Adds a point to a method's curve; every curve begins at the SFT model.
  void measure(const std::string& method, policy& model, policy& sft, scalar_policy& reward, std::int64_t iteration,
               std::int64_t tokens, double seconds) {
    if (result_.points.empty() || result_.points.back().method != method)
      result_.points.push_back({method, options_.seed, 0, start_.reward, start_.kl, 0, 0});
    const rlhf::evaluation e = measured(model, sft, reward);
    result_.points.push_back({method, options_.seed, iteration, e.reward, e.kl, tokens, seconds});
  }

  void show(const std::string& method, policy& model) {
    const curve_point last =
        result_.points.empty() ? curve_point{method, 0, 0, start_.reward, start_.kl, 0, 0} : result_.points.back();
    const rlhf::responses drawn = model.sample(prompts(12), 1, key(texts));
    sample_text text{method, {}};
    for (std::int64_t i = 0; i < drawn.size(); ++i) text.names.push_back(name_tokens::decode(drawn.response(i)));
    std::fprintf(stderr, "%-14s reward %.2f at %.2f nats, %.1f s:", method.c_str(), last.reward, last.kl, last.seconds);
    for (std::size_t i = 0; i < 6; ++i) std::fprintf(stderr, " %s", text.names[i].c_str());
    std::fputc('\n', stderr);
    result_.samples.push_back(std::move(text));
  }

  void best_of_n(policy& sft, scalar_policy& reward) {
    show("sft", sft);
    stopwatch watch;
    const rlhf::responses drawn = sft.sample(prompts(sizes_.frontier), 1, key(frontier));
    std::vector<float> score(static_cast<std::size_t>(drawn.size()));
    reward.rewards(drawn, score);
    const std::int64_t per_name = drawn.response_tokens() / std::max<std::int64_t>(1, drawn.size());
    for (const auto& p : rlhf::best_of_n(score, {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128}))
      result_.points.push_back({"best_of_n", options_.seed, p.n - 1, p.reward, p.kl, p.n * per_name, watch.seconds()});
  }

  policy prefer(policy& sft, scalar_policy& reward) {
    policy model(cpu_, pool_, sft.model());
    stopwatch watch;
    const rlhf::loop_options loop{.batch = 128, .epochs = 2, .key = key(dpo_order)};
    const auto steps = rlhf::minibatches(pairs_.chosen.size(), loop);
    const auto every = std::max<std::int64_t>(1, steps / sizes_.iterations);
    rlhf::parameter_update update{rlhf::linear_schedule{.rate = 1e-3, .warmup = 5, .total = steps},
                                  {{.weight_decay = 0}}};
    progress_line line("dpo", steps, "updates");
    std::int64_t tokens = 0;
    const std::int64_t per_epoch = pairs_.chosen.response_tokens() + pairs_.rejected.response_tokens();
    rlhf::train_preference(
        cpu_, model, sft, update, pairs_, loop, rlhf::dpo{.beta = 0.2}, [&](const rlhf::progress& p) {
          line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
          tokens = per_epoch * loop.epochs * p.step / p.steps;
          if (p.step % every == 0 || p.step == p.steps) {
            watch.stop();
            measure("dpo", model, sft, reward, (p.step + every - 1) / every, tokens, watch.seconds());
            watch.go();
          }
        });
    show("dpo", model);
    return model;
  }

  void regress(policy& sft, scalar_policy& reward) {
    policy model(cpu_, pool_, sft.model());
    stopwatch watch;
    progress_line line("rebel", sizes_.iterations, "iterations");
    rlhf::parameter_update update{rlhf::constant_schedule{1e-3}, {{.weight_decay = 0}}};
    rlhf::train_rebel(
        cpu_, {.eta = 1, .kl_coefficient = 0.3}, model, sft, reward, update,
        [&](std::int64_t) { return prompts(sizes_.prompts); },
        {.iterations = sizes_.iterations, .epochs = 2, .minibatch = 64, .key = key(on_policy)},
        [&](const rlhf::iteration& i) { record("rebel", model, sft, reward, i, line, watch); });
    show("rebel", model);
  }

  void proximal(const std::string& method, policy& sft, scalar_policy& reward, policy* guide) {
    policy model(cpu_, pool_, sft.model());
    scalar_policy critic(pool_, scalar_model<float>(sft.model()));
    stopwatch watch;
    progress_line line(method, sizes_.iterations, "iterations");
    rlhf::parameter_update actor_update{rlhf::constant_schedule{1e-3}, {{.weight_decay = 0}}};
    rlhf::parameter_update critic_update{rlhf::constant_schedule{2e-3}, {{.weight_decay = 0}}};
    const rlhf::on_policy_options loop{
        .iterations = sizes_.iterations, .samples = 2, .epochs = 2, .minibatch = 128, .key = key(on_policy + 1000)};
    const auto observe = [&](const rlhf::iteration& i) { record(method, model, sft, reward, i, line, watch); };
    const auto ask = [&](std::int64_t) { return prompts(sizes_.prompts); };
    if (guide == nullptr) {
      rlhf::ppo algorithm;
      algorithm.reward.coefficient = 0.3;
      rlhf::train_ppo(cpu_, algorithm, model, critic, sft, reward, actor_update, critic_update, ask, loop, observe);
    } else {
      rlhf::rto algorithm;
      algorithm.reward = {.beta1 = 0.1, .beta2 = 0.3, .beta3 = 1, .clip = 0.5};
      rlhf::train_ppo(cpu_, algorithm, model, critic, sft, reward, actor_update, critic_update, ask, loop, observe,
                      *guide);
    }
    show(method, model);
  }

  void record(const std::string& method, policy& model, policy& sft, scalar_policy& reward, const rlhf::iteration& i,
              progress_line& line, stopwatch& watch) {
    watch.stop();
    measure(method, model, sft, reward, i.number, i.tokens, watch.seconds());
    line.update(i.number, "reward " + number("%.2f", result_.points.back().reward) + ", kl " +
                              number("%.2f", result_.points.back().kl));
    watch.go();
  }

  pipeline_options options_;
  recipe sizes_;
  rlhf::thread_pool pool_;
  backend cpu_;
  names_data names_;
  rlhf::preference_pairs pairs_;
  rlhf::evaluation start_;  ///< of the SFT model
  pipeline_result result_;
};

}  // namespace

pipeline_result run_pipeline(const pipeline_options& options) { return job(options).run(); }

}  // namespace align
