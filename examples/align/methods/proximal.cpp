// Methods with a critic, and REBEL, which regresses.

#include <algorithm>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "align/files/reward_safetensors.hpp"
#include "align/methods/methods.hpp"
#include "rlhf/algorithm/drto.hpp"
#include "rlhf/algorithm/ppo_max.hpp"
#include "rlhf/train/ensemble.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/running_reward.hpp"

namespace align {
namespace {

struct proximal_options {
  std::string method;
  const reward_function* proxy = nullptr;  ///< learned from in place of the true reward
  double rate_scale = 1;
};

/// The DPO policy of RTO and its kin, with the sentences of responses.
struct guiding_policy {
  policy* model;
  const std::function<bool(std::int32_t)>* ends_segment;

  void log_probs(const rlhf::responses& r, std::span<float> out) { model->log_probs(r, out); }
  void segments(const rlhf::responses& r, std::span<std::int32_t> out) const {
    std::size_t k = 0;
    for (std::int64_t i = 0; i < r.size(); ++i) {
      std::int32_t segment = 0;
      for (const std::int32_t token : r.response(i)) {
        out[k++] = segment;
        segment += (*ends_segment)(token) ? 1 : 0;
      }
    }
  }
};

/// What the start was fitted to, drawn with replacement: as many sequences as an update has responses.
[[nodiscard]] auto text_to_remember(const workshop& w) {
  return [of = &w](std::int64_t update) {
    const rlhf::responses& corpus = of->subject.corpus;
    const rlhf::random_numbers draw(of->key(remembered));
    rlhf::responses out;
    for (std::int64_t k = 0; k < of->sizes.ppo.minibatch; ++k)
      out.add(corpus,
              draw.integer(static_cast<std::uint32_t>(corpus.size()),
                           {.prompt = static_cast<std::uint32_t>(update), .sample = static_cast<std::uint32_t>(k)}));
    return out;
  };
}

/// Actor and critic; `guide` is null, or the DPO policy.
template <class Algorithm>
void proximal(workshop& w, const proximal_options& o, const Algorithm& algorithm, policy* guide) {
  policy model = w.copy();
  constexpr bool scales = requires { algorithm.scale; };
  scalar_policy critic = scales ? w.critic_of_reward() : w.new_critic();  // PPO-max's is the reward model at first
  const ppo_recipe& how = w.sizes.ppo;
  rlhf::parameter_update actor_update{rlhf::constant_schedule{how.rate * o.rate_scale}, {{.weight_decay = 0}}};
  rlhf::parameter_update critic_update{rlhf::constant_schedule{how.critic_rate}, {{.weight_decay = 0}}};
  const reward_function& learned_from = o.proxy == nullptr ? w.reward() : *o.proxy;
  rlhf::running_reward scaled(learned_from);
  std::vector<double*> counted;
  if constexpr (scales) {
    scaled.scale = algorithm.scale;
    rlhf::moments& seen = scaled.scale.seen;
    counted = {&seen.count, &seen.mean, &seen.m2};
  }
  course way(w, o.method, model,
             {{"policy", model.parameters(), &actor_update.optimiser},
              {"critic", critic.parameters(), &critic_update.optimiser, counted}},
             o.proxy);
  const rlhf::on_policy_options loop{.iterations = w.sizes.iterations,
                                     .samples = how.samples,
                                     .epochs = how.epochs,
                                     .minibatch = how.minibatch,
                                     .key = w.key(on_policy + 1000),
                                     .done = way.at().steps,
                                     .tokens_done = way.at().tokens,
                                     .stop_kl = w.stop_kl(),
                                     .critic_first = scales ? std::max<std::int64_t>(1, w.sizes.iterations / 8) : 0};
  const auto ask = [&](std::int64_t i) { return w.prompts(i); };
  const auto learn = [&](auto& score, auto&&... more) {
    rlhf::train_ppo(w.cpu, algorithm, model, critic, w.start(), score, actor_update, critic_update, ask, loop, way,
                    more...);
  };
  if (guide != nullptr) {
    learn(learned_from, guiding_policy{guide, &w.subject.ends_segment});
  } else {
    rlhf::pretraining memory{text_to_remember(w), how.ptx};
    if constexpr (scales)
      learn(scaled, rlhf::no_guide{}, memory);
    else
      learn(learned_from, rlhf::no_guide{}, memory);
  }
  save_reward_model(w.folder.model(o.method + "_critic"), w.subject.shape, critic.parameters());
  way.finish();
}

[[nodiscard]] std::vector<scalar_policy> one_proxy(workshop& w) {
  std::vector<scalar_policy> out;
  out.push_back(w.model_reward("proxy", {.pairs = w.pairs()}));
  return out;
}
/// Reward models that differ by what they saw: each learns from as many pairs, drawn from the pairs with replacement.
[[nodiscard]] std::vector<scalar_policy> proxies(workshop& w) {
  const rlhf::preference_pairs& all = w.pairs();
  const auto n = static_cast<std::uint64_t>(all.chosen.size());
  std::vector<scalar_policy> out;
  for (int k = 1; k <= static_cast<int>(w.sizes.members); ++k) {
    const rlhf::random_numbers draw(w.key(member_order + static_cast<std::uint64_t>(100 + k)));
    rlhf::preference_pairs again;
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto row =
          static_cast<std::int64_t>(draw.uniform({.prompt = static_cast<std::uint32_t>(i)}) * static_cast<double>(n));
      again.chosen.add(all.chosen, row);
      again.rejected.add(all.rejected, row);
    }
    out.push_back(w.model_reward("proxy-" + std::to_string(k), {.pairs = std::move(again)}, k));
  }
  return out;
}

[[nodiscard]] rlhf::rto_mode mode_of(const std::string& name) {
  if (name == "dense") return rlhf::rto_mode::dense;
  if (name == "semi") return rlhf::rto_mode::semi;
  if (name == "eos") return rlhf::rto_mode::eos;
  if (name == "shaping_only") return rlhf::rto_mode::shaping_only;
  throw std::invalid_argument("--rto-mode: there is no " + name);
}
[[nodiscard]] rlhf::robust_unit unit_of(const std::string& name) {
  if (name == "token") return rlhf::robust_unit::token;
  if (name == "span") return rlhf::robust_unit::span;
  if (name == "response") return rlhf::robust_unit::response;
  throw std::invalid_argument("--drto-unit: there is no " + name);
}
[[nodiscard]] rlhf::rto_reward guided_reward(const workshop& w) {
  const recipe& r = w.sizes;
  return {.beta1 = r.rto.beta1,
          .beta2 = r.ppo.kl,
          .beta3 = r.rto.score,
          .clip = r.rto.clip,
          .mode = mode_of(w.asked.rto_mode)};
}

}  // namespace

void rebel(workshop& w) {
  policy model = w.copy();
  const rebel_recipe& how = w.sizes.rebel;
  rlhf::parameter_update update{rlhf::constant_schedule{how.rate}, {{.weight_decay = 0}}};
  course way(w, "rebel", model, {{"policy", model.parameters(), &update.optimiser}});
  rlhf::train_rebel(
      w.cpu, {.eta = how.eta, .kl_coefficient = how.kl}, model, w.start(), w.reward(), update,
      [&](std::int64_t i) { return w.prompts(i); },
      {.iterations = w.sizes.iterations,
       .epochs = how.epochs,
       .minibatch = how.minibatch,
       .key = w.key(on_policy),
       .done = way.at().steps,
       .tokens_done = way.at().tokens,
       .stop_kl = w.stop_kl()},
      way);
  way.finish();
}

namespace {

/// PPO by either recipe, on the reward that was asked for.
template <class Algorithm>
void by_reward(workshop& w, Algorithm algorithm) {
  algorithm.reward.coefficient = w.sizes.ppo.kl;
  const std::string& from = w.asked.ppo_reward;
  if (from == "true") return proximal(w, {.method = "ppo"}, algorithm, nullptr);
  std::vector<scalar_policy> members = from == "learned" ? one_proxy(w) : proxies(w);
  const auto learn = [&](auto formula) {
    rlhf::reward_ensemble all(w.cpu, std::span(members), formula);
    const reward_function proxy([&](const rlhf::responses& batch, std::span<float> out) { all.rewards(batch, out); });
    proximal(w, {.method = "ppo", .proxy = &proxy}, algorithm, nullptr);
  };
  if (from == "learned" || from == "mean")
    learn(rlhf::ensemble_mean{});
  else if (from == "worst_case")
    learn(rlhf::worst_case{});
  else if (from == "uncertainty")
    learn(rlhf::uncertainty_weighted{.lambda = w.sizes.uncertainty});
  else
    throw std::invalid_argument("--ppo-reward: there is no " + from);
}

}  // namespace

void ppo(workshop& w) {
  if (w.asked.ppo_recipe == "plain") return by_reward(w, rlhf::ppo{});
  if (w.asked.ppo_recipe == "max") return by_reward(w, rlhf::ppo_max{});
  throw std::invalid_argument("--ppo-recipe: there is no " + w.asked.ppo_recipe);
}

void ppo_proxy(workshop& w, scalar_policy& model) {
  if (w.done("ppo_proxy")) return;
  rlhf::ppo algorithm;
  algorithm.reward.coefficient = 0;
  const reward_function proxy(model);
  proximal(w, {.method = "ppo_proxy", .proxy = &proxy, .rate_scale = 2.5}, algorithm, nullptr);
}

void rto(workshop& w) {
  policy guide = learn_dpo(w, "dpo", w.sizes.dpo);
  rlhf::rto algorithm;
  algorithm.reward = guided_reward(w);
  proximal(w, {.method = "rto"}, algorithm, &guide);
}

void drto(workshop& w) {
  policy guide = learn_dpo(w, "dpo", w.sizes.dpo);
  rlhf::drto algorithm;
  algorithm.reward = guided_reward(w);
  algorithm.set.radius = w.sizes.drto_radius;
  algorithm.unit = unit_of(w.asked.drto_unit);
  algorithm.span = w.sizes.drto_span;
  proximal(w, {.method = "drto"}, algorithm, &guide);
}

}  // namespace align
