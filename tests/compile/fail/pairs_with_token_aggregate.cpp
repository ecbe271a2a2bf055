// expect: rlhf: pairs are aggregated with a uniform rule, such as batch_mean
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/objective/preference.hpp>

rlhf::status call(rlhf::pair_inputs<> in, rlhf::pair_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::preference_loss{rlhf::dpo_sigmoid{}, rlhf::row_mean{}}(cpu, in, out);
#endif
  return rlhf::preference_loss{rlhf::dpo_sigmoid{}, rlhf::batch_mean{}}(cpu, in, out);
}
