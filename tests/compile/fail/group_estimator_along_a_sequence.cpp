// expect: rlhf: this estimator does not run along a sequence \(it has no `scans`\): estimators of groups go into grouped
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/advantage.hpp>

rlhf::status call(rlhf::advantage_inputs<> in, rlhf::advantage_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::advantage_estimate<rlhf::leave_one_out>{}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::advantage_estimate<rlhf::gae>{}(cpu, rlhf::padded(2, 3), in, out);
}
