// Methods that take no derivative: they compare samples of the policy with those of a perturbed one.

#include "align/methods/methods.hpp"
#include "rlhf/train/zeroth_order.hpp"

namespace align {
namespace {

void perturb(workshop& w, const std::string& method, std::int64_t block) {
  policy model = w.copy();
  rlhf::parameter_update update{rlhf::constant_schedule{w.sizes.zeroth.rate}, {{.weight_decay = 0}}};
  course way(w, method, model, {{"policy", model.parameters(), &update.optimiser}});
  rlhf::bradley_terry_judge who(w.reward());
  const rlhf::zpg algorithm{.radius = w.sizes.zeroth.radius,
                            .block = block,
                            .votes = w.sizes.zeroth.votes,
                            .directions = w.sizes.zeroth.directions,
                            .kl_coefficient = w.sizes.ppo.kl};
  rlhf::train_zeroth_order(
      algorithm, model, w.start(), who, update, [&](std::int64_t i) { return w.prompts(i); },
      {.iterations = w.sizes.iterations,
       .key = w.key(on_policy + 6000),
       .done = way.at().steps,
       .tokens_done = way.at().tokens},
      way);
  way.finish();
}

}  // namespace

void zpg(workshop& w) { perturb(w, "zpg", 0); }
void zbcpg(workshop& w) { perturb(w, "zbcpg", w.sizes.zeroth.block); }

}  // namespace align
