// Estimators of a group: closed forms, ties, lone and missing rewards, reductions, selections, several reward functions.

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/advantage/role_baseline.hpp"
#include "rlhf/driver/advantage_bounds.hpp"
#include "rlhf/driver/anchor_groups.hpp"
#include "rlhf/driver/combined_reward.hpp"

namespace {

using test::infinity;
using test::not_a_number;
using numbers = std::vector<double>;

template <class Estimator>
numbers run_groups(const Estimator& estimator, const std::vector<std::int64_t>& offsets, const numbers& reward,
                   const numbers& weight = {}) {
  rlhf::reference_backend backend;
  numbers out(reward.size(), 99);
  rlhf::group_inputs<double> in{{rlhf::packed(offsets)}, reward, {}};
  if (!weight.empty()) in.weight = weight;
  REQUIRE(rlhf::grouped{estimator}(backend, in, out));
  return out;
}
/// One group.
template <class Estimator>
numbers run(const Estimator& estimator, const numbers& reward, const numbers& weight = {}) {
  return run_groups(estimator, {0, static_cast<std::int64_t>(reward.size())}, reward, weight);
}

double mean_of(const numbers& x) {
  double sum = 0;
  for (const double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}
double deviation_of(const numbers& x) {
  double squares = 0;
  for (const double v : x) squares += (v - mean_of(x)) * (v - mean_of(x));
  return std::sqrt(squares / static_cast<double>(x.size() - 1));
}
numbers without(numbers x, std::size_t i) {
  x.erase(x.begin() + static_cast<std::ptrdiff_t>(i));
  return x;
}

}  // namespace

TEST_CASE("leave-one-out: the mean of the others, and their deviation") {
  std::mt19937 random(71);
  for (const std::size_t n : {2u, 3u, 8u}) {
    const numbers reward = test::uniform(random, n, -2, 2);
    const auto plain = run(rlhf::leave_one_out{}, reward);
    const auto scaled = run(rlhf::leave_one_out{.normalize = true, .epsilon = 0.01}, reward);
    for (std::size_t i = 0; i < n; ++i) {
      const numbers others = without(reward, i);
      const double want = reward[i] - mean_of(others);
      CHECK(plain[i] == Approx(want).epsilon(1e-12).margin(1e-14));
      // The deviation of a single number is not defined: nothing is divided.
      CHECK(scaled[i] == Approx(n > 2 ? want / (deviation_of(others) + 0.01) : want).epsilon(1e-12).margin(1e-14));
    }
  }
  // Equal others: not divided either, whatever epsilon is.
  const auto equal = run(rlhf::leave_one_out{.normalize = true, .epsilon = 0}, {1, 1, 1, 3});
  CHECK(equal[3] == Approx(2));
  CHECK(equal[0] == Approx((1 - 5.0 / 3) / deviation_of({1, 1, 3})));
}

TEST_CASE("leave-one-out: an outlier does not cancel the deviation of the others") {
  const numbers reward = {1e8, 1, 2, 3};
  const auto a = run(rlhf::leave_one_out{.normalize = true, .epsilon = 0}, reward);
  CHECK(a[0] == Approx(1e8 - 2).epsilon(1e-12));  // the others deviate by exactly 1
}

TEST_CASE("leave-one-out: lone and missing rewards") {
  const std::vector<std::int64_t> offsets = {0, 1, 4, 6, 6};
  const numbers reward = {5, 1, not_a_number, 2, not_a_number, 7};
  const auto zero = run_groups(rlhf::leave_one_out{}, offsets, reward);
  const auto raw = run_groups(rlhf::leave_one_out{.lone = rlhf::lone_response::raw}, offsets, reward);
  CHECK(zero[0] == 0);
  CHECK(raw[0] == 5);
  CHECK(zero[1] == -1);
  CHECK(zero[3] == 1);
  CHECK((test::is_plain_zero(zero[2]) && test::is_plain_zero(raw[4])));
  CHECK(zero[5] == 0);  // the only reward of its group
  CHECK(raw[5] == 7);
}

TEST_CASE("leave-one-out is n/(n-1) of Dr. GRPO") {
  std::mt19937 random(72);
  const numbers reward = test::uniform(random, 7, -1, 1);
  const auto a = run(rlhf::leave_one_out{}, reward);
  const auto b = run(rlhf::group_advantage{.scale = rlhf::group_scale::none}, reward);
  for (std::size_t i = 0; i < 7; ++i) CHECK(a[i] == Approx(b[i] * 7 / 6).epsilon(1e-12));
}

TEST_CASE("OPO: a baseline weighed by length") {
  const numbers reward = {1, 0, 4, not_a_number}, length = {10, 30, 20, 1000};
  const double baseline = (10 * 1 + 20 * 4) / 60.0;
  const auto a = run(rlhf::optimal_baseline{}, reward, length);
  for (std::size_t i = 0; i < 3; ++i) CHECK(a[i] == Approx(reward[i] - baseline).epsilon(1e-14));
  CHECK(test::is_plain_zero(a[3]));
  // Equal lengths: the plain mean. A group of one and one without length keep their rewards.
  const auto even = run(rlhf::optimal_baseline{}, reward, {3, 3, 3, 3});
  const auto centred = run(rlhf::group_advantage{.scale = rlhf::group_scale::none}, reward);
  for (std::size_t i = 0; i < 4; ++i) CHECK(even[i] == Approx(centred[i]).margin(1e-14));
  CHECK(run(rlhf::optimal_baseline{}, {3}, {7}) == numbers{3});
  CHECK(run(rlhf::optimal_baseline{}, {3, 4}, {0, 0}) == numbers{3, 4});
  // The weighted advantages add up to 0.
  double sum = 0;
  for (std::size_t i = 0; i < 3; ++i) sum += length[i] * a[i];
  CHECK(sum == Approx(0).margin(1e-12));

  rlhf::reference_backend backend;
  numbers out(4);
  const std::vector<std::int64_t> one = {0, 4};
  CHECK(test::text(rlhf::grouped{rlhf::optimal_baseline{}}(
            backend, rlhf::group_inputs<double>{{rlhf::packed(one)}, reward, {}}, out)) ==
        "grouped: weight is null, wants a pointer to its elements");
  const numbers two = {1, 2};
  CHECK(test::text(rlhf::grouped{rlhf::optimal_baseline{}}(
            backend, rlhf::group_inputs<double>{{rlhf::packed(one)}, reward, two}, out)) ==
        "grouped: weight has 2 elements, wants 4");
}

TEST_CASE("length-shaped groups: rewards fall with length before the group's estimator") {
  const numbers reward = {1, 0.5, 0.8, not_a_number}, length = {10, 20, 12, 1000};
  const double mean = 14;
  numbers shaped;
  for (std::size_t i = 0; i < 3; ++i) shaped.push_back(reward[i] / (1 + 0.33 * length[i] / mean));
  const double center = (shaped[0] + shaped[1] + shaped[2]) / 3;
  const auto a = run(rlhf::length_shaped{rlhf::relative_length{}}, reward, length);
  for (std::size_t i = 0; i < 3; ++i) CHECK(a[i] == Approx(shaped[i] - center).epsilon(1e-14));
  CHECK(test::is_plain_zero(a[3]));
  // Without alpha, without length: the plain mean.
  const auto centred = run(rlhf::group_advantage{.scale = rlhf::group_scale::none}, reward);
  CHECK(run(rlhf::length_shaped{rlhf::relative_length{.alpha = 0}}, reward, length) == centred);
  CHECK(run(rlhf::length_shaped{rlhf::relative_length{}}, reward, {0, 0, 0, 0}) == centred);

  // The shortest right answer keeps its reward, wrong ones stay.
  const numbers marks = {1, 0, 2, 1}, words = {20, 5, 40, 10};
  const numbers paid = {0.5, 0, 0.5, 1};
  const auto b = run(rlhf::length_shaped{rlhf::brevity_bonus{}}, marks, words);
  for (std::size_t i = 0; i < 4; ++i) CHECK(b[i] == Approx(paid[i] - 0.5).margin(1e-15));
  for (const double x : run(rlhf::length_shaped{rlhf::brevity_bonus{}}, {0, 0}, {3, 4}))
    CHECK(x == 0);  // none is right
  // Any estimator of a group, but none that looks at the batch.
  const auto loo = run(rlhf::length_shaped{rlhf::brevity_bonus{}, rlhf::leave_one_out{}}, marks, words);
  for (std::size_t i = 0; i < 4; ++i) CHECK(loo[i] == Approx(b[i] * 4 / 3).margin(1e-15));
  CHECK(
      test::text(rlhf::length_shaped{rlhf::relative_length{}, rlhf::group_advantage{.scale = rlhf::group_scale::batch}}
                     .check())
          .find("length_shaped: estimator.scale") == 0);
  CHECK(!rlhf::length_shaped{rlhf::relative_length{.alpha = -1}}.check());
  CHECK(!rlhf::length_shaped{rlhf::brevity_bonus{.correct = not_a_number}}.check());
}

TEST_CASE("GPG: what carries no signal is made up for") {
  const std::vector<std::int64_t> offsets = {0, 4, 7, 8};
  const numbers reward = {1, 0, 0, 1, 0, not_a_number, 0, 2};
  const auto a = run_groups(rlhf::group_policy_gradient{.divisor = 2}, offsets, reward);
  const double alpha = 7.0 / 3;  // seven scored, three of them not 0
  CHECK(a[0] == Approx(alpha * 0.5 / 2));
  CHECK(a[1] == Approx(-alpha * 0.5 / 2));
  for (const std::size_t i : {4u, 5u, 6u}) CHECK(a[i] == 0);
  CHECK(a[7] == Approx(alpha * 2 / 2));  // alone: its reward
  for (const double x : run(rlhf::group_policy_gradient{}, {0, 0, 0})) CHECK(x == 0);
  // No zeros: Dr. GRPO.
  const numbers full = {1, 2, 4};
  CHECK(run(rlhf::group_policy_gradient{}, full)[2] ==
        Approx(run(rlhf::group_advantage{.scale = rlhf::group_scale::none}, full)[2]));
}

TEST_CASE("MaxRL: relative to the mean") {
  const auto a = run(rlhf::mean_normalized{.epsilon = 0}, {1, 0, 0, 0});
  CHECK(a == numbers{3, -1, -1, -1});  // (1 - p)/p for a success, -1 for a failure
  CHECK(run(rlhf::mean_normalized{.epsilon = 0.5}, {1, 0}) == numbers{0.5, -0.5});
  CHECK(run(rlhf::mean_normalized{}, {0, 0, 0}) == numbers{0, 0, 0});
  CHECK(run(rlhf::mean_normalized{.epsilon = 0}, {0, 0}) == numbers{0, 0});  // 0/0
  CHECK(run(rlhf::mean_normalized{.zero_if_nonpositive = true}, {-2, 1}) == numbers{0, 0});
  CHECK(run(rlhf::mean_normalized{.epsilon = 0}, {-2, 1})[1] == -3);
  CHECK(run(rlhf::mean_normalized{.zero_if_nonpositive = true}, {4, 0}) == numbers{1, -1});  // no epsilon there
  const auto missing = run(rlhf::mean_normalized{.epsilon = 0}, {1, not_a_number, 3});
  CHECK(missing[0] == -0.5);
  CHECK(test::is_plain_zero(missing[1]));
}

TEST_CASE("pass@k: the best response has what it adds") {
  const numbers reward = {0.5, 2, -1, 1.25};
  CHECK(run(rlhf::pass_at_k{.normalize = false}, reward) == numbers{0, 0.75, 0, 0});
  CHECK(run(rlhf::pass_at_k{.epsilon = 0.1}, reward)[1] == Approx(0.75 / (deviation_of(reward) + 0.1)).epsilon(1e-13));
  CHECK(run(rlhf::pass_at_k{}, {1, 1, 0}) == numbers{0, 0, 0});                  // a tie pays nothing
  CHECK(run(rlhf::pass_at_k{.epsilon = 0}, {1, 1}) == numbers{0, 0});            // 0/0
  CHECK(run(rlhf::pass_at_k{.normalize = false}, {3}) == numbers{0});            // alone
  CHECK(run(rlhf::pass_at_k{}, {not_a_number, not_a_number}) == numbers{0, 0});  // nothing
  CHECK(run(rlhf::pass_at_k{.normalize = false}, {not_a_number, -3, -5}) == numbers{0, 2, 0});
  CHECK(run(rlhf::pass_at_k{.normalize = false}, {-infinity, 1, 0}) == numbers{0, 1, 0});
}

TEST_CASE("parts of a batch, each with the moments of all of it, give what the whole gives") {
  const numbers reward = {1, 0, 0.5, 0, not_a_number, 2, 3, 0.25, -1};
  const std::vector<std::int64_t> offsets = {0, 3, 5, 9};
  rlhf::reward_moments found;
  for (const double r : reward)
    if (r == r) {
      found.merge({1, r, 0});
      found.nonzero += r != 0 ? 1 : 0;
    }
  const auto parts = [&](const auto& estimator) {
    rlhf::reference_backend backend;
    numbers out(reward.size(), 99);
    for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
      const auto begin = static_cast<std::size_t>(offsets[g]), n = static_cast<std::size_t>(offsets[g + 1]) - begin;
      const std::vector<std::int64_t> one = {0, static_cast<std::int64_t>(n)};
      const numbers part(reward.begin() + offsets[g], reward.begin() + offsets[g + 1]);
      numbers advantage(n);
      rlhf::group_inputs<double> in{{rlhf::packed(one)}, part, {}};
      in.found = &found;
      REQUIRE(rlhf::grouped{estimator}(backend, in, advantage));
      std::copy(advantage.begin(), advantage.end(), out.begin() + offsets[g]);
    }
    return out;
  };
  const rlhf::group_advantage by_batch{.scale = rlhf::group_scale::batch};
  const auto whole = run_groups(by_batch, offsets, reward), split = parts(by_batch);
  const auto gpg = run_groups(rlhf::group_policy_gradient{}, offsets, reward),
             gpg_split = parts(rlhf::group_policy_gradient{});
  for (std::size_t i = 0; i < reward.size(); ++i) {
    CHECK(split[i] == Approx(whole[i]).epsilon(1e-13).margin(1e-300));
    CHECK(gpg_split[i] == Approx(gpg[i]).epsilon(1e-13).margin(1e-300));
  }
}

TEST_CASE("estimators of a group check their numbers") {
  CHECK(test::text(rlhf::leave_one_out{.epsilon = -1}.check()) == "leave_one_out: epsilon is -1, wants 0 or more");
  CHECK(test::text(rlhf::group_policy_gradient{.divisor = 0}.check()) ==
        "group_policy_gradient: divisor is 0, wants a finite number above 0");
  CHECK(test::text(rlhf::mean_normalized{.epsilon = -1}.check()) == "mean_normalized: epsilon is -1, wants 0 or more");
  CHECK(test::text(rlhf::pass_at_k{.epsilon = -1}.check()) == "pass_at_k: epsilon is -1, wants 0 or more");
  CHECK(test::text(rlhf::group_filter{.minimum_deviation = -1}.check()) ==
        "group_filter: minimum_deviation is -1, wants 0 or more");
  CHECK(test::text(rlhf::group_filter{.low = 1, .high = 0}.check()) == "group_filter: low is 1, wants at most high");
  CHECK(test::text(rlhf::best_of_group{.keep = 0}.check()) == "best_of_group: keep is 0, wants 1 or more");
  CHECK(test::text(rlhf::combined_reward{.penalty = infinity}.check()) ==
        "combined_reward: penalty is inf, wants a finite number");
  CHECK(test::text(rlhf::combined_reward{.low = 1, .high = 0}.check()) ==
        "combined_reward: low is 1, wants at most high");
  CHECK(test::text(rlhf::advantage_bounds{.low = 1, .high = 0}.check()) ==
        "advantage_bounds: low is 1, wants at most high");
  CHECK(test::text(rlhf::advantage_bounds{.flagged = not_a_number}.check()) ==
        "advantage_bounds: flagged is nan, wants a finite number");
}

TEST_CASE("dynamic sampling and difficulty: groups that teach nothing are left out") {
  const std::vector<std::int64_t> offsets = {0, 2, 4, 6};
  const numbers reward = {1, 1, 0, 1, 0, 0.25};
  const auto same = [](double got, double want) { return got == want || (std::isnan(got) && std::isnan(want)); };
  const auto check = [&](const rlhf::group_filter& how, const numbers& want) {
    const auto got = run_groups(how, offsets, reward);
    for (std::size_t i = 0; i < 6; ++i) CHECK(same(got[i], want[i]));
  };
  check({}, {not_a_number, not_a_number, 0, 1, 0, 0.25});
  check({.minimum_deviation = 0.2}, {not_a_number, not_a_number, 0, 1, not_a_number, not_a_number});
  check({.low = 0.2}, {not_a_number, not_a_number, 0, 1, not_a_number, not_a_number});
  check({.high = 0.2}, {not_a_number, not_a_number, not_a_number, not_a_number, 0, 0.25});
  // Estimators take it from there: advantage 0, and nothing in the statistics of the call.
  const auto a = run_groups(rlhf::group_policy_gradient{}, offsets, run_groups(rlhf::group_filter{}, offsets, reward));
  CHECK(a == numbers{0, 0, -1, 1, -0.25, 0.25});  // alpha 4/2
}

TEST_CASE("GFPO: the best of a group by another measure") {
  const numbers reward = {1, 0, 5, 2, 3}, length = {30, 10, 20, 20, 5};
  const auto kept = [&](const rlhf::best_of_group& how) {
    std::vector<int> out;
    for (const double r : run(how, reward, length)) out.push_back(std::isnan(r) ? 0 : 1);
    return out;
  };
  CHECK(kept({.keep = 3}) == std::vector<int>{0, 1, 1, 0, 1});  // of the two of length 20 the first
  CHECK(kept({.keep = 2, .largest = true}) == std::vector<int>{1, 0, 1, 0, 0});
  CHECK(kept({.keep = 9}) == std::vector<int>{1, 1, 1, 1, 1});
  const auto unscored = run(rlhf::best_of_group{.keep = 1}, {not_a_number, 7}, {1, 2});
  CHECK((std::isnan(unscored[0]) && unscored[1] == 7));
}

TEST_CASE("several reward functions: weights, missing ones, clip before the penalty") {
  rlhf::reference_backend backend;
  const numbers rewards = {1, 2, not_a_number, 4, not_a_number, not_a_number, -3, 0.5}, weight = {2, 0.5},
                penalty = {1, -1, 1, 10};
  numbers out(4, 99);
  rlhf::rewards_inputs<double> in;
  in.rewards = {rewards.data(), 4, 2};
  in.weight = weight;
  in.penalty = penalty;
  REQUIRE(rlhf::reward_combination{}(backend, in, out));
  CHECK((out[0] == 3 && out[1] == 2 && std::isnan(out[2]) && out[3] == -5.75));
  REQUIRE(rlhf::reward_combination{{.penalty = 0.5, .low = -2, .high = 2.5}}(backend, in, out));
  CHECK((out[0] == 2 && out[1] == 2.5 && std::isnan(out[2]) && out[3] == -7));
  in.weight = {};
  in.penalty = {};
  REQUIRE(rlhf::reward_combination{{.penalty = 0.5}}(backend, in, out));
  CHECK((out[0] == 3 && out[1] == 4 && out[3] == -2.5));

  in.weight = penalty;
  CHECK(test::text(rlhf::reward_combination{}(backend, in, out)) ==
        "reward_combination: weight has 4 elements, wants 2");
  in.weight = {};
  in.penalty = weight;
  CHECK(test::text(rlhf::reward_combination{}(backend, in, out)) ==
        "reward_combination: penalty has 2 elements, wants 4");
  in.penalty = {};
  in.rewards.data = nullptr;
  CHECK(test::text(rlhf::reward_combination{}(backend, in, out)) ==
        "reward_combination: rewards is null, wants a pointer to its elements");
}

TEST_CASE("GDPO: each function relative to its group on its own") {
  rlhf::reference_backend backend;
  std::mt19937 random(73);
  numbers rewards = test::uniform(random, 6 * 3, -1, 1);
  rewards[2 * 3 + 1] = not_a_number;
  for (const std::size_t k : {0u, 1u, 2u}) rewards[5 * 3 + k] = not_a_number;
  const numbers weight = {1, 0.5, -2};
  const std::vector<std::int64_t> offsets = {0, 3, 6};
  numbers want(6, 0), out(6, 99);
  for (std::size_t k = 0; k < 3; ++k) {
    numbers column;
    for (std::size_t i = 0; i < 6; ++i) column.push_back(rewards[i * 3 + k]);
    const auto a = run_groups(rlhf::group_advantage{}, offsets, column);
    for (std::size_t i = 0; i < 6; ++i) want[i] += weight[k] * a[i];
  }
  rlhf::rewards_inputs<double> in;
  in.rewards = {rewards.data(), 6, 3};
  in.weight = weight;
  REQUIRE(rlhf::decoupled_groups{rlhf::group_advantage{}}(backend, rlhf::grouping<>{rlhf::packed(offsets)}, in, out));
  for (std::size_t i = 0; i < 6; ++i) CHECK(out[i] == Approx(want[i]).epsilon(1e-13).margin(1e-15));
  CHECK(out[5] == 0);
  // One function of weight 1 is the estimator itself, in any scale of the rewards.
  numbers single(6), scaled(6);
  for (std::size_t i = 0; i < 6; ++i) single[i] = rewards[i * 3], scaled[i] = 1000 * single[i];
  numbers a(6), b(6);
  in.weight = {};
  in.rewards = {single.data(), 6, 1};
  const rlhf::decoupled_groups decoupled{rlhf::group_advantage{.epsilon = 0}};
  REQUIRE(decoupled(backend, rlhf::grouping<>{rlhf::packed(offsets)}, in, a));
  in.rewards = {scaled.data(), 6, 1};
  REQUIRE(decoupled(backend, rlhf::grouping<>{rlhf::packed(offsets)}, in, b));
  for (std::size_t i = 0; i < 6; ++i) CHECK(a[i] == Approx(b[i]).margin(1e-12));
}

TEST_CASE("bounds and replacements of advantages") {
  rlhf::reference_backend backend;
  const numbers advantage = {-3, 0.5, 3, not_a_number, 1, infinity};
  const std::vector<std::uint8_t> flagged = {0, 0, 0, 0, 1, 1}, mask = {1, 1, 1, 0, 1, 1};
  numbers out(6, 99);
  rlhf::bounding_inputs<double> in;
  in.advantage = advantage;
  in.flagged = flagged;
  in.mask = mask;
  REQUIRE(rlhf::advantage_bounding{{.low = -2, .high = 2}}(backend, in, out));
  CHECK(out == numbers{-2, 0.5, 2, 0, -5, -5});
  in.flagged = {};
  in.mask = {};
  REQUIRE(rlhf::advantage_bounding{}(backend, in, out));
  CHECK((out[0] == -3 && std::isnan(out[3]) && out[5] == infinity));
  in.mask = {mask.data(), 5};
  CHECK(test::text(rlhf::advantage_bounding{}(backend, in, out)) == "advantage_bounding: mask has 5 elements, wants 6");
}

TEST_CASE("GiGPO: episodes within tasks, steps within states") {
  rlhf::reference_backend backend;
  // Two episodes of one task, of two steps and three: both start in state A; their second steps are in B; the last is alone.
  const std::vector<std::int64_t> episodes = {0, 2, 5}, anchors = {0, 2, 4, 5}, order = {0, 2, 1, 3, 4};
  const numbers reward = {0, 1, 0.25, 0, 3};
  const double gamma = 0.5, omega = 0.75;
  const numbers to_go = {0.5, 1, 1, 1.5, 3}, total = {1, 3.25};
  rlhf::anchor_inputs<double> in;
  in.reward = reward;
  in.tasks = {rlhf::padded(1, 2)};
  in.anchors = {rlhf::packed(anchors), order.data()};
  numbers out(5, 99);
  const rlhf::anchor_groups centred{rlhf::group_advantage{.scale = rlhf::group_scale::none}, gamma, omega};
  REQUIRE(centred(backend, rlhf::packed(episodes), in, out));
  const double middle = (total[0] + total[1]) / 2;
  const numbers want = {total[0] - middle + omega * (to_go[0] - 0.75), total[0] - middle + omega * (to_go[1] - 1.25),
                        total[1] - middle + omega * (to_go[2] - 0.75), total[1] - middle + omega * (to_go[3] - 1.25),
                        total[1] - middle};
  for (std::size_t i = 0; i < 5; ++i) CHECK(out[i] == Approx(want[i]).epsilon(1e-14));

  // Padded, with garbage behind the shorter episode that stands in some group.
  const numbers padded = {0, 1, not_a_number, 0.25, 0, 3};
  const std::vector<std::uint8_t> mask = {1, 1, 0, 1, 1, 1};
  const std::vector<std::int64_t> padded_anchors = {0, 2, 5, 6}, padded_order = {0, 3, 1, 2, 4, 5};
  in.reward = padded;
  in.mask = mask;
  in.anchors = {rlhf::packed(padded_anchors), padded_order.data()};
  numbers again(6, 99);
  REQUIRE(centred(backend, rlhf::padded(2, 3), in, again));
  CHECK(test::is_plain_zero(again[2]));
  again.erase(again.begin() + 2);
  CHECK(again == out);

  // omega 0 is GRPO over the episodes.
  const auto grpo = run(rlhf::group_advantage{}, total);
  REQUIRE(
      rlhf::anchor_groups{rlhf::group_advantage{}, gamma, 0.0}(backend, rlhf::padded(2, 3), in, again = numbers(6)));
  CHECK((again[0] == grpo[0] && again[3] == grpo[1]));
}

TEST_CASE("a role's baseline follows its rewards") {
  rlhf::role_baseline role{.decay = 0.75};
  CHECK(role.advantage(1) == 0.75);
  CHECK(role.advantage(-1) == -1 - (0.75 * 0.25 - 0.25));
  const double before = role.value;
  CHECK(role.advantage(not_a_number) == 0);
  CHECK(role.value == before);
  for (int i = 0; i < 200; ++i) (void)role.advantage(3);
  CHECK(role.advantage(3) == Approx(0).margin(1e-12));
  CHECK(test::text(rlhf::role_baseline{.decay = 1.5}.check()) == "role_baseline: decay is 1.5, wants 0 <= decay <= 1");
}
