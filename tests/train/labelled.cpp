// Learning from single labelled responses, where the labels' probabilities are given and so the optimum is exact.

#include <cmath>
#include <limits>

#include "rlhf/train/labelled.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

/// Every response once, labelled by what `label(i)` says of response i.
template <class Label>
labelled_responses every_response(Label&& label) {
  labelled_responses data{all_responses(vocabulary), {}, {}};
  for (std::int64_t i = 0; i < data.response.size(); ++i)
    data.label.push_back(static_cast<float>(label(static_cast<std::size_t>(i))));
  return data;
}

}  // namespace

TEST_CASE("UNA reaches the optimum of reward less KL") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.05);
  const double log_z = w.log_normaliser(beta);
  const loop_options options{.batch = 16, .epochs = 600, .key = {1, 1}};
  SECTION("from rewards") {
    const auto data = every_response([&](std::size_t i) { return w.reward.at(i) - log_z; });
    train_unpaired(w.cpu, policy, w.reference, update, data, options, unpaired_loss{una_reward{.beta = beta}});
  }
  SECTION("from the probabilities of a good label") {
    const auto data = every_response([&](std::size_t i) { return sigmoid(w.reward.at(i) - log_z); });
    train_unpaired(w.cpu, policy, w.reference, update, data, options, unpaired_loss{una_binary{.beta = beta}});
  }
  SECTION("from ratings") {
    const auto data = every_response([&](std::size_t i) { return sigmoid(w.reward.at(i) - log_z); });
    train_unpaired(w.cpu, policy, w.reference, update, data, options, unpaired_loss{una_rating{.beta = beta}});
  }
  CHECK(w.distance(policy, beta) < 2e-3);
}

// No closed form to hold these to: labels are certain here, and KTO and APO-zero are monotone in each log-ratio whatever the
// label's probability (p and 1 - p of them give p + (1 - 2p) sigma(z)), so that their optimum lies on the edge of the simplex,
// where what is likelier bad than good has probability 0 and which no step reaches. BCO's, with uncertain labels, lies
// within: offline.cpp.
TEST_CASE("KTO, APO-zero and BCO move the mass to the desirable responses") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.05);
  const auto good = [](std::size_t i) { return i % 3 == 0; };
  const auto data = every_response([&](std::size_t i) { return good(i) ? 1 : 0; });
  const auto mass = [&] {
    double sum = 0;
    const auto p = distribution(policy);
    for (std::size_t i = 0; i < p.size(); ++i) sum += good(i) ? p[i] : 0;
    return sum;
  };
  const double before = mass();
  const loop_options options{.batch = 8, .epochs = 60, .key = {1, 1}};
  statistics seen;
  const auto watch = [&](const progress& p) { seen = *p.metrics; };
  SECTION("KTO") {
    train_unpaired(w.cpu, policy, w.reference, update, data, options, unpaired_loss{kto{.beta = beta}}, watch);
    CHECK(seen.find("kl") != nullptr);
  }
  SECTION("APO-zero") {
    train_unpaired(w.cpu, policy, w.reference, update, data, options, unpaired_loss{apo_zero_unpaired{.beta = beta}},
                   watch, no_reference_point{});
  }
  SECTION("BCO") {
    running_reference point{.beta = beta};
    train_unpaired(w.cpu, policy, w.reference, update, data, options, unpaired_loss{bco{.beta = beta}}, watch, point);
    CHECK(point.rewards.count == Approx(16 * 60));
    CHECK(seen.find("delta") != nullptr);
  }
  CHECK(before < 0.6);
  CHECK(mass() > 0.95);
  CHECK(seen["rewards/chosen"] > seen["rewards/rejected"]);
  CHECK(seen["grad_norm"] > 0);
}

TEST_CASE("KTO's reference point is the mean log-ratio of the next prompt's responses") {
  // Two prompts: response i of prompt 0 stands beside the response of prompt 1, so mismatching exchanges them.
  reference_backend cpu;
  tabular_policy reference(2, 3, 1), policy = reference;
  for (std::size_t i = 0; i < 6; ++i) policy.parameters()[i] = static_cast<float>(i % 4) * 0.4f;
  labelled_responses data;
  const std::int32_t prompt[] = {0, 1}, token[] = {0, 2};
  for (std::size_t i = 0; i < 2; ++i) data.response.add({&prompt[i], 1}, {&token[i], 1});
  data.label = {1, 0};
  const auto log_ratio = [&](std::int32_t p, std::int32_t y) {
    double sum = 0;
    for (int k = 0; k < 3; ++k)
      sum += std::exp(static_cast<double>(policy.parameters()[static_cast<std::size_t>(3 * p + k)]));
    return static_cast<double>(policy.parameters()[static_cast<std::size_t>(3 * p + y)]) - std::log(sum / 3);
  };
  const double kl = std::max(0.0, (log_ratio(0, token[1]) + log_ratio(1, token[0])) / 2);
  const double expected =
      (1 - sigmoid(beta * (log_ratio(0, token[0]) - kl)) + sigmoid(beta * (log_ratio(1, token[1]) - kl))) / 2;
  REQUIRE(kl > 0.01);
  auto update = steps_of(0);
  statistics seen;
  train_unpaired(cpu, policy, reference, update, data, {.batch = 2}, unpaired_loss{kto{.beta = beta}},
                 [&](const progress& p) { seen = *p.metrics; });
  CHECK(seen["kl"] == Approx(kl).epsilon(1e-5));
  CHECK(seen["loss"] == Approx(expected).epsilon(1e-5));
}

TEST_CASE("a weight of a response is a number of its copies") {
  world w;
  const auto label = [](std::size_t i) { return i % 3 == 0 ? 1 : 0; };
  labelled_responses weighted = every_response(label), copied;
  for (std::int64_t i = 0; i < 16; ++i)
    for (std::int64_t k = 0; k <= i % 2; ++k) {
      copied.response.add(weighted.response, i);
      copied.label.push_back(weighted.label[static_cast<std::size_t>(i)]);
    }
  for (std::int64_t i = 0; i < 16; ++i) weighted.weight.push_back(i % 2 == 0 ? 1.0f : 2.0f);
  const auto run = [&](const labelled_responses& data, double scale) {
    tabular_policy policy = w.reference;
    parameter_update<> update{{0.1}, {{.weight_decay = 0}}, 1e9};
    double norm = 0;
    train_unpaired(w.cpu, policy, w.reference, update, data, {.batch = data.response.size()},
                   unpaired_loss{apo_zero_unpaired{}}, [&](const progress& p) { norm = (*p.metrics)["grad_norm"]; });
    return norm * scale;
  };
  CHECK(run(weighted, 16) == Approx(run(copied, 24)).epsilon(1e-5));
}

TEST_CASE("a reward model learns outcomes and ratings") {
  world w;
  tabular_reward learned(vocabulary);
  auto update = steps_of(0.05);
  const loop_options options{.batch = 16, .epochs = 800, .key = {1, 1}};
  statistics seen;
  const auto watch = [&](const progress& p) { seen = *p.metrics; };
  SECTION("the score is the logit of the outcome's probability") {
    const auto data = every_response([&](std::size_t i) { return sigmoid(w.reward.at(i)); });
    train_reward_outcomes(w.cpu, learned, update, data, options, watch);
    CHECK(seen["accuracy"] == 1);
  }
  SECTION("the score is the rating") {
    const auto data = every_response([&](std::size_t i) { return w.reward.at(i); });
    train_reward_outcomes(w.cpu, learned, update, data, options, watch, value_loss{squared_value{}});
    CHECK(seen.find("accuracy") == nullptr);
    CHECK(seen["explained_variance"] > 0.99);
  }
  for (std::size_t i = 0; i < 16; ++i) {
    CAPTURE(i);
    CHECK(learned.at(i) == Approx(w.reward.at(i)).margin(1e-2));
  }
}

TEST_CASE("a run on labelled responses that goes on from what it saved ends with the same bits") {
  world w;
  const auto data = every_response([](std::size_t i) { return i % 3 == 0 ? 1 : 0; });
  struct killed {};
  for (const std::int64_t stop : {std::int64_t{1}, std::int64_t{3}, std::int64_t{5}}) {
    tabular_policy whole = w.reference, parts = w.reference;
    tabular_reward model(vocabulary), part_model(vocabulary);
    auto update = steps_of(0.05), part_update = update, score_update = update, part_score_update = update;
    running_reference point{.beta = beta}, part_point = point;
    const unpaired_loss loss{bco{.beta = beta}};
    loop_options options{.batch = 5, .epochs = 2, .key = {1, 1}};
    const auto stop_there = [&](const progress& p) {
      if (p.step == stop) throw killed{};
    };
    train_unpaired(w.cpu, whole, w.reference, update, data, options, loss, ignore_progress{}, point);
    train_reward_outcomes(w.cpu, model, score_update, data, options);
    CHECK_THROWS_AS(train_unpaired(w.cpu, parts, w.reference, part_update, data, options, loss, stop_there, part_point),
                    killed);
    CHECK_THROWS_AS(train_reward_outcomes(w.cpu, part_model, part_score_update, data, options, stop_there), killed);
    options.done = stop;
    train_unpaired(w.cpu, parts, w.reference, part_update, data, options, loss, ignore_progress{}, part_point);
    train_reward_outcomes(w.cpu, part_model, part_score_update, data, options);
    CHECK(bits(whole.parameters()) == bits(parts.parameters()));
    CHECK(bits(model.parameters()) == bits(part_model.parameters()));
  }
}

TEST_CASE("labels that do not fit are refused") {
  world w;
  tabular_policy policy = w.reference;
  tabular_reward model(vocabulary);
  auto update = steps_of(0.1);
  auto data = every_response([](std::size_t) { return 1; });
  const auto refuse = [&](const char* message, const loop_options& options = {}) {
    CHECK_THROWS_WITH(train_unpaired(w.cpu, policy, w.reference, update, data, options), message);
  };
  SECTION("too few") {
    data.label.pop_back();
    refuse("train_unpaired: data.label has 15 elements, wants 16");
    CHECK_THROWS_WITH(train_reward_outcomes(w.cpu, model, update, data, {}),
                      "train_reward_outcomes: data.label has 15 elements, wants 16");
  }
  SECTION("not a number") {
    data.label[3] = std::numeric_limits<float>::quiet_NaN();
    refuse("train_unpaired: data.label is nan, wants finite numbers");
  }
  SECTION("weights of others") {
    data.weight = {1};
    refuse("train_unpaired: data.weight has 1 elements, wants 16");
  }
  SECTION("none") {
    data = {};
    refuse("train_unpaired: data has elements: 0, wants at least one");
  }
  SECTION("minibatches of nothing") { refuse("train_unpaired: options.batch is 0, wants 1 or more", {.batch = 0}); }
  CHECK(bits(policy.parameters()) == bits(w.reference.parameters()));
}
