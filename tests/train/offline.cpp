// The offline loops where labels come with their probabilities, so that the optimum is exact; their references; what they
// refuse.

#include <cmath>
#include <limits>

#include "rlhf/algorithm/kto_pair.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/ranking.hpp"
#include "rlhf/train/reference_sync.hpp"
#include "rlhf/train/supervised.hpp"
#include "support/catch.hpp"
#include "train/exact_pairs.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

/// A reference that counts how often it is asked.
struct counting {
  tabular_policy of;
  int passes = 0;
  void log_probs(const responses& r, std::span<float> out) {
    ++passes;
    of.log_probs(r, out);
  }
};

struct likely_and_short {
  static constexpr unsigned reads = field::length;
  template <number V>
  V operator()(const labelled_response<V>& r) const {
    return r.length - r.logp;
  }
};

/// A reward for a bandit's 8 arms, or for two tokens of 4.
struct problem : world {
  problem(std::int64_t tokens, std::int64_t length)
      : world(tokens, length), all(all_responses(tokens, length)), which(every_two(*this, size())) {}
  responses all;
  std::vector<two> which;
  [[nodiscard]] std::size_t size() { return static_cast<std::size_t>(all.size()); }

  /// Every two responses, each with the probability that the first is preferred.
  [[nodiscard]] preference_pairs votes() {
    preference_pairs pairs = pairs_of(which, all);
    pairs.probability = numbers(which, [&](std::size_t i, std::size_t j) { return wins(*this, i, j); });
    return pairs;
  }
  template <class Loss>
  tabular_policy learn(const preference_pairs& pairs, const Loss& loss) {
    tabular_policy policy = reference;
    auto update = steps_of(0.05);
    train_preference(cpu, policy, reference, update, pairs, {.batch = pairs.chosen.size(), .epochs = 600}, loss);
    return policy;
  }
};

/// What two runs must agree on.
template <class Train>
std::vector<float> trained(const tabular_policy& start, Train&& train) {
  tabular_policy policy = start;
  auto update = steps_of(0.05);
  train(policy, update);
  return bits(policy.parameters());
}

}  // namespace

TEST_CASE("DPO reaches the optimum of reward less KL, on a bandit and on two tokens") {
  problem w = GENERATE(false, true) ? problem(8, 1) : problem(4, 2);
  SECTION("from the probabilities of the labels") {
    tabular_policy policy = w.learn(w.votes(), dpo{.beta = beta});
    CHECK(w.distance(policy, beta) < 1e-2);
  }
  SECTION("from both labels, each with its weight") {
    std::vector<two> both = w.which;
    for (const two& t : w.which) both.push_back({t.j, t.i});
    preference_pairs pairs = pairs_of(both, w.all);
    pairs.weight = numbers(both, [&](std::size_t i, std::size_t j) { return wins(w, i, j); });
    tabular_policy policy = w.learn(pairs, dpo{.beta = beta});
    CHECK(w.distance(policy, beta) < 1e-2);
  }
}

TEST_CASE("IPO reaches its optimum: the reference tilted by the rate of wins against the data") {
  // Azar et al. 2023, arXiv 2310.12036, eq. 6 with the identity: pi = ref exp(E_mu p(y beats y') / tau). The pairs weigh
  // what the data's law mu, here the reference, would have drawn.
  problem w = GENERATE(false, true) ? problem(8, 1) : problem(4, 2);
  const std::vector<double> mu = distribution(w.reference);
  preference_pairs pairs = w.votes();
  pairs.weight = numbers(
      w.which, [&](std::size_t i, std::size_t j) { return 2 * static_cast<double>(w.which.size()) * mu[i] * mu[j]; });
  std::vector<double> h(mu.size());
  for (std::size_t i = 0; i < h.size(); ++i)
    for (std::size_t j = 0; j < h.size(); ++j) h[i] += mu[j] * wins(w, i, j) / beta;
  const std::vector<double> best = tilted_by(mu, h);
  CHECK(total_variation(best, mu) > 0.05);
  tabular_policy by_sums = w.learn(pairs, preference_loss<ipo_sum>{{.beta = beta}});
  CHECK(total_variation(distribution(by_sums), best) < 1e-2);
  // Averages per token want the margin per token: beta times the length.
  const double length = static_cast<double>(w.reference.length());
  tabular_policy by_averages = w.learn(pairs, preference_loss<ipo>{{.beta = beta * length}});
  CHECK(total_variation(distribution(by_averages), best) < 1e-2);
}

TEST_CASE("supervised training reaches the distribution that its weights say") {
  problem w = GENERATE(false, true) ? problem(8, 1) : problem(4, 2);
  std::vector<float> weight;
  for (const double p : distribution(w.reference))
    weight.push_back(static_cast<float>(p * static_cast<double>(w.size())));
  tabular_policy policy(1, w.reference.vocabulary(), w.reference.length());
  auto update = steps_of(0.05);
  const loop_options options{.batch = w.all.size(), .epochs = 400};
  double loss = 0, entropy = 0;
  train_supervised(
      w.cpu, policy, update, w.all, options, [&](const progress& p) { loss = (*p.metrics)["loss"]; }, weight);
  CHECK(total_variation(distribution(policy), distribution(w.reference)) < 1e-2);
  for (const double p : distribution(w.reference)) entropy -= p * std::log(p);
  CHECK(loss == Approx(entropy / static_cast<double>(w.reference.length())).epsilon(1e-4));

  weight.pop_back();
  CHECK_THROWS_WITH(train_supervised(w.cpu, policy, update, w.all, options, ignore_progress{}, weight),
                    "train_supervised: weight has " + std::to_string(weight.size()) + " elements, wants " +
                        std::to_string(weight.size() + 1));
  weight.push_back(std::numeric_limits<float>::quiet_NaN());
  CHECK_THROWS_WITH(train_supervised(w.cpu, policy, update, w.all, options, ignore_progress{}, weight),
                    "train_supervised: weight is nan, wants finite numbers");
}

TEST_CASE("BCO reaches the optimum of reward less KL where the labels are those of its own reference point") {
  // At the optimum the implicit reward is r - log Z, delta its mean over the data, and a label is good with probability
  // sigma(r - mean r): then every term is at its minimum. delta begins there: as the mean of a whole run, of which it moves the
  // end, it would come near only as a small power of the run's length.
  world w;
  const responses all = all_responses(vocabulary);
  double mean = 0;
  for (std::size_t i = 0; i < 16; ++i) mean += w.reward.at(i) / 16;
  labelled_responses data;
  for (const int good : {0, 1})
    for (std::int64_t i = 0; i < 16; ++i) {
      const double p = sigmoid(w.reward.at(static_cast<std::size_t>(i)) - mean);
      data.response.add(all, i);
      data.label.push_back(static_cast<float>(good));
      data.weight.push_back(static_cast<float>(good == 1 ? p : 1 - p));
    }
  tabular_policy policy = w.reference;
  auto update = steps_of(0.05);
  running_reference point{.beta = beta, .rewards = {1e6, mean - w.log_normaliser(beta), 0}};
  train_unpaired(w.cpu, policy, w.reference, update, data, {.batch = 32, .epochs = 600},
                 unpaired_loss{bco{.beta = beta}}, ignore_progress{}, point);
  CHECK(point.mean() == Approx(mean - w.log_normaliser(beta)).margin(1e-2));
  CHECK(w.distance(policy, beta) < 1e-2);
}

TEST_CASE("a loss that reads no reference asks for none") {
  problem w(4, 2);
  preference_pairs pairs = pairs_of(w.which, w.all);
  const auto compare = [&](const auto& loss, int passes) {
    counting reference{w.reference};
    const loop_options options{.batch = 50, .epochs = 2};
    statistics seen;
    const auto by_model = trained(w.reference, [&](tabular_policy& policy, auto& update) {
      train_preference(w.cpu, policy, reference, update, pairs, options, loss,
                       [&](const progress& p) { seen = *p.metrics; });
    });
    CHECK(by_model != bits(w.reference.parameters()));
    CHECK(reference.passes == passes);
    CHECK(seen.find("rewards/chosen") != nullptr);
    const auto without = [&] {
      return trained(w.reference, [&](tabular_policy& policy, auto& update) {
        train_preference(w.cpu, policy, no_reference{}, update, pairs, options, loss);
      });
    };
    if (passes == 0)
      CHECK(without() == by_model);
    else
      CHECK_THROWS_WITH(without(),
                        "train_preference: reference is absent, wants a model or its log-probabilities: the loss reads "
                        "them");
  };
  compare(preference_loss<simpo>{}, 0);
  compare(preference_loss<orpo>{{}, {}, {.weight = 1}, {}}, 0);
  compare(preference_loss<cpo>{}, 0);
  compare(preference_loss<reference_free<dpo_sigmoid>>{}, 0);
  compare(dpo{}, 2);  // either side once, not once for each minibatch
  compare(preference_loss<cpo, batch_mean, clamped_log_ratio>{{}, {}, {}, {}}, 2);
}

TEST_CASE("an objective of single responses sees their lengths, and no reference where it reads none") {
  problem w(4, 2);
  tabular_policy policy = w.reference;
  auto update = steps_of(0.1);
  double loss = 0;
  const labelled_responses data{w.all, std::vector<float>(16, 1), {}};
  train_unpaired(w.cpu, policy, no_reference{}, update, data, {}, unpaired_loss{likely_and_short{}},
                 [&](const progress& p) { loss = (*p.metrics)["loss"]; });
  double expected = 2;
  for (const double p : distribution(w.reference)) expected -= std::log(p) / 16;
  CHECK(loss == Approx(expected).epsilon(1e-5));
}

TEST_CASE("log-probabilities of the reference that were computed before give the same bits without a pass") {
  problem w(4, 2);
  const loop_options options{.batch = 7, .epochs = 2, .key = {1, 1}};
  const auto scored = [&](const responses& of) {
    std::vector<float> logp(static_cast<std::size_t>(of.response_tokens()));
    w.reference.log_probs(of, logp);
    return logp;
  };
  SECTION("pairs") {
    const preference_pairs pairs = pairs_of(w.which, w.all);
    const auto run = [&](auto&& reference) {
      return trained(w.reference, [&](tabular_policy& policy, auto& update) {
        train_preference(w.cpu, policy, reference, update, pairs, options, dpo{.beta = beta});
      });
    };
    const std::vector<float> chosen = scored(pairs.chosen), rejected = scored(pairs.rejected);
    CHECK(run(pair_reference_logp{chosen, rejected}) == run(w.reference));
    CHECK_THROWS_WITH(run(pair_reference_logp{chosen, {rejected.data(), 3}}),
                      "train_preference: reference.rejected has 3 elements, wants 240");
  }
  SECTION("labelled responses") {
    const labelled_responses data{w.all, std::vector<float>(16, 1), {}};
    const auto run = [&](auto&& reference) {
      return trained(w.reference, [&](tabular_policy& policy, auto& update) {
        train_unpaired(w.cpu, policy, reference, update, data, options, unpaired_loss{una_reward{.beta = beta}});
      });
    };
    const std::vector<float> logp = scored(w.all);
    CHECK(run(reference_logp{logp}) == run(w.reference));
    CHECK_THROWS_WITH(run(reference_logp{}), "train_unpaired: reference.logp has 0 elements, wants 32");
    CHECK_THROWS_WITH(
        run(no_reference{}),
        "train_unpaired: reference is absent, wants a model or its log-probabilities: the loss reads them");
  }
  SECTION("ranked responses") {
    ranked_responses data{w.all, {0, 4, 8, 12, 16}, {}};
    const auto run = [&](auto&& reference) {
      return trained(w.reference, [&](tabular_policy& policy, auto& update) {
        train_listwise(w.cpu, beta, policy, reference, update, data, options);
      });
    };
    const std::vector<float> logp = scored(w.all);
    CHECK(run(reference_logp{logp}) == run(w.reference));
    CHECK_THROWS_WITH(run(reference_logp{}), "train_listwise: reference.logp has 0 elements, wants 32");
  }
}

TEST_CASE("a reference that follows the policy is what a second run from the first one's end is given") {
  problem w(4, 2);
  labelled_responses data{w.all, {}, {}};
  for (std::size_t i = 0; i < 16; ++i) data.label.push_back(i % 3 == 0 ? 1.0f : 0.0f);
  const ranked_responses lists{w.all, {0, 4, 8, 12, 16}, {}};
  loop_options unpaired{.batch = 2, .epochs = 5, .key = {1, 1}}, listwise{.batch = 1, .epochs = 10, .key = {1, 1}};
  // 40 updates of either; the reference is replaced after 20.
  const auto check = [&](auto&& train) {
    const auto run = [&](std::int64_t stop, bool by_hand) {
      tabular_policy policy = w.reference, reference = w.reference;
      auto update = steps_of(0.05);
      reference_sync sync{.mixing = 1, .every = by_hand ? std::int64_t{1000} : std::int64_t{20}};
      const auto until = [&](const progress& p) { return p.step < stop; };
      train(policy, reference, update, std::int64_t{0}, until, sync);
      if (by_hand) reference = policy;
      const auto to_the_end = [](const progress&) { return true; };
      if (stop < 40) train(policy, reference, update, stop, to_the_end, sync);
      CHECK(bits(reference.parameters()) == bits((by_hand ? reference : policy).parameters()));
      return bits(policy.parameters());
    };
    const auto whole = run(40, false);
    CHECK(run(20, true) == whole);
    CHECK(run(13, false) == whole);
    CHECK(run(40, true) != whole);  // the reference stood still
  };
  SECTION("labelled responses") {
    check([&](auto& policy, auto& reference, auto& update, std::int64_t done, const auto& observe, auto& sync) {
      unpaired.done = done;
      train_unpaired(w.cpu, policy, reference, update, data, unpaired, unpaired_loss{apo_zero_unpaired{.beta = 2}},
                     observe, no_reference_point{}, sync);
    });
  }
  SECTION("ranked responses") {
    check([&](auto& policy, auto& reference, auto& update, std::int64_t done, const auto& observe, auto& sync) {
      listwise.done = done;
      train_listwise(w.cpu, 2.0, policy, reference, update, lists, listwise, ranking_loss<plackett_luce>{}, observe,
                     sync);
    });
  }
}

TEST_CASE("listwise learning that has converged twice, the second time from the first, has twice the reward") {
  world w(3, 1);
  const responses all = all_responses(3, 1);
  ranked_responses data;
  for (std::size_t best = 0; best < 3; ++best)  // who is first, and the law that Plackett and Luce give
    for (std::size_t second = 0; second < 3; ++second) {
      if (second == best) continue;
      const std::size_t order[] = {best, second, 3 - best - second};
      double left = 0, p = 1;
      for (const std::size_t k : order) left += std::exp(w.reward.at(k));
      for (const std::size_t k : order) {
        p *= std::exp(w.reward.at(k)) / left;
        left -= std::exp(w.reward.at(k));
        data.response.add(all, static_cast<std::int64_t>(k));
      }
      data.offsets.push_back(data.response.size());
      data.weight.push_back(static_cast<float>(p));
    }
  tabular_policy policy = w.reference, reference = w.reference;
  auto update = steps_of(0.05);
  train_listwise(w.cpu, beta, policy, reference, update, data, {.batch = 6, .epochs = 1500},
                 ranking_loss<plackett_luce>{}, ignore_progress{}, reference_sync{.mixing = 1, .every = 800});
  CHECK(w.distance(reference, beta) < 2e-3);
  CHECK(w.distance(policy, beta / 2) < 2e-3);
}

TEST_CASE("what a pair loss needs and the pairs lack is refused, and what they have and it does not read") {
  problem w(4, 2);
  tabular_policy policy = w.reference;
  auto update = steps_of(0.1);
  counting reference{w.reference};
  const std::vector<float> one(w.which.size(), 1.0f);
  const auto refuse = [&](const auto& loss, const preference_pairs& pairs, const char* message) {
    CHECK_THROWS_WITH(train_preference(w.cpu, policy, reference, update, pairs, {}, loss), message);
  };
  const preference_loss<dpo_offset> offset{};
  const preference_loss<rebel> regression{};
  const preference_loss<inpo> mirror{};
  const preference_pairs plain = pairs_of(w.which, w.all);
  const auto with = [&](std::vector<float> preference_pairs::*known, std::vector<float> numbers) {
    preference_pairs pairs = plain;
    pairs.*known = std::move(numbers);
    return pairs;
  };
  const auto changed = [&](float last) {
    std::vector<float> x = one;
    x.back() = last;
    return x;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  refuse(offset, plain, "train_preference: pairs.margin has 0 elements, wants 120");
  refuse(regression, plain, "train_preference: pairs.chosen_reward has 0 elements, wants 120");
  refuse(regression, with(&preference_pairs::chosen_reward, one),
         "train_preference: pairs.rejected_reward has 0 elements, wants 120");
  refuse(mirror, plain, "train_preference: pairs.previous_chosen has 0 elements, wants 120");
  refuse(dpo{}, with(&preference_pairs::margin, one),
         "train_preference: pairs.margin has elements: 120, wants none: the loss does not say that it reads it");
  refuse(
      dpo{}, with(&preference_pairs::rejected_reward, one),
      "train_preference: pairs.rejected_reward has elements: 120, wants none: the loss does not say that it reads it");
  refuse(
      dpo{}, with(&preference_pairs::previous_chosen, one),
      "train_preference: pairs.previous_chosen has elements: 120, wants none: the loss does not say that it reads it");
  refuse(kto_pair{}, with(&preference_pairs::weight, one),
         "train_preference: pairs.weight has elements: 120, wants none: the loss does not weigh pairs");
  constexpr const char* no_expectation =
      "train_preference: pairs.probability has elements: 120, wants none: the loss has no expectation over the order "
      "of a "
      "pair";
  refuse(kto_pair{}, with(&preference_pairs::probability, one), no_expectation);
  refuse(dpo{.nll = {.weight = 1}}, with(&preference_pairs::probability, one), no_expectation);
  preference_pairs both = with(&preference_pairs::margin, one);
  both.probability = one;
  refuse(offset, both, no_expectation);
  refuse(dpo{}, with(&preference_pairs::probability, changed(1.5f)),
         "train_preference: pairs.probability is 1.5, wants probabilities");
  refuse(dpo{}, with(&preference_pairs::weight, changed(nan)),
         "train_preference: pairs.weight is nan, wants finite numbers");
  refuse(offset, with(&preference_pairs::margin, changed(nan)), "train_preference: pairs.margin is nan, wants numbers");
  refuse(regression, with(&preference_pairs::chosen_reward, changed(nan)),
         "train_preference: pairs.chosen_reward is nan, wants finite numbers");
  refuse(dpo{}, with(&preference_pairs::previous_rejected, {1, 2}),
         "train_preference: pairs.previous_rejected has 2 elements, wants 120");
  tabular_reward model(vocabulary);
  CHECK_THROWS_WITH(train_reward_model(w.cpu, model, update, with(&preference_pairs::chosen_reward, one), {}),
                    "train_reward_model: pairs.chosen_reward has 120 elements, wants 0");
  CHECK(reference.passes == 0);
  reference_sync sync;
  CHECK_THROWS_WITH(train_preference(w.cpu, policy, w.reference, update, plain, {}, preference_loss<simpo>{},
                                     ignore_progress{}, sync),
                    "train_preference: sync is given, wants none: the loss reads no reference");
  CHECK(bits(policy.parameters()) == bits(w.reference.parameters()));
}
