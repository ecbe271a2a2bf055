// expect: rlhf: a correction is a weight and a gate together: write importance_correction\{weight, gate\}
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/importance.hpp>

rlhf::status call(rlhf::importance_inputs<> in, rlhf::importance_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::importance_weights{rlhf::importance_weight{.high = 2}}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::importance_weights{rlhf::importance_correction{.weight = {.high = 2}}}(cpu, rlhf::padded(2, 3), in, out);
}
