// expect: no match(ing function)? for call
#include <rlhf/algorithm/dpo.hpp>
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>

rlhf::status call(rlhf::token_inputs<> tokens, rlhf::pair_inputs<> pairs, rlhf::pair_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::dpo{}(cpu, tokens, out);
#endif
  static_cast<void>(tokens);
  return rlhf::dpo{}(cpu, pairs, out);
}
