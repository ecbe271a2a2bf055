// expect: rlhf: a pair has no length to divide by, fixed_length is of tokens: use batch_mean
// It is uniform, as batch_mean is, and would divide by pairs times length without a word.
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/objective/preference.hpp>

rlhf::status call(rlhf::pair_inputs<> in, rlhf::pair_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::preference_loss{rlhf::dpo_sigmoid{}, rlhf::fixed_length{.length = 512}}(cpu, in, out);
#endif
  return rlhf::preference_loss{rlhf::dpo_sigmoid{}, rlhf::batch_mean{}}(cpu, in, out);
}
