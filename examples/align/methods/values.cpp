// Methods whose values stand still or are drawn afresh: DVPO and VinePPO.

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "align/files/reward_safetensors.hpp"
#include "align/methods/methods.hpp"
#include "rlhf/train/dvpo.hpp"
#include "rlhf/train/prefix.hpp"

namespace align {
namespace {

/// The responses of the pairs, by who was preferred or by what the reward says.
[[nodiscard]] rlhf::labelled_responses labels_of_values(workshop& w) {
  rlhf::labelled_responses data = rlhf::label_pairs(w.pairs());
  if (w.asked.dvpo_labels == "scores") w.reward().rewards(data.response, data.label);
  return data;
}

/// DVPO's first half: the value of every state.
void learn_values(workshop& w, scalar_policy& critic) {
  const std::string stage = "global_value";
  if (w.done(stage)) return load_reward_model(w.folder.model(stage), w.subject.shape, critic.parameters());
  const rlhf::labelled_responses data = labels_of_values(w);
  rlhf::loop_options loop{.batch = 2 * w.sizes.batch, .epochs = w.sizes.dvpo.epochs, .key = w.key(value_order)};
  const auto steps = rlhf::minibatches(data.response.size(), loop),
             epoch = std::max<std::int64_t>(1, steps / loop.epochs);
  rlhf::parameter_update update{rlhf::constant_schedule{w.sizes.ppo.critic_rate}, {{.weight_decay = 0}}};
  const std::vector<trained_part> parts{{"value", critic.parameters(), &update.optimiser}};
  loop.done = w.folder.restore(stage, parts).steps;
  progress_line line(stage, steps, "updates", loop.done);
  rlhf::train_global_value(w.cpu, rlhf::global_value{}, critic, update, data, loop, [&](const rlhf::progress& p) {
    line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
    w.folder.log(stage, p.step, *p.metrics);
    if (w.due(p.step) || p.step % epoch == 0) w.save(stage, {p.step, 0}, parts);
  });
  save_reward_model(w.folder.model(stage), w.subject.shape, critic.parameters());
  w.close(stage);
}

[[nodiscard]] rlhf::frozen_advantage advantage_of(const std::string& name) {
  if (name == "action_value") return rlhf::frozen_advantage::action_value;
  if (name == "one_step") return rlhf::frozen_advantage::one_step;
  if (name == "gae") return rlhf::frozen_advantage::gae;
  if (name == "released") return rlhf::frozen_advantage::released;
  throw std::invalid_argument("--dvpo-advantage: there is no " + name);
}

}  // namespace

void dvpo(workshop& w) {
  // It is asked for the state behind the last token, which takes no reading of another one.
  scalar_policy critic = w.new_critic(false);
  learn_values(w, critic);
  critic.use(w.scoring);  // from here on it is read only
  policy model = w.copy();
  const ppo_recipe& how = w.sizes.ppo;
  rlhf::parameter_update update{rlhf::constant_schedule{how.rate}, {{.weight_decay = 0}}};
  course way(w, "dvpo", model, {{"policy", model.parameters(), &update.optimiser}});
  const auto learn = [&](auto algorithm) {
    algorithm.mode = advantage_of(w.asked.dvpo_advantage);
    algorithm.lambda = w.sizes.dvpo.lambda;
    algorithm.reward.coefficient = w.sizes.dvpo.kl;
    rlhf::train_dvpo(
        w.cpu, algorithm, model, critic, w.start(), update, [&](std::int64_t i) { return w.prompts(i); },
        {.iterations = w.sizes.iterations,
         .samples = how.samples,
         .epochs = how.epochs,
         .minibatch = how.minibatch,
         .key = w.key(on_policy + 4000),
         .done = way.at().steps,
         .tokens_done = way.at().tokens,
         .stop_kl = w.stop_kl()},
        way);
  };
  if (w.asked.dvpo_advantage == "action_value") {
    // It sees no rewards, so the KL stands in the loss.
    rlhf::basic_dvpo<rlhf::kl_penalty<rlhf::k3>> algorithm;
    algorithm.loss.term.coefficient = w.sizes.dvpo.kl;
    learn(algorithm);
  } else {
    learn(rlhf::dvpo{});
  }
  way.finish();
}

void vineppo(workshop& w) {
  policy model = w.copy();
  const ppo_recipe& how = w.sizes.ppo;
  rlhf::parameter_update update{rlhf::constant_schedule{how.rate}, {{.weight_decay = 0}}};
  course way(w, "vineppo", model, {{"policy", model.parameters(), &update.optimiser}});
  rlhf::vineppo algorithm{.rollouts = w.sizes.vine.rollouts, .kl_in_return = how.kl, .max_length = w.longest()};
  algorithm.penalty.term.coefficient = 0;  // the KL is paid for once
  rlhf::train_vineppo(
      w.cpu, algorithm, model, w.start(), w.reward(), update, [&](std::int64_t i) { return w.prompts(i); },
      rlhf::every_n_tokens{w.sizes.vine.step},
      {.iterations = w.sizes.iterations,
       .samples = how.samples,
       .epochs = how.epochs,
       .minibatch = how.minibatch,
       .key = w.key(on_policy + 5000),
       .done = way.at().steps,
       .tokens_done = way.at().tokens,
       .stop_kl = w.stop_kl()},
      way);
  way.finish();
}

}  // namespace align
