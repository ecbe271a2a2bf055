// Hydra-PPO: actor, critic and reference on one trunk, by adapters.

#include "rlhf/train/hydra.hpp"
#include "align/methods/methods.hpp"
#include "align/model/adapted_policy.hpp"

namespace align {

void hydra_ppo(workshop& w) {
  adapted_policy<rlhf::eigen_backend> model(w.cpu, w.pool, w.start().model(), w.sizes.hydra.rank, w.key(adapter_start),
                                            w.limits(), w.learning, w.scoring);
  model.draw_by(w.sampling());
  const ppo_recipe& how = w.sizes.ppo;
  rlhf::parameter_update update{rlhf::constant_schedule{w.sizes.hydra.rate}, {{.weight_decay = 0}}};
  policy merged = w.copy();  // what is evaluated and kept
  course way(w, "hydra_ppo", merged, {{"adapters", model.parameters(), &update.optimiser}});
  const auto merge = [&] {
    const std::vector<float>& now = model.merged().parameters;
    std::copy(now.begin(), now.end(), merged.parameters().begin());
  };
  merge();
  rlhf::hydra_ppo<> algorithm{.value_weight = w.sizes.hydra.value_weight};
  algorithm.algorithm.reward.coefficient = how.kl;
  rlhf::train_hydra_ppo(
      w.cpu, algorithm, model, w.reward(), update, [&](std::int64_t i) { return w.prompts(i); },
      {.iterations = w.sizes.iterations,
       .samples = how.samples,
       .epochs = how.epochs,
       .minibatch = how.minibatch,
       .key = w.key(on_policy + 7000),
       .done = way.at().steps,
       .tokens_done = way.at().tokens,
       .stop_kl = w.stop_kl()},
      [&](const rlhf::iteration& i) {
        merge();
        return way(i);
      });
  way.finish();
}

}  // namespace align
