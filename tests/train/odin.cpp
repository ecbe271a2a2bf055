// A reward model with two heads learns what is not length; what is known of pairs beside their order reaches the loss.

#include "rlhf/train/odin.hpp"

#include <array>
#include <cmath>

#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

/// Two linear heads on two features of a response: how long it is, and whether it begins with token 1.
class linear_heads {
 public:
  std::span<float> parameters() { return weight_; }
  std::span<float> gradient() { return slope_; }
  void head_scores(const responses& batch, std::span<float> quality, std::span<float> length) {
    features_.clear();
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const auto response = batch.response(i);
      features_.push_back({static_cast<float>(response.size()) / 8, response[0] == 1 ? 1.0f : 0.0f});
      quality[static_cast<std::size_t>(i)] = score(0, features_.back());
      length[static_cast<std::size_t>(i)] = score(1, features_.back());
    }
  }
  [[nodiscard]] float head_product() const {
    return static_cast<float>(inner(0, 1) / std::sqrt(inner(0, 0) * inner(1, 1)));
  }
  void backward_heads(std::span<const float> quality, std::span<const float> length, float product) {
    for (std::size_t i = 0; i < features_.size(); ++i)
      for (std::size_t j = 0; j < 2; ++j) {
        slope_[j] += quality[i] * features_[i][j];
        slope_[2 + j] += length[i] * features_[i][j];
      }
    const double p = static_cast<double>(head_product()), size[] = {std::sqrt(inner(0, 0)), std::sqrt(inner(1, 1))};
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t j = 0; j < 2; ++j)
        slope_[2 * k + j] += static_cast<float>(static_cast<double>(product) *
                                                (static_cast<double>(weight_[2 * (1 - k) + j]) / size[1 - k] -
                                                 p * static_cast<double>(weight_[2 * k + j]) / size[k]) /
                                                size[k]);
  }
  [[nodiscard]] double weight(std::size_t head, std::size_t feature) const {
    return static_cast<double>(weight_[2 * head + feature]);
  }

 private:
  using pair_of_features = std::array<float, 2>;
  [[nodiscard]] float score(std::size_t head, const pair_of_features& x) const {
    return weight_[2 * head] * x[0] + weight_[2 * head + 1] * x[1];
  }
  [[nodiscard]] double inner(std::size_t a, std::size_t b) const {
    return weight(a, 0) * weight(b, 0) + weight(a, 1) * weight(b, 1);
  }
  std::vector<float> weight_ = {0.2f, 0.1f, 0.1f, -0.2f}, slope_ = {0, 0, 0, 0};
  std::vector<pair_of_features> features_;
};

/// Judges like a good beginning, and length.
preference_pairs judged(std::int64_t n) {
  const random_numbers draw({3, 1});
  const auto uniform = [&](std::int64_t i, std::uint32_t which) {
    return draw.uniform({.prompt = static_cast<std::uint32_t>(i), .sample = which});
  };
  preference_pairs out;
  const std::int32_t prompt[] = {0};
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<std::int32_t> side[2];
    double liked[2];
    for (std::uint32_t k = 0; k < 2; ++k) {
      side[k].assign(1 + static_cast<std::size_t>(15 * uniform(i, 2 * k)), 0);
      side[k][0] = uniform(i, 2 * k + 1) < 0.5 ? 1 : 0;
      liked[k] = 1.5 * side[k][0] + 0.25 * static_cast<double>(side[k].size());
    }
    const bool first = uniform(i, 4) < sigmoid(liked[0] - liked[1]);
    out.chosen.add(prompt, side[first ? 0 : 1]);
    out.rejected.add(prompt, side[first ? 1 : 0]);
  }
  return out;
}

}  // namespace

TEST_CASE("the length head takes the length, the quality head what is left") {
  reference_backend cpu;
  const preference_pairs pairs = judged(512);
  linear_heads model;
  auto update = steps_of(0.02);
  statistics seen;
  train_odin(cpu, model, update, pairs, {.batch = 256, .epochs = 150, .key = {1, 1}},
             [&](const progress& p) { seen = *p.metrics; });
  CHECK(std::abs(seen["corr_quality"]) < 0.15);
  CHECK(seen["corr_length"] > 0.95);
  CHECK(seen["accuracy"] > 0.7);
  CHECK(model.weight(0, 1) > 5 * std::abs(model.weight(0, 0)));
  CHECK(std::abs(model.head_product()) < 0.2f);
}

TEST_CASE("ODIN's runs that go on from what they saved end with the same bits") {
  reference_backend cpu;
  const preference_pairs pairs = judged(40);
  loop_options options{.batch = 16, .epochs = 2, .key = {1, 1}};
  linear_heads whole, parts;
  auto update = steps_of(0.02);
  train_odin(cpu, whole, update, pairs, options);
  auto other = steps_of(0.02);
  train_odin(cpu, parts, other, pairs, options, [](const progress& p) { return p.step < 4; });
  options.done = 4;
  train_odin(cpu, parts, other, pairs, options);
  CHECK(bits(whole.parameters()) == bits(parts.parameters()));
}

TEST_CASE("ODIN refuses what is known of pairs and its loss does not read") {
  reference_backend cpu;
  linear_heads model;
  auto update = steps_of(0.02);
  const auto learn = [&](std::vector<float> preference_pairs::*known) {
    preference_pairs pairs = judged(4);
    pairs.*known = {1, 1, 1, 1};
    train_odin(cpu, model, update, pairs, {.batch = 4, .epochs = 1, .key = {1, 1}});
  };
  CHECK_THROWS_WITH(learn(&preference_pairs::margin), "train_odin: pairs.margin has 4 elements, wants 0");
  CHECK_THROWS_WITH(learn(&preference_pairs::probability), "train_odin: pairs.probability has 4 elements, wants 0");
  CHECK_THROWS_WITH(learn(&preference_pairs::weight), "train_odin: pairs.weight has 4 elements, wants 0");
}

TEST_CASE("margins, votes and weights of pairs reach the loss of a reward model") {
  world w;
  const responses all = all_responses(vocabulary);
  preference_pairs pairs;
  for (const std::int64_t i : {0, 1}) {
    pairs.chosen.add(all, i);
    pairs.rejected.add(all, 2);
  }
  tabular_reward model(vocabulary);
  auto update = steps_of(0.05);
  statistics seen;
  const auto learn = [&](const reward_model& loss, std::int64_t epochs) {
    train_reward_model(
        w.cpu, model, update, pairs, {.batch = 1, .epochs = epochs, .key = {1, 1}},
        [&](const progress& p) {
          seen = *p.metrics;
          return p.step < 2 * epochs;
        },
        loss);
  };
  SECTION("the share of the votes is the label: the gap goes to its logit") {
    pairs.probability = {0.9f, 0.5f};
    learn({.objective = {.soft_labels = true}}, 2000);
    CHECK(model.at(0) - model.at(2) == Approx(std::log(9.0)).margin(2e-2));
    CHECK(model.at(1) - model.at(2) == Approx(0).margin(2e-2));
  }
  SECTION("a margin is demanded on top") {
    pairs.margin = {2, 2};
    learn({.objective = {.use_margin = true}}, 1);
    CHECK(seen["loss"] > 2);  // log(1 + e^2) at first; without a margin log 2
  }
  SECTION("what has no weight teaches nothing") {
    pairs.weight = {1, 0};
    learn({}, 20);
    CHECK(model.at(0) > 0.1);
    CHECK(model.at(1) == 0);
  }
  SECTION("one for each pair, or none") {
    pairs.margin = {1};
    CHECK_THROWS_WITH(learn({}, 1), "train_reward_model: pairs.margin has 1 elements, wants 2");
  }
}
