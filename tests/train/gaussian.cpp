// The loops on a policy that is no language: Gaussian moves in the plane towards a point, where the optimum is a linear
// regulator's.

#include "rlhf/policy/gaussian.hpp"

#include <cmath>
#include <map>

#include "rlhf/algorithm/rloo.hpp"
#include "rlhf/train/group.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/per_prompt_reward.hpp"
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

/// Moves that somebody logged: from starts like a policy's, to points around the middle that no policy of the tests makes.
responses logged_moves(std::uint32_t n, std::size_t steps) {
  const random_numbers numbers({6, 6});
  responses out;
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto draw = [&](std::uint32_t at, double scale) {
      return token_of(static_cast<float>(scale * numbers.normal({i, 0, at})));
    };
    std::vector<std::int32_t> moves;
    for (std::uint32_t t = 0; t < 2 * steps; ++t) moves.push_back(draw(2 + t, 1.2));
    out.add(std::vector<std::int32_t>{0, draw(0, 1), draw(1, 1)}, moves);
  }
  return out;
}
/// A quarter of the data each iteration, in turn; the prompts of it hold the starts.
responses rows_of(const responses& data, std::int64_t i) {
  std::vector<std::int64_t> rows;
  for (std::int64_t k = 0; k < 1024; ++k) rows.push_back((1024 * i + k) % data.size());
  return data.select(rows);
}
prompt_list starts_of(const responses& data, std::int64_t i) {
  const responses rows = rows_of(data, i);
  prompt_list out;
  for (std::int64_t k = 0; k < rows.size(); ++k) out.emplace_back(rows.prompt(k).begin(), rows.prompt(k).end());
  return out;
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
  SECTION("REBEL as RLCM writes it, kappa (h - h') against the rewards: kappa = 1 / eta") {
    const double kappa = deviations.size() == 1 ? 0.5 : 2;
    auto update = falling(0.02, 800);
    train_rebel(cpu, {.eta = 1 / kappa, .kl_coefficient = beta, .paper_scaling = true}, policy, reference, reward,
                update, ask, {.iterations = 200, .epochs = 4, .minibatch = 1024, .key = {1, 100}});
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

TEST_CASE("REBEL against logged moves finds the best denoiser where the reward is linear") {
  // Then log pi / pi_ref of the best is reward / beta and a constant, which the means can be: A stays, b moves by s^2 w / beta.
  // With a reward that they cannot fit, as the quadratic one above, what is found depends on where the partners come from.
  const std::vector<double> deviations = GENERATE(std::vector<double>{0.5}, std::vector<double>{0.6, 0.4});
  const double eta = deviations.size() == 1 ? 1 : 0.5;
  CAPTURE(deviations.size(), eta);
  struct height {
    void rewards(const responses& batch, std::span<float> out) const {
      for (std::int64_t i = 0; i < batch.size(); ++i) {
        const auto moves = batch.response(i);
        out[static_cast<std::size_t>(i)] =
            0.3f * number_of(moves[moves.size() - 2]) - 0.6f * number_of(moves[moves.size() - 1]);
      }
    }
  } reward;
  reference_backend cpu;
  gaussian_policy reference(deviations), policy = reference;
  const responses data = logged_moves(4096, deviations.size());
  auto update = falling(0.02, 400);
  std::int64_t tokens = 0;
  train_rebel(
      cpu, {.eta = eta, .kl_coefficient = beta, .paper_scaling = true}, policy, reference, reward, update,
      [&](std::int64_t i) { return starts_of(data, i); },
      {.iterations = 100, .epochs = 4, .minibatch = 1024, .key = {1, 100}},
      [&](const iteration& now) { tokens = now.tokens; },
      [&](std::int64_t i, const prompt_list&) { return rows_of(data, i); });
  std::vector<double> goal_of(6 * deviations.size());
  for (std::size_t k = 0; k < deviations.size(); ++k) {
    const double s2 = deviations[k] * deviations[k];
    goal_of[6 * k] = goal_of[6 * k + 3] = 1;
    goal_of[6 * k + 4] = 0.3 * s2 / beta;
    goal_of[6 * k + 5] = -0.6 * s2 / beta;
  }
  CHECK(tokens == 100 * 1024 * 2 * static_cast<std::int64_t>(deviations.size()));  // the policy's own
  CHECK(distance(policy, goal_of, deviations) < 1e-2);
  CHECK(distance(reference, goal_of, deviations) > 0.3);
}

TEST_CASE("kappa and eta scale REBEL's loss and nothing else") {
  reference_backend cpu;
  const std::vector<double> deviations = {0.6, 0.4};
  gaussian_policy reference(deviations);
  for (float& x : reference.parameters()) x += 0.1f;
  nearness reward;
  const auto first_loss = [&](const rebel_regression& algorithm, gaussian_policy& policy) {
    parameter_update<> update{{0}, {{.weight_decay = 0}}, 1e9};
    double loss = 0;
    train_rebel(
        cpu, algorithm, policy, reference, reward, update, [](std::int64_t) { return prompts(64); },
        {.iterations = 1, .minibatch = 64, .key = {1, 100}},
        [&](const iteration& now) { loss = (*now.metrics)["loss/policy_avg"]; });
    return loss;
  };
  gaussian_policy policy = reference;
  // Nothing has moved, so the loss is of the rewards alone: eta^2 (r - r')^2, and with the paper's scale (r - r')^2.
  const double plain = first_loss({.eta = 1, .kl_coefficient = 0}, policy);
  CHECK(plain > 0.1);
  CHECK(first_loss({.eta = 3, .kl_coefficient = 0}, policy) == Approx(9 * plain).epsilon(1e-5));
  CHECK(first_loss({.eta = 3, .kl_coefficient = 0, .paper_scaling = true}, policy) == Approx(plain).epsilon(1e-5));
}

TEST_CASE("REBEL in RLCM's form, rewards a z-score of their prompt, goes on from what it saved with the same bits") {
  reference_backend cpu;
  const std::vector<double> deviations = {0.6, 0.4};
  gaussian_policy reference(deviations);
  nearness reward;
  const auto ask = [](std::int64_t) {  // two prompts, each a number; starts are drawn
    prompt_list out(256, {0});
    for (std::size_t i = 0; i < out.size(); i += 2) out[i] = {1};
    return out;
  };
  const rebel_regression algorithm{.eta = 1, .kl_coefficient = 0, .paper_scaling = true};
  const auto ends = [&](gaussian_policy& policy) {
    const responses drawn = policy.sample(prompts(4000), 1, {8, 8});
    std::vector<float> score(4000);
    reward.rewards(drawn, score);
    double sum = 0;
    for (const float s : score) sum += static_cast<double>(s);
    return sum / 4000;
  };
  const auto run = [&](std::int64_t stop) {
    gaussian_policy policy = reference;
    auto update = falling(0.02, 200);
    std::map<std::vector<std::int32_t>, std::vector<float>> saved;
    for (const std::int64_t done : {std::int64_t{0}, stop}) {
      per_prompt_reward scored(reward, {.prompt_tokens = 1});
      scored.seen = saved;
      train_rebel(cpu, algorithm, policy, reference, scored, update, ask,
                  {.iterations = done == 0 ? stop : 100, .minibatch = 128, .key = {1, 100}, .done = done});
      saved = scored.seen;
    }
    CHECK(saved.size() == 2);
    CHECK(saved.at({0}).size() == 32);
    CHECK(ends(policy) > -0.4);
    return bits(policy.parameters());
  };
  CHECK(ends(reference) < -2);
  CHECK(run(100) == run(37));
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
