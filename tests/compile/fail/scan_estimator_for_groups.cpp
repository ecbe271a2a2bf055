// expect: rlhf: this estimator runs along the tokens of a sequence, not over the responses of a group: call advantage_estimate
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/advantage.hpp>

rlhf::status call(rlhf::group_inputs<> in, rlhf::view<float> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::grouped<rlhf::gae>{}(cpu, in, out);
#endif
  return rlhf::grouped<rlhf::leave_one_out>{}(cpu, in, out);
}
