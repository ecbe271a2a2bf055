// expect: rlhf: WPO weighs pairs by how concentrated the policy is
#include <rlhf/algorithm/wpo.hpp>
#include <rlhf/backend/reference.hpp>
#include <rlhf/policy/tabular.hpp>
#include <rlhf/train/preference.hpp>

struct silent {
  rlhf::tabular_policy of;
  std::span<float> parameters() { return of.parameters(); }
  std::span<float> gradient() { return of.gradient(); }
  void log_probs(const rlhf::responses& r, std::span<float> out) { of.log_probs(r, out); }
  void backward(std::span<const float> g) { of.backward(g); }
};

void learn(silent& policy, rlhf::tabular_policy& reference) {
  rlhf::reference_backend cpu;
  rlhf::parameter_update<> update;
  const rlhf::preference_pairs pairs;
#ifdef MUST_FAIL
  train_preference(cpu, policy, reference, update, pairs, {}, rlhf::wpo{rlhf::dpo{}});
#endif
  train_preference(cpu, reference, reference, update, pairs, {}, rlhf::wpo{rlhf::dpo{}});
}
