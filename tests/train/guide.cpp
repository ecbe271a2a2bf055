// RTO's guide with the segments of responses: where the DPO policy's rewards are paid.

#include "rlhf/train/on_policy.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

/// The reward's own tilt as the guide, with segments of so many tokens.
struct guide_in_segments {
  tabular_policy* model;
  std::int32_t tokens;

  void log_probs(const responses& r, std::span<float> out) { model->log_probs(r, out); }
  void segments(const responses& r, std::span<std::int32_t> out) const {
    std::size_t k = 0;
    for (std::int64_t i = 0; i < r.size(); ++i)
      for (std::size_t t = 0; t < r.response(i).size(); ++t) out[k++] = static_cast<std::int32_t>(t) / tokens;
  }
};

template <class Guide>
std::vector<float> learn(rto_mode mode, Guide&& guide) {
  world w;
  tabular_policy policy = w.reference;
  tabular_critic critic(vocabulary, 2);
  auto policy_update = steps_of(0.05), critic_update = steps_of(0.05);
  rto algorithm;
  algorithm.reward = {.beta1 = 0.5, .beta2 = 0.1, .beta3 = 1, .clip = 2, .mode = mode};
  train_ppo(
      w.cpu, algorithm, policy, critic, w.reference, w.reward, policy_update, critic_update,
      [](std::int64_t) { return prompts(32); },
      {.iterations = 3, .samples = 2, .epochs = 2, .minibatch = 32, .key = {1, 1}}, ignore_iteration{}, guide);
  return bits(policy.parameters());
}

tabular_policy tilted_policy() {
  tabular_policy out(1, vocabulary, 2);
  const random_numbers numbers({9, 2});
  std::uint32_t i = 0;
  for (float& x : out.parameters()) x = static_cast<float>(numbers.normal({i++}));
  return out;
}

}  // namespace

TEST_CASE("segments of one token are dense, one of all tokens is the end") {
  tabular_policy model = tilted_policy();
  const auto dense = learn(rto_mode::dense, model), end = learn(rto_mode::eos, model);
  CHECK(dense != end);
  CHECK(learn(rto_mode::semi, guide_in_segments{&model, 1}) == dense);
  CHECK(learn(rto_mode::semi, guide_in_segments{&model, 2}) == end);
}

TEST_CASE("a guide without segments cannot pay at their ends") {
  tabular_policy model = tilted_policy();
  CHECK_THROWS_AS(learn(rto_mode::semi, model), rlhf::error);
}
