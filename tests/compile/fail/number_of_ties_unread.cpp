// expect: rlhf: this loss does not say that it reads the number of ties
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
#ifdef MUST_FAIL
  train_reward_model(cpu, model, update, pairs, {}, rlhf::ignore_progress{}, rlhf::reward_model{}, tie);
#endif
  train_reward_model(cpu, model, update, pairs, {}, rlhf::ignore_progress{}, rlhf::reward_model{});
}
