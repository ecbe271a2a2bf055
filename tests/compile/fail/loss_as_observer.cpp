// expect: rlhf: an observer is called with what a loop tells
// Loops over fixed data take their loss and their observer in an order of their own.
#include <rlhf/algorithm/reward_model.hpp>
#include <rlhf/backend/reference.hpp>
#include <rlhf/train/preference.hpp>

struct scorer {
  void rewards(const rlhf::responses&, std::span<float>) {}
  void backward_rewards(std::span<const float>) {}
  std::span<float> parameters() { return {}; }
  std::span<float> gradient() { return {}; }
};

void call(scorer& model, rlhf::parameter_update<>& update, const rlhf::preference_pairs& pairs) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  rlhf::train_reward_model(cpu, model, update, pairs, {}, rlhf::reward_model{});
#endif
  rlhf::train_reward_model(cpu, model, update, pairs, {}, rlhf::ignore_progress{}, rlhf::reward_model{});
}
