// Methods with a critic, and REBEL, which regresses.

#include <functional>
#include <stdexcept>

#include "align/methods/methods.hpp"
#include "rlhf/algorithm/drto.hpp"
#include "rlhf/train/on_policy.hpp"

namespace align {
namespace {

struct proximal_options {
  std::string method;
  scalar_policy* proxy = nullptr;  ///< learned from in place of the true reward
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

/// Actor and critic; `guide` is null, or the DPO policy.
template <class Algorithm>
void proximal(workshop& w, const proximal_options& o, const Algorithm& algorithm, policy* guide) {
  policy model = w.copy();
  scalar_policy critic = w.new_critic();
  const ppo_recipe& how = w.sizes.ppo;
  rlhf::parameter_update actor_update{rlhf::constant_schedule{how.rate * o.rate_scale}, {{.weight_decay = 0}}};
  rlhf::parameter_update critic_update{rlhf::constant_schedule{how.critic_rate}, {{.weight_decay = 0}}};
  course way(w, o.method, model,
             {{"policy", model.parameters(), &actor_update.optimiser},
              {"critic", critic.parameters(), &critic_update.optimiser}},
             o.proxy);
  const rlhf::on_policy_options loop{.iterations = w.sizes.iterations,
                                     .samples = how.samples,
                                     .epochs = how.epochs,
                                     .minibatch = how.minibatch,
                                     .key = w.key(on_policy + 1000),
                                     .done = way.at().steps,
                                     .tokens_done = way.at().tokens};
  const auto ask = [&](std::int64_t i) { return w.prompts(i); };
  const reward_function learned_from = o.proxy == nullptr ? w.reward() : reward_function(*o.proxy);
  if (guide == nullptr)
    rlhf::train_ppo(w.cpu, algorithm, model, critic, w.start(), learned_from, actor_update, critic_update, ask, loop,
                    way);
  else
    rlhf::train_ppo(w.cpu, algorithm, model, critic, w.start(), learned_from, actor_update, critic_update, ask, loop,
                    way, guiding_policy{guide, &w.subject.ends_segment});
  way.finish();
}

[[nodiscard]] rlhf::rto_mode mode_of(const std::string& name) {
  if (name == "dense") return rlhf::rto_mode::dense;
  if (name == "semi") return rlhf::rto_mode::semi;
  if (name == "eos") return rlhf::rto_mode::eos;
  if (name == "shaping_only") return rlhf::rto_mode::shaping_only;
  throw std::invalid_argument("--rto-mode: there is no " + name);
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
       .tokens_done = way.at().tokens},
      way);
  way.finish();
}

void ppo(workshop& w) {
  rlhf::ppo algorithm;
  algorithm.reward.coefficient = w.sizes.ppo.kl;
  proximal(w, {.method = "ppo"}, algorithm, nullptr);
}

void ppo_proxy(workshop& w, scalar_policy& proxy) {
  if (w.done("ppo_proxy")) return;
  rlhf::ppo algorithm;
  algorithm.reward.coefficient = 0;
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
  algorithm.span = w.sizes.drto_span;
  proximal(w, {.method = "drto"}, algorithm, &guide);
}

}  // namespace align
