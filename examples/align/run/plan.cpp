// What a run will take, found out by doing each kind of its work once.

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "align/run/algorithms.hpp"
#include "align/run/peak_memory.hpp"
#include "align/run/pipeline.hpp"
#include "align/run/rehearsal.hpp"
#include "align/run/workshop.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/train/dvpo.hpp"
#include "rlhf/train/evaluate.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"

namespace align {
namespace {

std::int64_t divided_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

class rehearsal_of_run {
 public:
  rehearsal_of_run(const settings& s, const task& t, const run_part& part)
      : s_(s), r_(s.how), t_(t), part_(part), pool_(s.threads), memories_(new_memories(s)) {}

  run_plan run() {
    forget_all_peaks();
    const double begun = clock_seconds();
    policy start(cpu_, pool_,
                 t_.start.empty() ? language_model<float>(t_.shape, key(initial), storage_of(s_))
                                  : language_model<float>(t_.shape, t_.start, storage_of(s_)),
                 limits(), memories_.learning);
    if (t_.corpus.size() > 0) fit(start);
    start.use(memories_.scoring);
    plan_.start = start.model().parameters;
    rlhf::prompt_list prompts = t_.prompts;
    if (t_.begins) {
      const double before = clock_seconds();
      const std::int64_t some = std::max<std::int64_t>(64, r_.prompts);
      const rlhf::responses drawn =
          start.sample(rlhf::prompt_list(static_cast<std::size_t>(some), t_.prompts.front()), 1, key(beginnings),
                       {static_cast<int>(r_.prompt_tokens), t_.end_token});
      prompts.clear();
      for (std::int64_t i = 0; i < drawn.size(); ++i) {
        prompts.emplace_back(drawn.prompt(i).begin(), drawn.prompt(i).end());
        prompts.back().insert(prompts.back().end(), drawn.response(i).begin(), drawn.response(i).end());
      }
      add("beginnings", 1,
          (clock_seconds() - before) * static_cast<double>(16 * r_.prompts) / static_cast<double>(some));
    }
    scalar_policy scores(pool_, scalar_model<float>(start.model()), true, memories_.scoring);
    const reward_function reward = t_.rule ? reward_function(t_.rule) : reward_function(scores);
    const auto all = all_algorithms();
    const bool trains = s_.overoptimise || std::any_of(all.begin(), all.end(), [&](const auto& a) {
                          return a.run != nullptr && wanted(a.name);
                        });
    if (!t_.rule && !made("reward") && (trains || wanted("reward_model"))) {
      if (t_.reward.pairs.chosen.size() > 0)
        model_reward("reward", scores, t_.reward.pairs, t_.reward.held_out.chosen.size());
      else
        reward_of_labels(scores);
    }
    if (!trains) return added_up(begun);

    const auto take = [&](std::int64_t n) {
      rlhf::prompt_list out;
      for (std::int64_t i = 0; i < n; ++i) out.push_back(prompts[static_cast<std::size_t>(i) % prompts.size()]);
      return out;
    };
    // Of an evaluation at full size.
    double before = clock_seconds();
    (void)rlhf::evaluate(start, start, reward, take(r_.judged), 1, key(rehearsal));
    const double judged = clock_seconds() - before;
    before = clock_seconds();
    const std::int64_t some = std::min<std::int64_t>(r_.frontier, 1024);
    const rlhf::responses drawn = start.sample(take(some), 1, key(rehearsal));
    std::vector<float> score(static_cast<std::size_t>(drawn.size()));
    reward.rewards(drawn, score);
    const double one_sample = (clock_seconds() - before) / static_cast<double>(some);
    add("best_of_n", 1, judged + one_sample * static_cast<double>(r_.frontier));
    if (part_.only_shared) return added_up(begun);

    rlhf::preference_pairs pairs = t_.preference;
    const bool guided = wanted("rto") || wanted("drto"), labelled = t_.reward.labels.response.size() > 0;
    bool dpo = s_.overoptimise || by_proxy();
    for (const algorithm_entry& a : all)
      dpo = dpo || (wanted(a.name) && ((a.needs & need::pairs) != 0 || ((a.needs & need::passes) != 0 && !labelled)));
    std::int64_t pair_count = pairs.chosen.size();
    if (dpo && pair_count == 0) {
      pair_count = r_.preference_pairs;
      add("pairs", pair_count, 2 * one_sample * static_cast<double>(pair_count));
      for (std::int64_t i = 0; i + 1 < drawn.size(); i += 2) {
        pairs.chosen.add(drawn, i);
        pairs.rejected.add(drawn, i + 1);
      }
    }
    if ((wanted("dpo") || guided) && !made("dpo")) prefer("dpo", start, pairs, pair_count, judged);
    if (wanted("kto") && labelled) learn_labels(start, judged);
    if (wanted("rebel")) {
      policy model = learner(start);
      rlhf::parameter_update update{rlhf::constant_schedule{1e-6}};
      before = clock_seconds();
      rlhf::train_rebel(
          cpu_, {}, model, start, reward, update, [&](std::int64_t) { return take(r_.prompts); },
          {.iterations = 1, .epochs = r_.rebel.epochs, .minibatch = r_.rebel.minibatch, .key = key(rehearsal)});
      add("rebel", r_.iterations, (clock_seconds() - before + judged) * static_cast<double>(r_.iterations));
    }
    if (wanted("ppo") || wanted("rto") || s_.overoptimise)
      rehearse_ppo(start, scores, reward, take(r_.prompts), drawn, pairs, pair_count, judged);
    if (wanted("dvpo")) learn_values(start, pairs, pair_count);
    rehearse_others(start, scores, prompts, pairs, pair_count, judged);
    return added_up(begun);
  }

 private:
  [[nodiscard]] run_plan added_up(double begun) {
    for (const stage_plan& stage : plan_.stages) plan_.seconds += stage.seconds;
    plan_.peak_bytes = static_cast<double>(peak_of_all());
    plan_.disk_bytes = disk_need(s_, t_);
    std::fprintf(stderr, "rehearsed in %.1f s\n", clock_seconds() - begun);
    return std::move(plan_);
  }

  /// PPO on the reward or on what is learned of it, RTO, and PPO that goes too far.
  void rehearse_ppo(policy& start, scalar_policy& scores, const reward_function& reward,
                    const rlhf::prompt_list& prompts, const rlhf::responses& drawn, const rlhf::preference_pairs& pairs,
                    std::int64_t pair_count, double judged) {
    const auto all_iterations = [&](const char* name, double one) {
      add(name, r_.iterations, one * static_cast<double>(r_.iterations));
    };
    const auto iterate = [&](const reward_function& learned_from, double ptx = 0) {
      policy model = learner(start);
      scalar_policy critic(pool_, scalar_model<float>(start.model()), true, memories_.valuing);
      rlhf::parameter_update update{rlhf::constant_schedule{1e-6}}, critic_update = update;
      // As many sequences as an update has responses.
      const auto text = [&](std::int64_t) {
        rlhf::responses out;
        for (std::int64_t k = 0; k < r_.ppo.minibatch; ++k) out.add(t_.corpus, (k * 31) % t_.corpus.size());
        return out;
      };
      return seconds_of([&] {
        rlhf::train_ppo(
            cpu_, rlhf::ppo{}, model, critic, start, learned_from, update, critic_update,
            [&](std::int64_t) { return prompts; },
            {.iterations = 1,
             .samples = r_.ppo.samples,
             .epochs = r_.ppo.epochs,
             .minibatch = r_.ppo.minibatch,
             .key = key(rehearsal)},
            rlhf::ignore_iteration{}, rlhf::no_guide{}, rlhf::pretraining{text, ptx});
      });
    };
    /// Seconds of `score` for n responses.
    const auto scored = [&](std::int64_t n, auto&& score) {
      rlhf::responses some;
      for (std::int64_t i = 0; i < std::min(n, drawn.size()); ++i) some.add(drawn, i);
      return seconds_of([&] { score(some); }) / static_cast<double>(some.size()) * static_cast<double>(n);
    };
    const auto promised = [&](const reward_function& proxy) {
      return scored(r_.judged, [&](const rlhf::responses& some) {
        std::vector<float> score(static_cast<std::size_t>(some.size()));
        proxy.rewards(some, score);
      });
    };

    if (by_proxy()) {
      std::vector<scalar_policy> members = learned_rewards(start, pairs, pair_count);
      const reward_function proxy([&](const rlhf::responses& batch, std::span<float> out) {
        for (scalar_policy& member : members) member.rewards(batch, out);
      });
      all_iterations("ppo", iterate(proxy, r_.ppo.ptx) + promised(proxy) + judged);
      if (!wanted("rto") && !s_.overoptimise) return;
    }
    policy guide(cpu_, pool_, start.model(), limits(), memories_.scoring);
    if (wanted("ppo") && !by_proxy()) all_iterations("ppo", iterate(reward, r_.ppo.ptx) + judged);
    const double one = wanted("rto") || s_.overoptimise ? iterate(reward) : 0;
    if (wanted("rto"))
      all_iterations("rto", one + judged + scored(r_.prompts * r_.ppo.samples, [&](const rlhf::responses& some) {
                              std::vector<float> logp(static_cast<std::size_t>(some.response_tokens()));
                              guide.log_probs(some, logp);
                            }));
    if (s_.overoptimise) {
      all_iterations("ppo_proxy", one + judged + promised(reward_function(scores)));
      if (!by_proxy() || s_.ppo_reward != "learned") model_reward("proxy", scores, pairs, 0, pair_count);
      prefer("dpo_hot", start, pairs, pair_count, judged);
    }
  }
  /// The reward models that PPO learns from, as many as there will be; the first one has gone through some updates.
  [[nodiscard]] std::vector<scalar_policy> learned_rewards(const policy& start, const rlhf::preference_pairs& pairs,
                                                           std::int64_t count) {
    const bool several = s_.ppo_reward != "learned";
    std::vector<scalar_policy> members;
    for (std::int64_t k = 0; k < (several ? r_.members : 1); ++k)
      members.emplace_back(pool_, scalar_model<float>(start.model()), true, memories_.scoring);
    model_reward(several ? "proxies" : "proxy", members.front(), pairs, 0, count);
    plan_.stages.back().steps *= std::ssize(members);
    plan_.stages.back().seconds *= static_cast<double>(members.size());
    return members;
  }

  /// All other methods: one iteration of each, or a few updates, as the run itself would do them.
  void rehearse_others(policy& start, scalar_policy& scores, const rlhf::prompt_list& prompts,
                       const rlhf::preference_pairs& pairs, std::int64_t pair_count, double judged) {
    settings s = s_;
    s.how.iterations = s.how.judged = 1;
    task t = t_;
    t.start = start.model().parameters;
    t.corpus = t.corpus_held_out = {};
    t.prompts = t.judged_prompts = prompts;
    t.begins = false;
    t.preference = first(pairs, 8 * r_.dpo.batch);
    t.reward.pairs = {};
    const std::int64_t some_labels = 16 * r_.dpo.batch;
    t.reward.labels = first_labels(some_labels);
    t.reward.held_out = {};
    t.reward.held_out_labels = {};
    std::optional<passing_run> place;
    std::optional<workshop> w;
    for (const algorithm_entry& a : all_algorithms()) {
      if (!wanted(a.name) || a.run == nullptr || made(a.name)) continue;
      if (std::any_of(plan_.stages.begin(), plan_.stages.end(), [&](const auto& p) { return p.name == a.name; }))
        continue;
      if (!w) {
        place.emplace();
        if (!t.rule) place->leave_reward(t.shape, scores);
        w.emplace(s, t, place->folder(), true, memories_);
      }
      a.run(*w);
      const double own = w->seconds_of(a.name);
      if ((a.needs & need::passes) != 0) {
        const bool by_label = (a.needs & need::pairs) == 0;
        const std::int64_t labels = t_.reward.labels.response.size(),
                           count = !by_label    ? pair_count
                                   : labels > 0 ? labels
                                                : 2 * pair_count,
                           seen = by_label ? w->labels().response.size() : t.preference.chosen.size(),
                           steps = r_.dpo.epochs * divided_up(count, by_label ? 2 * r_.dpo.batch : r_.dpo.batch),
                           every = std::max<std::int64_t>(1, steps / r_.iterations);
        add(a.name, steps,
            own * static_cast<double>(count) / static_cast<double>(seen) +
                judged * static_cast<double>(divided_up(steps, every)));
      } else {
        add(a.name, r_.iterations, (own + judged) * static_cast<double>(r_.iterations));
      }
    }
  }

  /// A copy of the start that learns, and draws its samples as the run will draw them. Every method begins with one.
  [[nodiscard]] policy learner(const policy& start) {
    release(memories_);
    policy model(cpu_, pool_, start.model(), limits(), memories_.learning);
    model.draw_by({s_.temperature, s_.top_k, s_.top_p});
    return model;
  }
  [[nodiscard]] sampling_limits limits() const { return {static_cast<int>(t_.new_tokens), t_.end_token}; }
  [[nodiscard]] rlhf::random_key key(std::uint64_t which) const { return {s_.seed, which}; }
  [[nodiscard]] bool wanted(const char* name) const {
    const std::vector<std::string>& list = s_.algorithms.empty() ? t_.algorithms : s_.algorithms;
    return std::find(list.begin(), list.end(), name) != list.end();
  }
  [[nodiscard]] bool made(const std::string& stage) const {
    return std::find(part_.made.begin(), part_.made.end(), stage) != part_.made.end();
  }
  /// PPO learns from a reward that is itself learned from pairs.
  [[nodiscard]] bool by_proxy() const { return wanted("ppo") && s_.ppo_reward != "true"; }
  void add(const char* name, std::int64_t steps, double seconds) {
    if (!made(name)) plan_.stages.push_back({name, steps, seconds});
  }

  /// Seconds of an update: the first one warms up, the others count.
  template <class Train>
  static double of_update(std::int64_t& steps, Train&& train) {
    double first = 0, last = 0;
    std::int64_t seen = 0;
    train([&](const rlhf::progress&) {
      last = clock_seconds();
      if (seen++ == 0) first = last;
    });
    steps = seen;
    return seen > 1 ? (last - first) / static_cast<double>(seen - 1) : 0;
  }

  /// Two passes over the corpus, so that what the start samples is as long as it will be; of a pretrained one, some of it.
  void fit(policy& start) {
    rlhf::parameter_update update{rlhf::constant_schedule{r_.sft_rate}};
    rlhf::responses some;
    const std::int64_t stride = t_.start.empty() ? 1 : std::max<std::int64_t>(1, t_.corpus.size() / (8 * r_.batch));
    for (std::int64_t i = 0; i < t_.corpus.size(); i += stride) some.add(t_.corpus, i);
    std::int64_t seen = 0;
    const double one = of_update(seen, [&](auto&& observe) {
      rlhf::train_supervised(
          cpu_, start, update, some,
          {.batch = r_.batch, .epochs = std::min<std::int64_t>(2, r_.sft_epochs), .key = key(rehearsal)}, observe);
    });
    const std::int64_t steps = r_.sft_epochs * divided_up(t_.corpus.size(), r_.batch);
    add("sft", steps, one * static_cast<double>(steps));
  }
  [[nodiscard]] static rlhf::preference_pairs first(const rlhf::preference_pairs& pairs, std::int64_t n) {
    rlhf::preference_pairs out;
    // Spread over the whole set: files are often sorted.
    const std::int64_t stride = std::max<std::int64_t>(1, pairs.chosen.size() / std::max<std::int64_t>(1, n));
    for (std::int64_t i = 0; i < pairs.chosen.size() && out.chosen.size() < n; i += stride) {
      out.chosen.add(pairs.chosen, i);
      out.rejected.add(pairs.rejected, i);
    }
    return out;
  }
  void model_reward(const char* name, scalar_policy& model, const rlhf::preference_pairs& data, std::int64_t held_out,
                    std::int64_t count = 0) {
    if (count == 0) count = data.chosen.size();
    model.use(memories_.valuing);
    rlhf::parameter_update update{rlhf::constant_schedule{1e-6}};
    const rlhf::preference_pairs some = first(data, 8 * r_.batch);
    std::int64_t seen = 0;
    const double one = of_update(seen, [&](auto&& observe) {
      rlhf::train_reward_model(cpu_, model, update, some,
                               {.batch = std::min(r_.batch, some.chosen.size()), .epochs = 2, .key = key(rehearsal)},
                               observe);
    });
    const std::int64_t steps = r_.reward_epochs * divided_up(count, r_.batch);
    model.use(memories_.scoring);
    // Scoring takes a third of an update's three passes.
    add(name, steps, one * static_cast<double>(steps) + one / 3 * static_cast<double>(divided_up(held_out, r_.batch)));
  }
  [[nodiscard]] rlhf::labelled_responses first_labels(std::int64_t n) const {
    const rlhf::labelled_responses& all = t_.reward.labels;
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < std::min(n, all.response.size()); ++i) rows.push_back(i);
    return {all.response.select(rows),
            {all.label.begin(), all.label.begin() + static_cast<std::ptrdiff_t>(rows.size())},
            {}};
  }
  /// What DVPO learns before its first iteration.
  void learn_values(const policy& start, const rlhf::preference_pairs& pairs, std::int64_t count) {
    scalar_policy critic(pool_, scalar_model<float>(start.model()), false, memories_.valuing);
    rlhf::parameter_update update{rlhf::constant_schedule{1e-6}};
    const rlhf::labelled_responses some = rlhf::label_pairs(first(pairs, 8 * r_.batch));
    std::int64_t seen = 0;
    const double one = of_update(seen, [&](auto&& observe) {
      rlhf::train_global_value(
          cpu_, rlhf::global_value{}, critic, update, some,
          {.batch = std::min(2 * r_.batch, some.response.size()), .epochs = 2, .key = key(rehearsal)}, observe);
    });
    const std::int64_t steps = r_.dvpo.epochs * divided_up(2 * count, 2 * r_.batch);
    add("global_value", steps, one * static_cast<double>(steps));
  }
  void reward_of_labels(scalar_policy& model) {
    model.use(memories_.valuing);
    rlhf::parameter_update update{rlhf::constant_schedule{1e-6}};
    const rlhf::labelled_responses some = first_labels(8 * r_.batch);
    std::int64_t seen = 0;
    const double one = of_update(seen, [&](auto&& observe) {
      rlhf::train_reward_outcomes(
          cpu_, model, update, some,
          {.batch = std::min(r_.batch, some.response.size()), .epochs = 2, .key = key(rehearsal)}, observe);
    });
    model.use(memories_.scoring);
    const std::int64_t steps = r_.reward_epochs * divided_up(t_.reward.labels.response.size(), r_.batch);
    add("reward", steps,
        one * static_cast<double>(steps) +
            one / 3 * static_cast<double>(divided_up(t_.reward.held_out_labels.response.size(), r_.batch)));
  }
  void learn_labels(policy& start, double judged) {
    policy model = learner(start);
    rlhf::parameter_update update{rlhf::constant_schedule{1e-6}};
    const std::int64_t batch = 2 * r_.dpo.batch, count = t_.reward.labels.response.size();
    const rlhf::labelled_responses some = first_labels(8 * batch);
    std::int64_t seen = 0;
    model.cut_prompts(true);
    const bool before = start.cut_prompts(true);
    const double one = of_update(seen, [&](auto&& observe) {
      rlhf::train_unpaired(cpu_, model, start, update, some,
                           {.batch = std::min(batch, some.response.size()), .epochs = 2, .key = key(rehearsal)},
                           rlhf::unpaired_loss{rlhf::kto{}}, observe);
    });
    start.cut_prompts(before);
    const std::int64_t steps = r_.dpo.epochs * divided_up(count, batch),
                       every = std::max<std::int64_t>(1, steps / r_.iterations);
    add("kto", steps,
        one * static_cast<double>(steps) + one / 4 * static_cast<double>(divided_up(count, batch)) +
            judged * static_cast<double>(divided_up(steps, every)));
  }
  void prefer(const char* name, policy& start, const rlhf::preference_pairs& pairs, std::int64_t count, double judged) {
    policy model = learner(start);
    rlhf::parameter_update update{rlhf::constant_schedule{1e-6}};
    const rlhf::preference_pairs some = first(pairs, 8 * r_.dpo.batch);
    std::int64_t seen = 0;
    double before = clock_seconds();
    const double one = of_update(seen, [&](auto&& observe) {
      rlhf::train_preference(cpu_, model, start, update, some,
                             {.batch = std::min(r_.dpo.batch, some.chosen.size()), .epochs = 2, .key = key(rehearsal)},
                             rlhf::dpo{}, observe);
    });
    const double reference = std::max(0.0, clock_seconds() - before - one * static_cast<double>(seen)) /
                             static_cast<double>(some.chosen.size());
    const std::int64_t steps = r_.dpo.epochs * divided_up(count, r_.dpo.batch);
    const std::int64_t every = std::max<std::int64_t>(1, steps / r_.iterations);
    // Policy and start both score the pairs that are held out.
    const std::int64_t scored = count + (t_.judge_pairs ? 2 * t_.reward.held_out.chosen.size() : 0);
    add(name, steps,
        one * static_cast<double>(steps) + reference * static_cast<double>(scored) +
            judged * static_cast<double>(divided_up(steps, every)));
  }

  const settings& s_;
  const recipe& r_;
  const task& t_;
  const run_part& part_;
  rlhf::thread_pool pool_;
  rlhf::eigen_backend cpu_;
  pass_memories memories_;
  run_plan plan_;
};

}  // namespace

run_plan plan_pipeline(const settings& s, const task& t, const run_part& part) {
  return rehearsal_of_run(s, t, part).run();
}

double disk_need(const settings& s, const task& t) {
  const auto model = 4 * static_cast<double>(transformer<float>(t.shape).size());
  // A checkpoint holds parameters and two moments of policy and critic; one more than are kept while the newest is written.
  const double checkpoints = 6 * model * static_cast<double>(s.keep + 1);
  const double models =
      model * static_cast<double>(std::max(s.algorithms.size(), t.algorithms.size()) + 4 + (s.overoptimise ? 3 : 0));
  return checkpoints + models + 4e6;  // metrics, figures and the report
}

}  // namespace align
