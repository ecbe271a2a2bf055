// The loops on a policy that is no language: Gaussian moves in the plane towards a point, where the optimum is a linear
// regulator's.

#include "rlhf/policy/gaussian.hpp"

#include <cmath>

#include "rlhf/algorithm/rloo.hpp"
#include "rlhf/train/group.hpp"
#include "rlhf/train/on_policy.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.2, goal[] = {1.5, -1};

/// The nearer the last point is to the goal the better.
struct nearness {
  void rewards(const responses& batch, std::span<float> out) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const auto moves = batch.response(i);
      double squares = 0;
      for (const std::size_t axis : {std::size_t{0}, std::size_t{1}})
        squares += std::pow(static_cast<double>(number_of(moves[moves.size() - 2 + axis])) - goal[axis], 2);
      out[static_cast<std::size_t>(i)] = static_cast<float>(-squares / 2);
    }
  }
};

/// Values quadratic in the point before a move.
class quadratic_critic {
 public:
  explicit quadratic_critic(std::size_t steps) : weights_(6 * steps), slopes_(6 * steps) {}
  std::span<float> parameters() { return weights_; }
  std::span<float> gradient() { return slopes_; }
  void values(const responses& batch, std::span<float> out) {
    features_.clear();
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      auto point = batch.prompt(i).subspan(1);
      for (std::size_t t = 0; t < batch.response(i).size(); ++t) {
        if (t > 0 && t % 2 == 0) point = batch.response(i).subspan(t - 2, 2);
        const float x = number_of(point[0]), y = number_of(point[1]);
        features_.push_back({t / 2, {1, x, y, x * x, x * y, y * y}});
      }
    }
    for (std::size_t t = 0; t < features_.size(); ++t) {
      out[t] = 0;
      for (std::size_t k = 0; k < 6; ++k) out[t] += weights_[6 * features_[t].first + k] * features_[t].second[k];
    }
  }
  void backward_values(std::span<const float> g) {
    for (std::size_t t = 0; t < features_.size(); ++t)
      for (std::size_t k = 0; k < 6; ++k) slopes_[6 * features_[t].first + k] += g[t] * features_[t].second[k];
  }

 private:
  std::vector<float> weights_, slopes_;
  std::vector<std::pair<std::size_t, std::array<float, 6>>> features_;
};

/// The best policy: with value -q |x - goal|^2 / 2 behind a step, its mean is (q goal + r x) / (q + r), r = beta / s^2.
std::vector<double> best(const std::vector<double>& deviations) {
  std::vector<double> out(6 * deviations.size());
  double q = 1;
  for (std::size_t k = deviations.size(); k-- > 0;) {
    const double r = beta / (deviations[k] * deviations[k]);
    out[6 * k] = out[6 * k + 3] = r / (q + r);
    for (const std::size_t axis : {std::size_t{0}, std::size_t{1}}) out[6 * k + 4 + axis] = q * goal[axis] / (q + r);
    q = q * r / (q + r);
  }
  return out;
}

/// The mean total variation between the moves of two policies of the same deviations, from starts like the first's.
double distance(const gaussian_policy& policy, const std::vector<double>& other,
                const std::vector<double>& deviations) {
  const responses drawn = policy.sample(prompts(2000), 1, {9, 9});
  double sum = 0;
  for (std::int64_t i = 0; i < drawn.size(); ++i) {
    auto point = drawn.prompt(i).subspan(1);
    for (std::size_t k = 0; k < deviations.size(); ++k) {
      const double x[] = {static_cast<double>(number_of(point[0])), static_cast<double>(number_of(point[1]))};
      double squares = 0;
      for (const int axis : {0, 1}) {
        const double* const p = other.data() + 6 * k;
        squares += std::pow(policy.mean(k, axis, x) - (p[2 * axis] * x[0] + p[2 * axis + 1] * x[1] + p[4 + axis]), 2);
      }
      sum += std::erf(std::sqrt(squares) / (2 * deviations[k] * std::sqrt(2.0)));
      point = drawn.response(i).subspan(2 * k, 2);
    }
  }
  return sum / static_cast<double>(drawn.size() * static_cast<std::int64_t>(deviations.size()));
}

parameter_update<cosine_schedule> falling(double rate, std::int64_t total) {
  return {{.rate = rate, .total = total}, {{.weight_decay = 0}}, 1e9};
}

}  // namespace

TEST_CASE("the log-probabilities of moves are normal densities, their slopes exact") {
  gaussian_policy policy({0.5, 2});
  const random_numbers numbers({5, 5});
  for (std::uint32_t i = 0; i < 12; ++i) policy.parameters()[i] = static_cast<float>(numbers.normal({i}));
  const responses batch = policy.sample(prompts(3), 2, {1, 1});
  CHECK(batch.prompt(0)[1] == batch.prompt(1)[1]);  // a prompt's responses start from one point
  CHECK(batch.prompt(0)[1] != batch.prompt(2)[1]);
  std::vector<float> logp(24), moved(24), weight(24);
  policy.log_probs(batch, logp);
  const double x[] = {static_cast<double>(number_of(batch.prompt(0)[1])),
                      static_cast<double>(number_of(batch.prompt(0)[2]))};
  const double u = (static_cast<double>(number_of(batch.response(0)[1])) - policy.mean(0, 1, x)) / 0.5;
  CHECK(logp[1] == Approx(-u * u / 2 - std::log(0.5 * std::sqrt(2 * 3.14159265358979))).epsilon(1e-5));

  for (std::size_t t = 0; t < 24; ++t) weight[t] = 0.1f * static_cast<float>(t % 7) - 0.2f;
  policy.backward(weight);
  const auto total = [&] {
    policy.log_probs(batch, moved);
    double sum = 0;
    for (std::size_t t = 0; t < 24; ++t) sum += static_cast<double>(weight[t]) * static_cast<double>(moved[t]);
    return sum;
  };
  for (std::size_t i = 0; i < 12; ++i) {
    const float kept = policy.parameters()[i];
    policy.parameters()[i] = kept + 1e-2f;
    const double up = total();
    policy.parameters()[i] = kept - 1e-2f;
    const double down = total();
    policy.parameters()[i] = kept;
    CHECK(static_cast<double>(policy.gradient()[i]) == Approx((up - down) / 2e-2).epsilon(1e-2).margin(1e-2));
  }
}

TEST_CASE("PPO, REBEL and RLOO teach a few-step denoiser to land where it should") {
  const std::vector<double> deviations = GENERATE(std::vector<double>{0.5}, std::vector<double>{0.6, 0.4});
  CAPTURE(deviations.size());
  reference_backend cpu;
  gaussian_policy reference(deviations), policy = reference;
  nearness reward;
  const auto ask = [](std::int64_t) { return prompts(1024); };
  SECTION("PPO") {
    quadratic_critic critic(deviations.size());
    ppo algorithm;
    algorithm.reward.coefficient = beta;
    algorithm.estimator.lambda = 1;
    algorithm.whiten_advantages = false;
    algorithm.critic.clip = infinity;
    auto update = falling(0.02, 800), critic_update = falling(0.05, 800);
    train_ppo(cpu, algorithm, policy, critic, reference, reward, update, critic_update, ask,
              {.iterations = 400, .epochs = 1, .minibatch = 512, .key = {1, 100}});
  }
  SECTION("REBEL") {
    auto update = falling(0.02, 800);
    train_rebel(cpu, {.eta = 1, .kl_coefficient = beta}, policy, reference, reward, update, ask,
                {.iterations = 200, .epochs = 4, .minibatch = 1024, .key = {1, 100}});
  }
  SECTION("RLOO") {
    rloo algorithm;
    algorithm.reward.coefficient = beta;
    auto update = falling(0.02, 400);
    train_group(cpu, algorithm, policy, reference, reward, update, ask,
                {.iterations = 400, .samples = 2, .minibatch = 2048, .key = {1, 100}});
  }
  CHECK(distance(policy, best(deviations), deviations) < 1e-2);
  CHECK(distance(reference, best(deviations), deviations) > 0.3);
}

TEST_CASE("a denoiser refuses what is not a trajectory") {
  CHECK_THROWS_WITH(gaussian_policy({0.5, 0}),
                    "gaussian_policy: a standard deviation is 0.000000, wants a finite number above 0");
  gaussian_policy policy({1});
  std::vector<float> logp(2);
  responses batch;
  const std::int32_t prompt[] = {0}, moves[] = {0, 0};
  batch.add(prompt, moves);
  CHECK_THROWS_WITH(policy.log_probs(batch, logp),
                    "gaussian_policy: a prompt has 1 tokens, wants a number and the two coordinates of a start");
}
