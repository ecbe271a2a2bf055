// expect: rlhf: this objective is of one labelled response, and a pair has no label: call unpaired_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/objective/preference.hpp>
#include <rlhf/objective/unpaired.hpp>

rlhf::status call(rlhf::pair_inputs<> in, rlhf::pair_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::preference_loss{rlhf::kto{}}(cpu, in, out);
#endif
  return rlhf::preference_loss{rlhf::dpo_sigmoid{}}(cpu, in, out);
}
