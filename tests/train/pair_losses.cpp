// Every pair loss through the one offline loop: its value and slopes against the formula written out again and central
// differences, and where a long run ends against the closed form.

#include <algorithm>
#include <cmath>
#include <utility>

#include "rlhf/algorithm/aot.hpp"
#include "rlhf/algorithm/kto_pair.hpp"
#include "rlhf/algorithm/wpo.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/train/preference.hpp"
#include "support/catch.hpp"
#include "train/exact_pairs.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

/// A policy that remembers what it was asked and told.
struct spy {
  tabular_policy of;
  responses asked = {};
  std::vector<float> slope = {};

  std::span<float> parameters() { return of.parameters(); }
  std::span<float> gradient() { return of.gradient(); }
  void log_probs(const responses& r, std::span<float> out) {
    asked = r;
    of.log_probs(r, out);
  }
  void backward(std::span<const float> g) {
    slope.assign(g.begin(), g.end());
    of.backward(g);
  }
  void log_square_sums(const responses& r, std::span<float> out) const { of.log_square_sums(r, out); }
};

struct last_loss {
  double* loss;
  void operator()(const progress& p) const { *loss = (*p.metrics)["loss"]; }
};

struct little_world : world {
  little_world() : world(3, 2) {}
  responses all = all_responses(3);
  /// Something else than the reference.
  [[nodiscard]] spy other(std::uint64_t seed) {
    spy policy{reference};
    const random_numbers numbers({seed, 5});
    std::uint32_t i = 0;
    for (float& x : policy.parameters()) x += static_cast<float>(numbers.normal({i++}) * 0.4);
    return policy;
  }
  template <class Loss>
  double train(spy& policy, const Loss& loss, const preference_pairs& pairs, double rate, std::int64_t epochs) {
    auto update = steps_of(rate);
    double found = 0;
    train_preference(cpu, policy, reference, update, pairs, {.batch = pairs.chosen.size(), .epochs = epochs}, loss,
                     last_loss{&found});
    return found;
  }
  /// Where a long run from the reference ends.
  template <class Loss>
  std::vector<double> learned(const Loss& loss, const preference_pairs& pairs, std::int64_t epochs = 600) {
    spy policy{reference};
    train(policy, loss, pairs, 0.05, epochs);
    return distribution(policy.of);
  }
};

/// A pair as a formula sees it.
struct seen_pair {
  std::size_t i = 0, j = 0;
  double c = 0, r = 0, ref_c = 0, ref_r = 0, weight = 1;  // weight: of WPO
  [[nodiscard]] double margin() const { return c - ref_c - (r - ref_r); }
};

double total(tabular_policy& policy, const responses& all, std::int64_t row) {
  const responses one = all.select(std::vector{row});
  std::vector<float> logp(2);
  policy.log_probs(one, logp);
  return static_cast<double>(logp[0]) + static_cast<double>(logp[1]);
}

/// exp mean_t [log pi(y_t) - log sum_v pi(v)^2].
double likeness(tabular_policy& policy, const responses& all, std::int64_t row) {
  const auto response = all.response(row);
  const std::span<const float> table = policy.parameters();
  double sum = 0;
  for (std::size_t t = 0, at = 0; t < 2; ++t) {
    double mass = 0, squares = 0;
    for (std::size_t k = 0; k < 3; ++k) mass += std::exp(static_cast<double>(table[3 * at + k]));
    for (std::size_t k = 0; k < 3; ++k) squares += std::pow(std::exp(static_cast<double>(table[3 * at + k])) / mass, 2);
    const auto token = static_cast<std::size_t>(response[t]);
    sum += std::log(std::exp(static_cast<double>(table[3 * at + token])) / mass / squares);
    at = 3 * at + 1 + token;
  }
  return std::exp(sum / 2);
}

const std::vector<two> some{{0, 4}, {5, 1}, {2, 8}, {7, 3}, {6, 0}, {1, 2}};

/// The loss of one update and its slopes in the log-probabilities, against `formula` of all pairs.
template <class Loss, class Formula>
void compare(const Loss& loss, const preference_pairs& pairs, Formula&& formula) {
  little_world w;
  spy policy = w.other(1);
  const double found = w.train(policy, loss, pairs, 0, 1);
  const std::int64_t n = policy.asked.size() / 2;
  std::vector<seen_pair> at;
  for (std::int64_t k = 0; k < n; ++k) {
    const auto number = [&](std::int64_t row) {
      return 3 * policy.asked.response(row)[0] + policy.asked.response(row)[1];
    };
    const std::int64_t i = number(k), j = number(n + k);
    at.push_back({.i = static_cast<std::size_t>(i),
                  .j = static_cast<std::size_t>(j),
                  .c = total(policy.of, w.all, i),
                  .r = total(policy.of, w.all, j),
                  .ref_c = total(w.reference, w.all, i),
                  .ref_r = total(w.reference, w.all, j),
                  .weight = likeness(policy.of, w.all, i) * likeness(policy.of, w.all, j)});
  }
  CHECK(found == Approx(formula(at)).epsilon(1e-5));
  for (std::size_t k = 0; k < at.size(); ++k)
    for (const int side : {0, 1}) {
      CAPTURE(k, side);
      double& x = side == 0 ? at[k].c : at[k].r;
      const double before = x, h = 1e-5;
      x = before + h;
      const double up = formula(at);
      x = before - h;
      const double slope = (up - formula(at)) / (2 * h);
      x = before;
      const std::size_t first = 2 * (k + (side == 0 ? 0 : at.size()));
      CHECK(static_cast<double>(policy.slope[first]) == Approx(slope).epsilon(1e-4).margin(1e-6));
      CHECK(policy.slope[first] == policy.slope[first + 1]);
    }
}

/// The mean of `f` over the pairs.
template <class F>
auto mean_of(F&& f) {
  return [f](const std::vector<seen_pair>& pairs) {
    double sum = 0;
    for (const seen_pair& p : pairs) sum += f(p) / static_cast<double>(pairs.size());
    return sum;
  };
}

/// A number of a response, of no meaning.
double odd(std::size_t i) { return 0.3 * static_cast<double>(i % 4) - 0.2 * static_cast<double>(i % 3); }

double softplus_of(double x) { return std::log1p(std::exp(x)); }

}  // namespace

TEST_CASE("DPO of votes and weights") {
  const auto p = [](std::size_t i, std::size_t j) { return 0.1 + 0.1 * static_cast<double>((i + j) % 8); };
  const auto weight = [](std::size_t i, std::size_t j) { return 0.5 + 0.25 * static_cast<double>((i + 2 * j) % 5); };
  little_world w;
  preference_pairs pairs = pairs_of(some, w.all);
  pairs.probability = numbers(some, p);
  pairs.weight = numbers(some, weight);
  compare(dpo{.beta = beta}, pairs, mean_of([&](const seen_pair& x) {
            const double u = beta * x.margin(), share = p(x.i, x.j);
            return weight(x.i, x.j) * (share * softplus_of(-u) + (1 - share) * softplus_of(u));
          }));
}

TEST_CASE("DPO with an offset reads the margins") {
  little_world w;
  preference_pairs pairs = pairs_of(some, w.all);
  const auto offset = [](std::size_t i, std::size_t j) { return odd(i) - odd(j); };
  pairs.margin = numbers(some, offset);
  const preference_loss<dpo_offset> loss{{.beta = beta}};
  compare(loss, pairs, mean_of([&](const seen_pair& x) { return softplus_of(offset(x.i, x.j) - beta * x.margin()); }));

  // Both orders by their chance: the margin that is learned is the reward's and the offset's.
  std::vector<two> both = every_two(w, 9);
  for (std::size_t k = 0, n = both.size(); k < n; ++k) both.push_back({both[k].j, both[k].i});
  pairs = pairs_of(both, w.all);
  pairs.weight = numbers(both, [&](std::size_t i, std::size_t j) { return wins(w, i, j); });
  pairs.margin = numbers(both, offset);
  std::vector<double> h;
  for (std::size_t i = 0; i < 9; ++i) h.push_back((w.reward.at(i) + odd(i)) / beta);
  CHECK(total_variation(w.learned(loss, pairs), tilted_by(distribution(w.reference), h)) < 2e-3);
}

TEST_CASE("DPO with a cap ends at half the cap") {
  little_world w;
  preference_pairs pairs = pairs_of(some, w.all);
  const auto cap = [](std::size_t i, std::size_t j) { return 0.4 + odd(i) * odd(i) + std::abs(odd(j)); };
  pairs.margin = numbers(some, cap);
  const preference_loss<pcrm_dpo> loss{{.beta = beta}};
  compare(loss, pairs, mean_of([&](const seen_pair& x) {
            const double u = beta * x.margin();
            return softplus_of(-u) + softplus_of(u - cap(x.i, x.j));
          }));

  const std::vector<two> all = every_two(w, 9);
  pairs = pairs_of(all, w.all);
  pairs.margin = numbers(all, [&](std::size_t i, std::size_t j) { return 2 * (w.reward.at(i) - w.reward.at(j)); });
  CHECK(total_variation(w.learned(loss, pairs), w.best(beta)) < 2e-3);
}

TEST_CASE("losses of rewards: the margin that the rewards say") {
  little_world w;
  const std::vector<two> all = every_two(w, 9);
  const auto rewarded = [&](const std::vector<two>& which, auto&& reward) {
    preference_pairs pairs = pairs_of(which, w.all);
    pairs.chosen_reward = numbers(which, [&](std::size_t i, std::size_t) { return reward(i); });
    pairs.rejected_reward = numbers(which, [&](std::size_t, std::size_t j) { return reward(j); });
    return pairs;
  };
  const auto table = [&](std::size_t i) { return w.reward.at(i); };
  SECTION("reward-aware DPO") {
    using distance = reward_aware_dpo::distance;
    const auto loss = [](distance how) {
      return preference_loss<reward_aware_dpo>{{.beta = beta, .eta = 2, .measure = how}};
    };
    compare(loss(distance::backward_kl), rewarded(some, odd), mean_of([](const seen_pair& x) {
              const double p = sigmoid(2 * (odd(x.i) - odd(x.j))), q = sigmoid(beta * x.margin());
              return p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
            }));
    for (const distance how : {distance::backward_kl, distance::forward_kl, distance::square})
      CHECK(total_variation(w.learned(loss(how), rewarded(all, table)), w.best(beta / 2)) < 2e-3);
  }
  SECTION("REBEL") {
    const preference_loss<rebel> loss{{.eta = 2}};
    compare(loss, rewarded(some, odd),
            mean_of([](const seen_pair& x) { return std::pow(x.margin() - 2 * (odd(x.i) - odd(x.j)), 2); }));
    CHECK(total_variation(w.learned(loss, rewarded(all, table)), w.best(0.5)) < 2e-3);
  }
  SECTION("SPPO") {
    const preference_loss<sppo> loss{{.beta = beta}};
    compare(loss, rewarded(some, odd), mean_of([](const seen_pair& x) {
              const double a = x.c - x.ref_c - (odd(x.i) - 0.5) / beta, b = x.r - x.ref_r - (odd(x.j) - 0.5) / beta;
              return (a * a + b * b) / 2;
            }));
    // Targets that a normalised policy can meet.
    const double log_z = w.log_normaliser(1);
    const auto target = [&](std::size_t i) { return 0.5 + beta * (w.reward.at(i) - log_z); };
    CHECK(total_variation(w.learned(loss, rewarded(all, target)), w.best(1)) < 2e-3);
  }
}

TEST_CASE("INPO reads the last iterate, and its expectation over the votes has a closed form") {
  constexpr double tau = 0.2, step = 0.5, share = tau / step;
  little_world w;
  spy last = w.other(9);
  std::vector<double> previous, reference;
  for (std::int64_t i = 0; i < 9; ++i) {
    previous.push_back(total(last.of, w.all, i));
    reference.push_back(total(w.reference, w.all, i));
  }
  const auto pairs = [&](const std::vector<two>& which) {
    preference_pairs out = pairs_of(which, w.all);
    out.previous_chosen = numbers(which, [&](std::size_t i, std::size_t) { return previous[i]; });
    out.previous_rejected = numbers(which, [&](std::size_t, std::size_t j) { return previous[j]; });
    out.probability = numbers(which, [&](std::size_t i, std::size_t j) { return wins(w, i, j); });
    return out;
  };
  const preference_loss<inpo> loss{{.tau = tau, .inverse_step = step}};
  compare(loss, pairs(some), mean_of([&](const seen_pair& x) {
            const double g = x.c - x.r - share * (x.ref_c - x.ref_r) - (1 - share) * (previous[x.i] - previous[x.j]);
            const double p = wins(w, x.i, x.j), target = 1 / (2 * step);
            return p * std::pow(g - target, 2) + (1 - p) * std::pow(-g - target, 2);
          }));
  // Least squares over all pairs: the mean of what each asks for.
  std::vector<double> h, one(9, 1.0);
  for (std::size_t i = 0; i < 9; ++i) {
    double won = 0;
    for (std::size_t j = 0; j < 9; ++j) won += wins(w, i, j) / 9;
    h.push_back(share * reference[i] + (1 - share) * previous[i] + won / step);
  }
  CHECK(total_variation(w.learned(loss, pairs(every_two(w, 9))), tilted_by(one, h)) < 2e-3);
}

TEST_CASE("AOT lifts the sorted margins") {
  little_world w;
  const preference_pairs pairs = pairs_of(some, w.all);
  const auto sorted = [](const std::vector<seen_pair>& at, bool reference) {
    std::vector<double> out;
    for (const seen_pair& x : at) out.push_back(reference ? x.ref_c - x.ref_r : x.c - x.r);
    std::sort(out.begin(), out.end());
    return out;
  };
  const aot<ipo_sum> loss{{.beta = 1}, true};
  compare(loss, pairs, [&](const std::vector<seen_pair>& at) {
    const std::vector<double> u = sorted(at, false), v = sorted(at, true);
    double sum = 0;
    for (std::size_t k = 0; k < u.size(); ++k) sum += std::pow(u[k] - v[k] - 0.5, 2) / static_cast<double>(u.size());
    return sum;
  });
  const std::vector<two> apart{{0, 1}, {2, 3}, {4, 5}, {6, 7}};
  const std::vector<double> end = w.learned(loss, pairs_of(apart, w.all)), start = distribution(w.reference);
  std::vector<double> u, v;
  for (const two& t : apart) {
    u.push_back(std::log(end[t.i] / end[t.j]));
    v.push_back(std::log(start[t.i] / start[t.j]));
  }
  std::sort(u.begin(), u.end());
  std::sort(v.begin(), v.end());
  for (std::size_t k = 0; k < 4; ++k) CHECK(u[k] - v[k] == Approx(0.5).margin(1e-2));
}

TEST_CASE("KTO on pairs compares each side with the other one's mean") {
  little_world w;
  compare(kto_pair{.beta = beta}, pairs_of(some, w.all), [](const std::vector<seen_pair>& at) {
    const auto n = static_cast<double>(at.size());
    double chosen = 0, rejected = 0, sum = 0;
    for (const seen_pair& x : at) {
      chosen += (x.c - x.ref_c) / n;
      rejected += (x.r - x.ref_r) / n;
    }
    for (const seen_pair& x : at)
      sum += (sigmoid(beta * (std::max(0.0, rejected) - (x.c - x.ref_c))) +
              sigmoid(beta * (x.r - x.ref_r - std::max(0.0, chosen)))) /
             (2 * n);
    return sum;
  });
  // Its sigmoids are monotone: the optimum is at the edge, all mass on what is chosen.
  const std::vector<two> apart{{0, 1}, {2, 3}, {4, 5}, {6, 7}};
  const std::vector<double> end = w.learned(kto_pair{.beta = beta}, pairs_of(apart, w.all));
  for (const two& t : apart) CHECK(end[t.j] < 0.01);
}

TEST_CASE("WPO weighs by the policy of the moment, which leaves DPO's optimum where it is") {
  little_world w;
  const wpo<dpo> loss{{.beta = beta}};
  preference_pairs pairs = pairs_of(some, w.all);
  compare(loss, pairs, mean_of([](const seen_pair& x) { return x.weight * softplus_of(-beta * x.margin()); }));
  const auto weight = [](std::size_t i, std::size_t) { return 1 + 0.5 * static_cast<double>(i); };
  pairs.weight = numbers(some, weight);
  compare(loss, pairs,
          mean_of([&](const seen_pair& x) { return x.weight * weight(x.i, x.j) * softplus_of(-beta * x.margin()); }));
  const std::vector<two> all = every_two(w, 9);
  pairs = pairs_of(all, w.all);
  pairs.probability = numbers(all, [&](std::size_t i, std::size_t j) { return wins(w, i, j); });
  CHECK(total_variation(w.learned(loss, pairs), w.best(beta)) < 2e-3);
}
