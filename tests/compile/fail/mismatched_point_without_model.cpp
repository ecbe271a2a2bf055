// expect: rlhf: kto_reference_point asks the reference about mismatched responses
#include <rlhf/backend/reference.hpp>
#include <rlhf/policy/tabular.hpp>
#include <rlhf/train/labelled.hpp>

void learn(rlhf::tabular_policy& policy, rlhf::tabular_policy& reference, std::span<const float> logp) {
  rlhf::reference_backend cpu;
  rlhf::parameter_update<> update;
  const rlhf::labelled_responses data;
#ifdef MUST_FAIL
  train_unpaired(cpu, policy, rlhf::reference_logp{logp}, update, data, {});
#endif
  (void)logp;
  train_unpaired(cpu, policy, reference, update, data, {});
}
