// Reward models of tokens: which positions meet, the slope of every one of them, and what is learned.

#include "rlhf/train/token_rewards.hpp"

#include <cmath>

#include "rlhf/reward/prior_constrained.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

using tokens = std::vector<std::int32_t>;

/// Keeps the gradient that a loop gave it.
struct watched : tabular_critic {
  using tabular_critic::tabular_critic;
  void backward_values(std::span<const float> g) {
    tabular_critic::backward_values(g);
    seen = bits(gradient());
  }
  std::vector<float> seen;
};

void add(preference_pairs& pairs, const tokens& chosen, const tokens& rejected) {
  pairs.chosen.add(tokens{0}, chosen);
  pairs.rejected.add(tokens{0}, rejected);
}

/// The cell of a prefix in the critic's table.
std::size_t cell(const tokens& prefix) {
  std::int64_t at = 0;
  for (const std::int32_t token : prefix) at = vocabulary * at + 1 + token;
  return static_cast<std::size_t>(at);
}

/// The loss by its definition, written apart.
double loss_of(const std::vector<double>& table, const preference_pairs& pairs) {
  double mean = 0;
  for (std::int64_t i = 0; i < pairs.chosen.size(); ++i) {
    const tokens a(pairs.chosen.response(i).begin(), pairs.chosen.response(i).end()),
        b(pairs.rejected.response(i).begin(), pairs.rejected.response(i).end());
    double sum = 0, count = 0;
    for (std::size_t t = 0; t < std::max(a.size(), b.size()); ++t) {
      const tokens first(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(t + 1, a.size()))),
          second(b.begin(), b.begin() + static_cast<std::ptrdiff_t>(std::min(t + 1, b.size())));
      if (first == second) continue;  // nothing has differed yet
      sum += softplus(table[cell(second)] - table[cell(first)]);
      ++count;
    }
    if (count > 0) mean += sum / count / static_cast<double>(pairs.chosen.size());
  }
  return mean;
}

preference_pairs of_all_kinds() {
  preference_pairs pairs;
  add(pairs, {1, 2, 0}, {1, 0, 3});  // differ within
  add(pairs, {2}, {2, 1, 1});        // one begins the other
  add(pairs, {3, 3}, {0});           // differ at once, of other lengths
  add(pairs, {1, 1, 2}, {1, 1, 2});  // equal
  add(pairs, {}, {2, 2});            // nothing at all
  return pairs;
}

}  // namespace

TEST_CASE("scores of tokens meet from the first difference on, and every one has its slope") {
  world w;
  const preference_pairs pairs = of_all_kinds();
  watched critic(vocabulary, 4);
  const random_numbers draw({.seed = 3});
  std::uint32_t k = 0;
  for (float& x : critic.parameters()) x = static_cast<float>(draw.normal({k++}));
  std::vector<double> table(critic.parameters().begin(), critic.parameters().end());

  auto update = steps_of(0.0);
  double found = 0, right = 0;
  train_token_rewards(w.cpu, critic, update, pairs, {.batch = 5, .epochs = 1, .key = {1, 1}}, [&](const progress& p) {
    found = (*p.metrics)["loss"];
    right = (*p.metrics)["accuracy_end"];
  });
  CHECK(found == Approx(loss_of(table, pairs)).epsilon(1e-6));
  double want = 0;
  for (std::int64_t i = 0; i < pairs.chosen.size(); ++i) {
    const double a = table[cell({pairs.chosen.response(i).begin(), pairs.chosen.response(i).end()})],
                 b = table[cell({pairs.rejected.response(i).begin(), pairs.rejected.response(i).end()})];
    want += a > b ? 0.2 : a == b ? 0.1 : 0;
  }
  CHECK(right == Approx(want));

  double worst = 0, most = 0;
  for (std::size_t j = 0; j < table.size(); ++j) {
    const double x = table[j];
    table[j] = x + 1e-5;
    double slope = loss_of(table, pairs);
    table[j] = x - 1e-5;
    slope = (slope - loss_of(table, pairs)) / 2e-5;
    table[j] = x;
    worst = std::max(worst, std::abs(slope - static_cast<double>(critic.seen[j])));
    most = std::max(most, std::abs(slope));
  }
  CHECK(most > 0.05);
  CHECK(worst < 1e-6);
}

TEST_CASE("a reward model of tokens learns to rank, and leaves alone what responses share") {
  world w;
  // All pairs of responses that begin alike; the larger second token wins.
  preference_pairs pairs;
  for (std::int32_t a = 0; a < vocabulary; ++a)
    for (std::int32_t b = 0; b < vocabulary; ++b)
      for (std::int32_t c = 0; c < b; ++c) add(pairs, {a, b}, {a, c});
  tabular_critic critic(vocabulary, 3);
  auto update = steps_of(0.02);
  double right = 0;
  train_token_rewards(w.cpu, critic, update, pairs, {.batch = 8, .epochs = 30, .key = {1, 1}},
                      [&](const progress& p) { right = (*p.metrics)["accuracy_end"]; });
  CHECK(right == 1);
  for (std::int32_t a = 0; a < vocabulary; ++a) {
    CHECK(critic.parameters()[cell({a})] == 0);
    for (std::int32_t b = 1; b < vocabulary; ++b)
      CHECK(critic.parameters()[cell({a, b})] > critic.parameters()[cell({a, b - 1})]);
  }
  CHECK(critic.parameters()[cell({})] == 0);
}

TEST_CASE("PCRM over tokens ends at half of every pair's cap") {
  world w;
  preference_pairs pairs;
  add(pairs, {1, 2, 0}, {2, 0, 3});
  pairs.margin = {3.0f};
  tabular_critic critic(vocabulary, 4);
  auto update = steps_of(0.02);
  train_token_rewards(w.cpu, critic, update, pairs, {.batch = 1, .epochs = 1500, .key = {1, 1}}, ignore_progress{},
                      reward_loss<prior_constrained, row_mean>{});
  for (const auto& [a, b] : {std::pair<tokens, tokens>{{1}, {2}}, {{1, 2}, {2, 0}}, {{1, 2, 0}, {2, 0, 3}}})
    CHECK(static_cast<double>(critic.parameters()[cell(a)] - critic.parameters()[cell(b)]) == Approx(1.5).margin(1e-3));
}

TEST_CASE("pairs that teach nothing, and what a reward model of tokens refuses") {
  world w;
  preference_pairs equal;
  add(equal, {1, 2}, {1, 2});
  tabular_critic critic(vocabulary, 4);
  auto update = steps_of(0.02);
  const std::vector<float> before = bits(critic.parameters());
  double found = 1, right = 0;
  train_token_rewards(w.cpu, critic, update, equal, {.batch = 1, .epochs = 1, .key = {1, 1}}, [&](const progress& p) {
    found = (*p.metrics)["loss"];
    right = (*p.metrics)["accuracy_end"];
  });
  CHECK(found == 0);
  CHECK(right == 0.5);
  CHECK(bits(critic.parameters()) == before);

  preference_pairs pairs = of_all_kinds();
  CHECK_THROWS_WITH(train_token_rewards(w.cpu, critic, update, preference_pairs{}, {}),
                    "train_token_rewards: pairs has elements: 0, wants at least one");
  pairs.chosen_reward = {1, 2, 3, 4, 5};
  CHECK_THROWS_WITH(train_token_rewards(w.cpu, critic, update, pairs, {}),
                    "train_token_rewards: pairs.chosen_reward has 5 elements, wants 0");
  pairs.chosen_reward = {};
  pairs.margin = {1, 2};
  CHECK_THROWS_WITH(train_token_rewards(w.cpu, critic, update, pairs, {}),
                    "train_token_rewards: pairs.margin has 2 elements, wants 5");
}
