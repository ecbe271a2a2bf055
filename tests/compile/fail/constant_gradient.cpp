// expect: (could not convert|no viable conversion|no known conversion|cannot convert)
// Outputs are written: a view of constants is no output.
#include <rlhf/driver/policy_loss.hpp>

rlhf::token_outputs<> call(rlhf::view<const float> constants, rlhf::view<float> variables) {
#ifdef MUST_FAIL
  return {.grad_logp = constants};
#endif
  static_cast<void>(constants);
  return {.grad_logp = variables};
}
