// Station 2 over 64 M tokens: PPO with its penalty, whitening, advantages of groups.

#include "contest.cuh"
#include "rlhf/advantage/group.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/grouped.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/objective/kl.hpp"

namespace gpu_bench {

using rlhf::cuda_space;

void add_tokens(contests& all, device& d, std::int64_t divisor) {
  const std::int64_t n = (std::int64_t{64} << 20) / divisor;
  const array<float> logp(n, -3, 0, 1), old_logp(n, -3, 0, 2), ref_logp(n, -3, 0, 3), advantage(n, -1, 1, 4), out(n),
      loss(1);
  const rlhf::layout<cuda_space> row{nullptr, 1, n, n};
  const double stream = static_cast<double>(n) * sizeof(float);
  all.push_back({"gpu/policy_loss/64M",
                 ceiling::copy,
                 5 * stream,
                 0,
                 0.85,
                 [=, &d] {
                   require(rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.02}, rlhf::token_mean{}}(
                       d.backend, row,
                       rlhf::token_inputs<float, cuda_space>{.logp = logp.input(),
                                                             .old_logp = old_logp.input(),
                                                             .ref_logp = ref_logp.input(),
                                                             .advantage = advantage.input()},
                       rlhf::token_outputs<float, cuda_space>{.loss = loss.view(), .grad_logp = out.view()}));
                 },
                 {},
                 {},
                 [=] {
                   return joined({loss.download(), out.download()});
                 }});

  // Two reads and one write: the mean and the spread come first.
  all.push_back({"gpu/whiten/64M",
                 ceiling::copy,
                 3 * stream,
                 0,
                 0.80,
                 [=, &d] {
                   require(rlhf::whitening{rlhf::whiten{}}(
                       d.backend, rlhf::whiten_inputs<float, cuda_space>{.x = advantage.input()}, out.view()));
                 },
                 {},
                 {},
                 [=] { return out.download(); }});
  for (const std::int64_t group : {8, 64}) {
    rlhf::group_inputs<float, cuda_space> in;
    in.groups.groups = {nullptr, n / group, group, n};
    in.reward = advantage.input();
    all.push_back({"gpu/group_advantage/64M/groups_of_" + std::to_string(group),
                   ceiling::copy,
                   2 * stream,
                   0,
                   0.80,
                   [=, &d] { require(rlhf::grouped{rlhf::group_advantage{}}(d.backend, in, out.view())); },
                   {},
                   {},
                   [=] { return out.download(); }});
  }
}

}  // namespace gpu_bench
