#include "align/pipeline.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <utility>

#include "align/algorithms.hpp"
#include "align/files/llama_safetensors.hpp"
#include "align/files/reward_safetensors.hpp"
#include "align/policy.hpp"
#include "align/progress.hpp"
#include "align/reward_function.hpp"
#include "align/streams.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/train/evaluate.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"

namespace align {
namespace {

using backend = rlhf::eigen_backend;
using policy = language_policy<backend>;

std::string number(const char* format, double x) {
  char text[64];
  std::snprintf(text, sizeof text, format, x);
  return text;
}

/// A clock that can be stopped while something is measured.
class stopwatch {
 public:
  explicit stopwatch(double before = 0) : total_(before) {}
  void stop() {
    total_ += running();
    on_ = false;
  }
  void go() {
    start_ = clock::now();
    on_ = true;
  }
  [[nodiscard]] double seconds() const { return total_ + (on_ ? running() : 0); }

 private:
  using clock = std::chrono::steady_clock;
  [[nodiscard]] double running() const { return std::chrono::duration<double>(clock::now() - start_).count(); }
  clock::time_point start_ = clock::now();
  double total_ = 0;
  bool on_ = true;
};

/// All stages share the models, the judge, the folder and the bookkeeping.
class job {
 public:
  job(const settings& s, const task& t, run_folder& folder)
      : settings_(s),
        sizes_(s.how),
        task_(t),
        folder_(folder),
        pool_(s.threads),
        result_(folder.results()),
        all_(folder.seconds_before()) {
    for (const auto& [name, table] : t.tables) result_.tables[name] = table;
  }

  run_results run() {
    if (folder_.complete()) return std::move(result_);
    policy start = task_.start.empty() ? fine_tune()
                                       : policy(cpu_, pool_, language_model<float>(task_.shape, task_.start), limits());
    begin_prompts(start);
    std::optional<scalar_policy> learned;
    if (!task_.rule) learned.emplace(model_reward("reward", start, task_.reward));
    const reward_function reward = task_.rule ? reward_function(task_.rule) : reward_function(*learned);
    if (wanted("dpo") || wanted("rto") || settings_.overoptimise)
      pairs_ = task_.preference.chosen.size() > 0 ? task_.preference : judged_pairs(start, reward);

    if (!done("frontier")) {
      measure_start(start, reward);
      best_of_n(start, reward);
      close("frontier");
    }
    std::optional<policy> guide;
    if (wanted("dpo") || wanted("rto")) guide.emplace(prefer("dpo", start, reward, sizes_.dpo));
    if (wanted("kto")) learn_labels(start, reward);
    if (wanted("rebel")) regress(start, reward);
    if (wanted("ppo")) proximal({.method = "ppo"}, start, reward);
    if (wanted("rto")) proximal({.method = "rto", .guide = &*guide}, start, reward);
    if (settings_.overoptimise) overoptimise(start, reward);
    result_.seconds = all_.seconds();
    folder_.finish_run(result_, all_.seconds());
    return std::move(result_);
  }

 private:
  struct proximal_options {
    std::string method;
    policy* guide = nullptr;         ///< RTO's DPO policy
    scalar_policy* proxy = nullptr;  ///< learned from in place of the true reward
    double kl_scale = 1, rate_scale = 1;
  };

  [[nodiscard]] rlhf::random_key key(std::uint64_t which) const { return {settings_.seed, which}; }
  [[nodiscard]] sampling_limits limits() const { return {static_cast<int>(task_.new_tokens), task_.end_token}; }
  [[nodiscard]] bool wanted(const char* name) const {
    const std::vector<std::string>& list = settings_.algorithms.empty() ? task_.algorithms : settings_.algorithms;
    return std::find(list.begin(), list.end(), name) != list.end();
  }
  [[nodiscard]] bool done(const std::string& stage) const { return folder_.finished(stage); }
  void close(const std::string& stage) { folder_.finish(stage, result_, all_.seconds()); }
  void save(const std::string& stage, stage_position at, const std::vector<trained_part>& parts) {
    folder_.save(stage, at, parts, result_, all_.seconds());
  }
  /// Between evaluations: is it time for a checkpoint?
  [[nodiscard]] bool due(std::int64_t step) const { return settings_.every > 0 && step % settings_.every == 0; }

  /// `n` of some prompts, going round.
  [[nodiscard]] static rlhf::prompt_list turn(const rlhf::prompt_list& from, std::int64_t first, std::int64_t n) {
    rlhf::prompt_list out;
    const auto size = static_cast<std::int64_t>(from.size());
    for (std::int64_t i = 0; i < n; ++i) out.push_back(from[static_cast<std::size_t>((first + i) % size)]);
    return out;
  }
  [[nodiscard]] rlhf::prompt_list judged_prompts(std::int64_t n) const { return turn(judged_, 0, n); }

  void begin_prompts(policy& start) {
    prompts_ = task_.prompts;
    judged_ = task_.judged_prompts;
    if (!task_.begins) return;
    // The model begins stories itself; every twelfth is kept to judge by.
    const std::int64_t all = std::max<std::int64_t>(64, 16 * sizes_.prompts);
    const rlhf::responses drawn = start.sample(turn(prompts_, 0, all), 1, key(beginnings),
                                               {static_cast<int>(sizes_.prompt_tokens), task_.end_token});
    prompts_.clear();
    judged_.clear();
    for (std::int64_t i = 0; i < drawn.size(); ++i) {
      std::vector<std::int32_t> one(drawn.prompt(i).begin(), drawn.prompt(i).end());
      one.insert(one.end(), drawn.response(i).begin(), drawn.response(i).end());
      if (one.back() == task_.end_token) continue;  // it ended at once
      (i % 12 == 0 ? judged_ : prompts_).push_back(std::move(one));
    }
  }

  policy fine_tune() {
    if (done("sft")) return loaded("sft");
    policy model(cpu_, pool_, language_model<float>(task_.shape, key(initial)), limits());
    const rlhf::loop_options order{.batch = sizes_.batch, .epochs = sizes_.sft_epochs, .key = key(sft_order)};
    const auto steps = rlhf::minibatches(task_.corpus.size(), order);
    rlhf::parameter_update update{rlhf::cosine_schedule{
        .rate = sizes_.sft_rate, .warmup = 50, .total = steps, .final_rate = sizes_.sft_rate / 100}};
    const std::vector<trained_part> parts{{"policy", model.parameters(), &update.optimiser}};
    rlhf::loop_options loop = order;
    loop.done = folder_.restore("sft", parts).steps;
    progress_line line("sft", steps, "updates", loop.done);
    rlhf::train_supervised(cpu_, model, update, task_.corpus, loop, [&](const rlhf::progress& p) {
      line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
      folder_.log("sft", p.step, *p.metrics);
      if (due(p.step) || p.step % (steps / order.epochs) == 0) save("sft", {p.step, 0}, parts);
    });
    std::vector<float> logp(static_cast<std::size_t>(task_.corpus_held_out.response_tokens()));
    model.log_probs(task_.corpus_held_out, logp);
    double loss = 0;
    for (const float x : logp) loss -= static_cast<double>(x) / static_cast<double>(logp.size());
    result_.figures["sft_loss"] = loss;
    std::fprintf(stderr, "sft            held-out loss %.3f nats per token\n", loss);
    keep("sft", model);
    return model;
  }

  /// A reward model from pairs, or from labels where there are only those.
  scalar_policy model_reward(const std::string& name, const policy& start, const reward_data& data) {
    scalar_policy model(pool_, scalar_model<float>(start.model()));
    if (done(name)) {
      load_reward_model(folder_.model(name), task_.shape, model.parameters());
      return model;
    }
    const bool pairs = data.pairs.chosen.size() > 0;
    const std::int64_t items = pairs ? data.pairs.chosen.size() : data.labels.response.size();
    rlhf::loop_options loop{.batch = sizes_.batch, .epochs = sizes_.reward_epochs, .key = key(reward_order)};
    const auto steps = rlhf::minibatches(items, loop), epoch = std::max<std::int64_t>(1, steps / loop.epochs);
    rlhf::parameter_update update{rlhf::cosine_schedule{.rate = sizes_.reward_rate, .warmup = 20, .total = steps}};
    const std::vector<trained_part> parts{{"reward", model.parameters(), &update.optimiser}};
    loop.done = folder_.restore(name, parts).steps;
    progress_line line(name, steps, "updates", loop.done);
    const auto observe = [&](const rlhf::progress& p) {
      line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
      folder_.log(name, p.step, *p.metrics);
      if (due(p.step) || p.step % epoch == 0) save(name, {p.step, 0}, parts);
    };
    if (pairs)
      rlhf::train_reward_model(cpu_, model, update, data.pairs, loop, observe, {.objective = {.center = 0.01}});
    else
      rlhf::train_reward_outcomes(cpu_, model, update, data.labels, loop, observe);
    if (data.held_out.chosen.size() > 0)
      judge_by_pairs(name, model, data.held_out);
    else if (data.held_out_labels.response.size() > 0)
      judge_by_labels(name, model, data.held_out_labels);
    save_reward_model(folder_.model(name), task_.shape, model.parameters());
    close(name);
    return model;
  }
  void judge_by_pairs(const std::string& name, scalar_policy& model, const rlhf::preference_pairs& held_out) {
    std::vector<float> chosen(static_cast<std::size_t>(held_out.chosen.size())), rejected(chosen.size());
    model.rewards(held_out.chosen, chosen);
    model.rewards(held_out.rejected, rejected);
    double right = 0;
    for (std::size_t i = 0; i < chosen.size(); ++i)
      right += chosen[i] > rejected[i] ? 1 : chosen[i] == rejected[i] ? 0.5 : 0;
    told(name, "pairs", right, chosen.size());
    if (task_.judge_pairs) result_.tables[name] = task_.judge_pairs(chosen, rejected);
  }
  void judge_by_labels(const std::string& name, scalar_policy& model, const rlhf::labelled_responses& held_out) {
    std::vector<float> score(held_out.label.size());
    model.rewards(held_out.response, score);
    double right = 0, good = 0;
    for (std::size_t i = 0; i < score.size(); ++i) {
      right += (score[i] > 0) == (held_out.label[i] > 0.5f) ? 1 : 0;
      good += held_out.label[i] > 0.5f ? 1 : 0;
    }
    const auto all = static_cast<double>(score.size());
    result_.figures[name + "_commoner_label"] = std::max(good, all - good) / all;
    told(name, "labels", right, score.size());
  }
  void told(const std::string& name, const char* of, double right, std::size_t all) {
    result_.figures[name + "_accuracy"] = right / static_cast<double>(all);
    result_.figures[name + "_" + of] = static_cast<double>(all);
    std::fprintf(stderr, "%-14s right on %.3f of %zu held-out %s\n", name.c_str(), right / static_cast<double>(all),
                 all, of);
  }

  /// Pairs of the start's own samples, labelled by the Bradley-Terry law of the reward.
  rlhf::preference_pairs judged_pairs(policy& start, const reward_function& reward) {
    const rlhf::responses drawn = start.sample(turn(prompts_, 0, sizes_.preference_pairs), 2, key(pair_choice + 100));
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

  rlhf::evaluation measured(policy& model, policy& start, const reward_function& reward) {
    return rlhf::evaluate(model, start, reward, judged_prompts(sizes_.judged), 1, key(evaluation));
  }
  void measure_start(policy& start, const reward_function& reward) {
    const rlhf::evaluation e = measured(start, start, reward);
    result_.figures["start_reward"] = e.reward;
    result_.figures["start_kl"] = e.kl;
    result_.figures["reward_deviation"] = e.reward_deviation;
  }
  /// Adds a point to a method's curve; every curve begins at the start.
  void measure(const std::string& method, policy& model, policy& start, const reward_function& reward,
               stage_position at, std::int64_t iteration, double seconds, scalar_policy* proxy = nullptr) {
    double promised = 0;
    const reward_function both([&](const rlhf::responses& batch, std::span<float> out) {
      if (proxy != nullptr) {
        proxy->rewards(batch, out);
        promised = 0;
        for (const float x : out) promised += static_cast<double>(x) / static_cast<double>(out.size());
      }
      reward.rewards(batch, out);
    });
    const auto point = [&](policy& of, std::int64_t number, std::int64_t tokens, double taken) {
      const rlhf::evaluation e = measured(of, start, both);
      result_.points.push_back(
          {method, settings_.seed, number, e.reward, e.kl, tokens, taken, promised, proxy != nullptr});
    };
    const bool first =
        std::none_of(result_.points.begin(), result_.points.end(), [&](const auto& p) { return p.method == method; });
    if (first) point(start, 0, 0, 0);
    point(model, iteration, at.tokens, seconds);
  }

  void show(const std::string& method, policy& model) {
    const std::int64_t lines = task_.what == subject::names ? 12 : 8;
    const rlhf::responses drawn = model.sample(judged_prompts(lines), 1, key(texts));
    sample_text text{method, {}};
    for (std::int64_t i = 0; i < drawn.size(); ++i)
      text.samples.push_back({task_.text(drawn.prompt(i)), task_.text(drawn.response(i))});
    result_.samples.push_back(std::move(text));
    double reward = result_.figures["start_reward"], kl = 0, seconds = 0;
    for (const curve_point& p : result_.points)
      if (p.method == method) reward = p.reward, kl = p.kl, seconds = p.seconds;
    std::fprintf(stderr, "%-14s reward %.2f at %.2f nats, %.1f s\n", method.c_str(), reward, kl, seconds);
  }

  void best_of_n(policy& start, const reward_function& reward) {
    show("start", start);
    const stopwatch watch;
    // As many samples of each prompt as the largest n; every prompt's own frontier counts the same.
    const bool one_prompt = judged_.size() == 1;
    const std::int64_t n = one_prompt ? sizes_.frontier : std::min<std::int64_t>(64, sizes_.frontier),
                       prompts = sizes_.frontier / n;
    const rlhf::responses drawn =
        start.sample(judged_prompts(one_prompt ? n : prompts), one_prompt ? 1 : n, key(frontier));
    std::vector<float> score(static_cast<std::size_t>(drawn.size()));
    reward.rewards(drawn, score);
    std::vector<rlhf::best_of_n_point> sum;
    for (std::int64_t p = 0; p < prompts; ++p) {
      const std::vector<float> one(score.begin() + p * n, score.begin() + (p + 1) * n);
      const auto curve = rlhf::best_of_n(one, {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128});
      sum.resize(curve.size());
      for (std::size_t i = 0; i < curve.size(); ++i)
        sum[i] = {curve[i].n, sum[i].reward + curve[i].reward / static_cast<double>(prompts), curve[i].kl};
    }
    const std::int64_t length = drawn.response_tokens() / std::max<std::int64_t>(1, drawn.size());
    for (const auto& p : sum)
      result_.points.push_back({"best_of_n", settings_.seed, p.n - 1, p.reward, p.kl, p.n * length, watch.seconds()});
  }

  policy prefer(const std::string& method, policy& start, const reward_function& reward, const dpo_recipe& how) {
    if (done(method)) return loaded(method);
    policy model(cpu_, pool_, start.model(), limits());
    const rlhf::loop_options order{.batch = how.batch, .epochs = how.epochs, .key = key(dpo_order)};
    const auto steps = rlhf::minibatches(pairs_.chosen.size(), order);
    const auto every = std::max<std::int64_t>(1, steps / sizes_.iterations);
    rlhf::parameter_update update{rlhf::linear_schedule{.rate = how.rate, .warmup = 5, .total = steps},
                                  {{.weight_decay = 0}}};
    const std::vector<trained_part> parts{{"policy", model.parameters(), &update.optimiser}};
    stage_position at = folder_.restore(method, parts);
    rlhf::loop_options loop = order;
    loop.done = at.steps;
    stopwatch watch(seconds_of(method));
    progress_line line(method, steps, "updates", at.steps);
    const std::int64_t per_epoch = pairs_.chosen.response_tokens() + pairs_.rejected.response_tokens();
    rlhf::train_preference(cpu_, model, start, update, pairs_, loop, rlhf::dpo{.beta = how.beta},
                           [&](const rlhf::progress& p) {
                             line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
                             folder_.log(method, p.step, *p.metrics);
                             at = {p.step, per_epoch * loop.epochs * p.step / p.steps};
                             const bool judged = p.step % every == 0 || p.step == p.steps;
                             if (judged) {
                               watch.stop();
                               measure(method, model, start, reward, at, (p.step + every - 1) / every, watch.seconds());
                             }
                             if (judged || due(p.step)) save(method, at, parts);
                             if (judged) watch.go();
                           });
    if (task_.judge_pairs && task_.reward.held_out.chosen.size() > 0) implicit_accuracy(method, model, start, how.beta);
    show(method, model);
    keep(method, model);
    return model;
  }

  /// KTO on labelled responses.
  void learn_labels(policy& start, const reward_function& reward) {
    const std::string method = "kto";
    if (done(method)) return;
    const rlhf::labelled_responses& data = task_.reward.labels;
    policy model(cpu_, pool_, start.model(), limits());
    rlhf::loop_options loop{.batch = 2 * sizes_.dpo.batch, .epochs = sizes_.dpo.epochs, .key = key(dpo_order)};
    const auto steps = rlhf::minibatches(data.response.size(), loop);
    const auto every = std::max<std::int64_t>(1, steps / sizes_.iterations);
    rlhf::parameter_update update{rlhf::linear_schedule{.rate = sizes_.dpo.rate, .warmup = 5, .total = steps},
                                  {{.weight_decay = 0}}};
    const std::vector<trained_part> parts{{"policy", model.parameters(), &update.optimiser}};
    stage_position at = folder_.restore(method, parts);
    loop.done = at.steps;
    stopwatch watch(seconds_of(method));
    progress_line line(method, steps, "updates", at.steps);
    rlhf::train_unpaired(cpu_, model, start, update, data, loop,
                         rlhf::unpaired_loss{rlhf::kto{.beta = sizes_.dpo.beta}}, [&](const rlhf::progress& p) {
                           line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
                           folder_.log(method, p.step, *p.metrics);
                           at = {p.step, data.response.response_tokens() * loop.epochs * p.step / p.steps};
                           const bool judged = p.step % every == 0 || p.step == p.steps;
                           if (judged) {
                             watch.stop();
                             measure(method, model, start, reward, at, (p.step + every - 1) / every, watch.seconds());
                           }
                           if (judged || due(p.step)) save(method, at, parts);
                           if (judged) watch.go();
                         });
    show(method, model);
    keep(method, model);
  }

  /// How the implicit reward beta log(pi / pi_start) of a DPO policy ranks the held-out pairs.
  void implicit_accuracy(const std::string& method, policy& model, policy& start, double beta) {
    const auto scores = [&](const rlhf::responses& r) {
      std::vector<float> logp(static_cast<std::size_t>(r.response_tokens())), ref(logp.size()),
          out(static_cast<std::size_t>(r.size()));
      model.log_probs(r, logp);
      start.log_probs(r, ref);
      for (std::size_t i = 0; i < out.size(); ++i) {
        double sum = 0;
        for (auto k = static_cast<std::size_t>(r.response_offsets()[i]);
             k < static_cast<std::size_t>(r.response_offsets()[i + 1]); ++k)
          sum += static_cast<double>(logp[k]) - static_cast<double>(ref[k]);
        out[i] = static_cast<float>(beta * sum);
      }
      return out;
    };
    result_.tables[method] =
        task_.judge_pairs(scores(task_.reward.held_out.chosen), scores(task_.reward.held_out.rejected));
  }

  void regress(policy& start, const reward_function& reward) {
    if (done("rebel")) return;
    policy model(cpu_, pool_, start.model(), limits());
    rlhf::parameter_update update{rlhf::constant_schedule{sizes_.rebel.rate}, {{.weight_decay = 0}}};
    const std::vector<trained_part> parts{{"policy", model.parameters(), &update.optimiser}};
    const stage_position at = folder_.restore("rebel", parts);
    stopwatch watch(seconds_of("rebel"));
    progress_line line("rebel", sizes_.iterations, "iterations", at.steps);
    rlhf::train_rebel(
        cpu_, {.eta = sizes_.rebel.eta, .kl_coefficient = sizes_.rebel.kl}, model, start, reward, update,
        [&](std::int64_t i) { return turn(prompts_, i * sizes_.prompts, sizes_.prompts); },
        {.iterations = sizes_.iterations,
         .epochs = sizes_.rebel.epochs,
         .minibatch = sizes_.rebel.minibatch,
         .key = key(on_policy),
         .done = at.steps,
         .tokens_done = at.tokens},
        [&](const rlhf::iteration& i) { record("rebel", model, start, reward, i, parts, line, watch); });
    show("rebel", model);
    keep("rebel", model);
  }

  void proximal(const proximal_options& o, policy& start, const reward_function& reward) {
    if (done(o.method)) return;
    policy model(cpu_, pool_, start.model(), limits());
    scalar_policy critic(pool_, scalar_model<float>(start.model()));
    rlhf::parameter_update actor_update{rlhf::constant_schedule{sizes_.ppo.rate * o.rate_scale}, {{.weight_decay = 0}}};
    rlhf::parameter_update critic_update{rlhf::constant_schedule{sizes_.ppo.critic_rate}, {{.weight_decay = 0}}};
    const std::vector<trained_part> parts{{"policy", model.parameters(), &actor_update.optimiser},
                                          {"critic", critic.parameters(), &critic_update.optimiser}};
    const stage_position at = folder_.restore(o.method, parts);
    stopwatch watch(seconds_of(o.method));
    progress_line line(o.method, sizes_.iterations, "iterations", at.steps);
    const rlhf::on_policy_options loop{.iterations = sizes_.iterations,
                                       .samples = sizes_.ppo.samples,
                                       .epochs = sizes_.ppo.epochs,
                                       .minibatch = sizes_.ppo.minibatch,
                                       .key = key(on_policy + 1000),
                                       .done = at.steps,
                                       .tokens_done = at.tokens};
    const auto observe = [&](const rlhf::iteration& i) {
      record(o.method, model, start, reward, i, parts, line, watch, o.proxy);
    };
    const auto ask = [&](std::int64_t i) { return turn(prompts_, i * sizes_.prompts, sizes_.prompts); };
    const reward_function learned_from = o.proxy == nullptr ? reward : reward_function(*o.proxy);
    const double kl = sizes_.ppo.kl * o.kl_scale;
    if (o.guide == nullptr) {
      rlhf::ppo algorithm;
      algorithm.reward.coefficient = kl;
      rlhf::train_ppo(cpu_, algorithm, model, critic, start, learned_from, actor_update, critic_update, ask, loop,
                      observe);
    } else {
      rlhf::rto algorithm;
      algorithm.reward = {.beta1 = sizes_.rto.beta1, .beta2 = kl, .beta3 = 1, .clip = sizes_.rto.clip};
      rlhf::train_ppo(cpu_, algorithm, model, critic, start, learned_from, actor_update, critic_update, ask, loop,
                      observe, *o.guide);
    }
    show(o.method, model);
    keep(o.method, model);
  }

  /// What optimisation makes of a reward when nothing holds it back: DPO with a step that is far too long, and PPO without a KL
  /// penalty on a reward model learned from the same pairs; the true reward is known beside it.
  void overoptimise(policy& start, const reward_function& reward) {
    dpo_recipe hot = sizes_.dpo;
    hot.rate = 1e-3;
    prefer("dpo_hot", start, reward, hot);
    scalar_policy proxy = model_reward("proxy", start, {.pairs = pairs_});
    proximal({.method = "ppo_proxy", .proxy = &proxy, .kl_scale = 0, .rate_scale = 2.5}, start, reward);
  }

  void record(const std::string& method, policy& model, policy& start, const reward_function& reward,
              const rlhf::iteration& i, const std::vector<trained_part>& parts, progress_line& line, stopwatch& watch,
              scalar_policy* proxy = nullptr) {
    watch.stop();
    folder_.log(method, i.number, *i.metrics);
    const stage_position at{i.number, i.tokens};
    measure(method, model, start, reward, at, i.number, watch.seconds(), proxy);
    save(method, at, parts);
    line.update(i.number, "reward " + number("%.2f", result_.points.back().reward) + ", kl " +
                              number("%.2f", result_.points.back().kl));
    watch.go();
  }

  /// Seconds that a method took before this process.
  [[nodiscard]] double seconds_of(const std::string& method) const {
    double seconds = 0;
    for (const curve_point& p : result_.points)
      if (p.method == method) seconds = p.seconds;
    return seconds;
  }

  void keep(const std::string& name, const policy& model) {
    save_llama_safetensors(folder_.model(name), {task_.shape, model.model().parameters});
    close(name);
  }
  [[nodiscard]] policy loaded(const std::string& name) {
    return policy(cpu_, pool_,
                  language_model<float>(task_.shape, load_llama_safetensors(folder_.model(name)).parameters), limits());
  }

  const settings& settings_;
  const recipe& sizes_;
  const task& task_;
  run_folder& folder_;
  rlhf::thread_pool pool_;
  backend cpu_;
  rlhf::prompt_list prompts_, judged_;
  rlhf::preference_pairs pairs_;
  run_results result_;
  stopwatch all_;
};

}  // namespace

run_results run_pipeline(const settings& s, const task& t, run_folder& folder) { return job(s, t, folder).run(); }

}  // namespace align
