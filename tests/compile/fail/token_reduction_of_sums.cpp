// expect: rlhf: this reduction works on tokens: call with token_pair_inputs
// An option that this call could not honour is refused, not ignored.
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/objective/preference.hpp>

rlhf::status call(rlhf::pair_inputs<> sums, rlhf::token_pair_inputs<> tokens, rlhf::pair_outputs<> out) {
  rlhf::reference_backend cpu;
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                   rlhf::length_desensitised{}};
#ifdef MUST_FAIL
  return loss(cpu, sums, out);
#endif
  static_cast<void>(sums);
  return loss(cpu, tokens, out);
}
