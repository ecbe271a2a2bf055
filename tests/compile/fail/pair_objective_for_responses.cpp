// expect: rlhf: this objective compares two responses, and these come one by one: call preference_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/unpaired_loss.hpp>
#include <rlhf/objective/preference.hpp>
#include <rlhf/objective/unpaired.hpp>

rlhf::status call(rlhf::unpaired_inputs<> in, rlhf::unpaired_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::unpaired_loss{rlhf::dpo_sigmoid{}}(cpu, in, out);
#endif
  return rlhf::unpaired_loss{rlhf::kto{}}(cpu, in, out);
}
