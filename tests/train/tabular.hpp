#pragma once
// Exact little models for the tests of the loops.

#include <cmath>
#include <map>
#include <vector>

#include "rlhf/policy/tabular.hpp"

namespace rlhf_test {

/// A value for every prefix, by squared error.
class tabular_critic {
 public:
  std::span<float> parameters() { return table_; }
  std::span<float> gradient() { return slope_; }
  explicit tabular_critic(std::int64_t vocabulary, std::int64_t length) : vocabulary_(vocabulary) {
    std::int64_t all = 0, level = 1;
    for (std::int64_t t = 0; t < length; ++t, level *= vocabulary) all += level;
    table_.assign(static_cast<std::size_t>(all), 0.0f);
    slope_ = table_;
  }
  void values(const rlhf::responses& batch, std::span<float> out) {
    cells_.clear();
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      std::int64_t prefix = 0;
      for (const auto token : batch.response(i)) {
        cells_.push_back(static_cast<std::size_t>(prefix));
        prefix = vocabulary_ * prefix + 1 + token;
      }
    }
    for (std::size_t t = 0; t < cells_.size(); ++t) out[t] = table_[cells_[t]];
  }
  void backward_values(std::span<const float> g) {
    for (std::size_t t = 0; t < cells_.size(); ++t) slope_[cells_[t]] += g[t];
  }

 private:
  std::int64_t vocabulary_;
  std::vector<float> table_, slope_;
  std::vector<std::size_t> cells_;
};

/// A score for every response, as a rule and as something that learns. What the prompt holds of a response counts.
class tabular_reward {
 public:
  explicit tabular_reward(std::int64_t vocabulary, std::int64_t length = 2) : vocabulary_(vocabulary) {
    std::size_t all = 1;
    for (std::int64_t t = 0; t < length; ++t) all *= static_cast<std::size_t>(vocabulary);
    table_.resize(all);
    slope_.resize(all);
  }
  std::span<float> parameters() { return table_; }
  std::span<float> gradient() { return slope_; }
  void rewards(const rlhf::responses& batch, std::span<float> out) {
    cells_.clear();
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      std::int64_t cell = 0;
      for (const auto token : batch.prompt(i).subspan(1)) cell = cell * vocabulary_ + token;
      for (const auto token : batch.response(i)) cell = cell * vocabulary_ + token;
      cells_.push_back(static_cast<std::size_t>(cell));
    }
    for (std::size_t i = 0; i < cells_.size(); ++i) out[i] = table_[cells_[i]];
  }
  void backward_rewards(std::span<const float> g) {
    for (std::size_t i = 0; i < cells_.size(); ++i) slope_[cells_[i]] += g[i];
  }
  [[nodiscard]] double at(std::size_t response) const { return static_cast<double>(table_[response]); }

 private:
  std::int64_t vocabulary_;
  std::vector<float> table_, slope_;
  std::vector<std::size_t> cells_;
};

/// All responses of some tokens to prompt 0, in the order of the reward's table.
inline rlhf::responses all_responses(std::int64_t vocabulary, std::int64_t length = 2) {
  rlhf::responses all;
  const std::int32_t prompt[] = {0};
  std::vector<std::int32_t> response(static_cast<std::size_t>(length), 0);
  for (std::size_t t = response.size();;) {
    all.add(prompt, response);
    for (t = response.size(); t > 0 && ++response[t - 1] == vocabulary; --t) response[t - 1] = 0;
    if (t == 0) return all;
  }
}

/// The probability of every response, exactly.
inline std::vector<double> distribution(rlhf::tabular_policy& policy) {
  const rlhf::responses all = all_responses(policy.vocabulary(), policy.length());
  std::vector<float> logp(static_cast<std::size_t>(all.response_tokens()));
  policy.log_probs(all, logp);
  std::vector<double> p;
  const auto length = static_cast<std::size_t>(policy.length());
  for (std::size_t i = 0; i < logp.size(); i += length) {
    double sum = 0;
    for (std::size_t t = 0; t < length; ++t) sum += static_cast<double>(logp[i + t]);
    p.push_back(std::exp(sum));
  }
  return p;
}

/// reference times e^(reward / beta), normalised: the optimum of reward less beta KL.
inline std::vector<double> tilted(std::vector<double> p, const tabular_reward& reward, double beta) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] *= std::exp(reward.at(i) / beta);
  for (double& x : p) x /= sum;
  return p;
}

inline double total_variation(const std::vector<double>& p, const std::vector<double>& q) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += std::abs(p[i] - q[i]) / 2;
  return sum;
}

}  // namespace rlhf_test
