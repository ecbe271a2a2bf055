// Methods that ask a judge about their own samples. The judge is Bradley and Terry's law of the reward.

#include <stdexcept>

#include "align/methods/methods.hpp"
#include "rlhf/train/nash_md.hpp"
#include "rlhf/train/online_preference.hpp"

namespace align {
namespace {

using judge = rlhf::bradley_terry_judge<const reward_function>;

[[nodiscard]] rlhf::on_policy_options loop_of(workshop& w, const course& way) {
  return {.iterations = w.sizes.iterations,
          .samples = 2,
          .epochs = w.sizes.online.epochs,
          .minibatch = w.sizes.online.minibatch,
          .key = w.key(on_policy + 3000),
          .done = way.at().steps,
          .tokens_done = way.at().tokens,
          .stop_kl = w.stop_kl()};
}

template <class Algorithm, class Sampler>
void ask_about_pairs(workshop& w, const std::string& method, const Algorithm& algorithm, const Sampler& sampler) {
  policy model = w.copy();
  rlhf::parameter_update update{rlhf::constant_schedule{w.sizes.online.rate}, {{.weight_decay = 0}}};
  course way(w, method, model, {{"policy", model.parameters(), &update.optimiser}});
  judge who(w.reward());
  rlhf::train_online_preference(
      w.cpu, algorithm, sampler, model, w.start(), who, update, [&](std::int64_t i) { return w.prompts(i); },
      loop_of(w, way), way);
  way.finish();
}

}  // namespace

void online_dpo(workshop& w) {
  const rlhf::online_dpo algorithm{.loss = {.beta = w.sizes.online.beta}};
  const std::string& sampler = w.asked.sampler;
  const auto run = [&](const auto& with) { ask_about_pairs(w, "online_dpo", algorithm, with); };
  if (sampler == "vanilla")
    run(rlhf::sample_vanilla{});
  else if (sampler == "best_of_n")
    run(rlhf::sample_best_of_n{.n = w.sizes.online.candidates});
  else if (sampler == "hybrid")
    run(rlhf::sample_hybrid{});
  else if (sampler == "pilaf")
    run(rlhf::sample_pilaf{.beta = w.sizes.online.beta});
  else if (sampler == "max_min")
    run(rlhf::sample_max_min{.k = w.sizes.online.candidates});
  else
    throw std::invalid_argument("--sampler: there is no " + sampler);
}
void vpo(workshop& w) {
  ask_about_pairs(w, "vpo", rlhf::vpo(w.sizes.online.beta, w.sizes.online.optimism), rlhf::sample_vanilla{});
}
void selm(workshop& w) {
  ask_about_pairs(w, "selm", rlhf::selm(w.sizes.online.beta, w.sizes.online.optimism), rlhf::sample_vanilla{});
}
void xpo(workshop& w) {
  // Its alpha is VPO's times beta.
  ask_about_pairs(w, "xpo", rlhf::online_xpo(w.sizes.online.beta, w.sizes.online.optimism * w.sizes.online.beta),
                  rlhf::sample_hybrid{});
}
void sppo(workshop& w) { ask_about_pairs(w, "sppo", rlhf::online_sppo(w.sizes.sppo_beta), rlhf::sample_vanilla{}); }
void inpo(workshop& w) {
  ask_about_pairs(w, "inpo", rlhf::online_inpo(w.sizes.inpo_tau, w.sizes.inpo_inverse_step), rlhf::sample_vanilla{});
}

void nash_md(workshop& w) {
  policy model = w.copy();
  rlhf::parameter_update update{rlhf::constant_schedule{w.sizes.online.rate}, {{.weight_decay = 0}}};
  course way(w, "nash_md", model, {{"policy", model.parameters(), &update.optimiser}});
  judge who(w.reward());
  rlhf::on_policy_options loop = loop_of(w, way);
  loop.epochs = 1;  // its gradient is of fresh samples
  rlhf::train_nash_md(
      w.cpu, {.beta = w.sizes.nash_beta}, w.sizes.nash_mixture, model, w.start(), who, update,
      [&](std::int64_t i) { return w.prompts(i); }, loop, way);
  way.finish();
}

}  // namespace align
