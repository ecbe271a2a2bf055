// expect: rlhf: this loss knows ties and reads their number: give train_reward_model a learned_tie
#include <rlhf/backend/reference.hpp>
#include <rlhf/reward/ties.hpp>
#include <rlhf/train/preference.hpp>

struct scores {
  std::span<float> parameters();
  std::span<float> gradient();
  void rewards(const rlhf::responses& r, std::span<float> out);
  void backward_rewards(std::span<const float> g);
};

void learn(scores& model, rlhf::learned_tie<>& tie) {
  rlhf::reference_backend cpu;
  rlhf::parameter_update<> update;
  const rlhf::preference_pairs pairs;
  const rlhf::reward_loss loss{rlhf::davidson{}};
#ifdef MUST_FAIL
  train_reward_model(cpu, model, update, pairs, {}, rlhf::ignore_progress{}, loss);
#endif
  train_reward_model(cpu, model, update, pairs, {}, rlhf::ignore_progress{}, loss, tie);
}
