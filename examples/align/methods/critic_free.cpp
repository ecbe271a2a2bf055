// Policy gradients whose baseline is made of other samples.

#include <utility>

#include "align/methods/methods.hpp"
#include "rlhf/algorithm/cispo.hpp"
#include "rlhf/algorithm/dapo.hpp"
#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/algorithm/gspo.hpp"
#include "rlhf/algorithm/reinforce_plus_plus.hpp"
#include "rlhf/algorithm/remax.hpp"
#include "rlhf/algorithm/rloo.hpp"
#include "rlhf/train/group.hpp"

namespace align {
namespace {

struct group_options {
  std::string method;
  std::int64_t samples;  ///< to a prompt
  std::int64_t epochs;
  double rate_scale = 1;
};

/// As many responses in an iteration as PPO draws, `o.samples` to a prompt.
template <class Algorithm>
void in_groups(workshop& w, const group_options& o, const Algorithm& algorithm) {
  policy model = w.copy();
  const ppo_recipe& how = w.sizes.ppo;
  rlhf::parameter_update update{rlhf::constant_schedule{how.rate * o.rate_scale}, {{.weight_decay = 0}}};
  course way(w, o.method, model, {{"policy", model.parameters(), &update.optimiser}});
  const std::int64_t prompts = std::max<std::int64_t>(1, w.sizes.prompts * how.samples / o.samples);
  // Dropped groups are refilled from the prompts that the following iteration begins with.
  const auto ask = [&](std::int64_t i, std::int64_t round) { return w.prompts(i + round, prompts); };
  rlhf::train_group(w.cpu, algorithm, model, w.start(), w.reward(), update, ask,
                    {.iterations = w.sizes.iterations,
                     .samples = o.samples,
                     .epochs = o.epochs,
                     .minibatch = how.minibatch,
                     .key = w.key(on_policy + 2000),
                     .done = way.at().steps,
                     .tokens_done = way.at().tokens,
                     .stop_kl = w.stop_kl()},
                    way);
  way.finish();
}

}  // namespace

void grpo(workshop& w) {
  rlhf::grpo<> algorithm;
  algorithm.penalty.coefficient = w.sizes.group.kl;
  in_groups(w, {"grpo", w.sizes.group.samples, w.sizes.ppo.epochs}, algorithm);
}
void dr_grpo(workshop& w) {
  in_groups(w, {"dr_grpo", w.sizes.group.samples, w.sizes.ppo.epochs}, rlhf::dr_grpo(static_cast<double>(w.longest())));
}
void dapo(workshop& w) {
  rlhf::dapo algorithm;
  const auto longest = static_cast<double>(w.longest());
  algorithm.overlong.max_length = longest;
  algorithm.overlong.buffer = longest / 5;
  in_groups(w, {"dapo", w.sizes.group.samples, w.sizes.ppo.epochs}, algorithm);
}
void rloo(workshop& w) {
  rlhf::rloo algorithm;
  algorithm.reward.coefficient = w.sizes.ppo.kl;
  in_groups(w, {"rloo", w.sizes.group.samples, w.sizes.ppo.epochs}, algorithm);
}
void reinforce_plus_plus(workshop& w) {
  rlhf::reinforce_plus_plus algorithm;
  algorithm.reward.coefficient = w.sizes.ppo.kl;
  in_groups(w, {"reinforce_plus_plus", w.sizes.ppo.samples, w.sizes.ppo.epochs}, algorithm);
}
void remax(workshop& w) {
  rlhf::remax algorithm;
  algorithm.reward.coefficient = w.sizes.ppo.kl;
  // Its loss has no ratio to correct for a second pass over the same samples.
  in_groups(w, {"remax", w.sizes.ppo.samples, 1}, algorithm);
}
void gspo(workshop& w) { in_groups(w, {"gspo", w.sizes.group.samples, w.sizes.ppo.epochs}, rlhf::gspo{}); }
void cispo(workshop& w) { in_groups(w, {"cispo", w.sizes.group.samples, 1, 0.5}, rlhf::cispo_policy{}); }

}  // namespace align
