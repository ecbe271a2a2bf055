// expect: rlhf: this is a fixed rule of weights, and robust_aggregate looks for the worst of a set
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/robust_aggregate.hpp>
#include <rlhf/objective/aggregate.hpp>

rlhf::status call(rlhf::robust_inputs<> in, rlhf::robust_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::robust_aggregate<rlhf::token_mean>{}(cpu, in, out);
#endif
  return rlhf::robust_aggregate<rlhf::kl_ball>{}(cpu, in, out);
}
