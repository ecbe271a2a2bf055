// expect: rlhf: a shaping rule makes rewards of tokens: kl_in_reward or rto_reward
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/reward_shaping.hpp>
#include <rlhf/objective/kl.hpp>

rlhf::status call(rlhf::shaping_inputs<> in, rlhf::shaping_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::reward_shaping{rlhf::soft_overlong{.max_length = 512, .buffer = 64}}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::reward_shaping{rlhf::kl_in_reward{rlhf::k1{}}}(cpu, rlhf::padded(2, 3), in, out);
}
