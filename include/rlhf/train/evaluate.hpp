#pragma once
// How good a policy is: reward, KL and length on fresh samples, how often it wins, and the best-of-n frontier to compare with.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "rlhf/core/throw.hpp"
#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

struct evaluation {
  double reward = 0;            ///< mean score
  double reward_deviation = 0;  ///< standard deviation of the scores
  double kl = 0;                ///< mean of log pi - log pi_ref over the samples, nats per response
  double kl_error = 0;          ///< standard error of that mean
  std::int64_t tokens = 0;
  double length = 0;  ///< mean response tokens
};

namespace evaluate_detail {

struct spread_of {
  double mean = 0, deviation = 0;
};
[[nodiscard]] inline spread_of describe(const std::vector<double>& x) {
  spread_of s;
  for (const double v : x) s.mean += v;
  if (x.empty()) return s;
  s.mean /= static_cast<double>(x.size());
  for (const double v : x) s.deviation += (v - s.mean) * (v - s.mean);
  s.deviation = x.size() > 1 ? std::sqrt(s.deviation / static_cast<double>(x.size() - 1)) : 0;
  return s;
}

}  // namespace evaluate_detail

/// Samples `n` responses to each prompt and measures them. The KL is the sampled k1, unbiased, and may be slightly negative.
template <class Policy, scores_tokens Reference, scores_responses Reward>
  requires scores_tokens<Policy> && sampling_policy<Policy>
[[nodiscard]] evaluation evaluate(Policy& policy, Reference& reference, Reward& reward, const prompt_list& prompts,
                                  std::int64_t n, random_key key) {
  const responses batch = policy.sample(prompts, n, key);
  std::vector<float> logp(static_cast<std::size_t>(batch.response_tokens())), ref(logp.size()),
      score(static_cast<std::size_t>(batch.size()));
  policy.log_probs(batch, logp);
  reference.log_probs(batch, ref);
  reward.rewards(batch, score);
  std::vector<double> ratios, scores(score.begin(), score.end());
  const auto offsets = batch.response_offsets();
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    double sum = 0;
    for (auto t = static_cast<std::size_t>(offsets[static_cast<std::size_t>(i)]);
         t < static_cast<std::size_t>(offsets[static_cast<std::size_t>(i) + 1]); ++t)
      sum += static_cast<double>(logp[t]) - static_cast<double>(ref[t]);
    ratios.push_back(sum);
  }
  const auto s = evaluate_detail::describe(scores), k = evaluate_detail::describe(ratios);
  return {s.mean,
          s.deviation,
          k.mean,
          ratios.empty() ? 0 : k.deviation / std::sqrt(static_cast<double>(ratios.size())),
          batch.response_tokens(),
          batch.size() == 0 ? 0 : static_cast<double>(batch.response_tokens()) / static_cast<double>(batch.size())};
}

/// How often a policy beats another one.
struct win_rate {
  double rate = 0;   ///< mean probability that the first one's response is better
  double error = 0;  ///< its standard error
  std::int64_t comparisons = 0;
};

/// How often scores are higher than others, element by element: responses to the same prompts, by a reward. Equal ones count
/// half; of nothing the rate is 0. Sample the two sides with random numbers of their own: shared ones would give the policies
/// equal responses where they are equal. Throws rlhf::error where there are not as many, or one is NaN.
[[nodiscard]] inline win_rate compare_scores(std::span<const float> scores, std::span<const float> others) {
  if (scores.size() != others.size())
    throw error(remark::shape("compare_scores", "others", static_cast<std::int64_t>(others.size()),
                              static_cast<std::int64_t>(scores.size())));
  std::vector<double> won;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != scores[i] || others[i] != others[i])
      throw error(remark::argument("compare_scores", "a score", std::numeric_limits<double>::quiet_NaN(), "a number"));
    won.push_back(scores[i] > others[i] ? 1 : scores[i] == others[i] ? 0.5 : 0);
  }
  const auto found = evaluate_detail::describe(won);
  return {found.mean, won.empty() ? 0 : found.deviation / std::sqrt(static_cast<double>(won.size())),
          static_cast<std::int64_t>(won.size())};
}

/// Samples `n` responses of both policies to each prompt, with numbers of their own, and asks the judge about each pair.
template <sampling_policy First, sampling_policy Second, compares_responses Judge>
[[nodiscard]] win_rate compare_policies(First& first, Second& second, Judge& judge, const prompt_list& prompts,
                                        std::int64_t n, random_key key) {
  const responses a = first.sample(prompts, n, key);
  const responses b = second.sample(prompts, n, {key.seed, key.stream + (std::uint64_t{1} << 32)});
  std::vector<float> p(static_cast<std::size_t>(a.size()));
  judge.preferences(a, b, p);
  const auto found = evaluate_detail::describe(std::vector<double>(p.begin(), p.end()));
  return {found.mean, p.empty() ? 0 : found.deviation / std::sqrt(static_cast<double>(p.size())), a.size()};
}

/// A point of the best-of-n frontier: no training, n samples each time.
struct best_of_n_point {
  std::int64_t n = 1;
  double reward = 0;
  double kl = 0;  ///< log n - (n - 1) / n, the bound that is exact without ties (Beirami et al. 2024, arXiv 2401.01879)
};

/// The expected best of n among the given scores, for each n: every subset of n counted, in closed form
/// \f$ \sum_k s_{(k)} \binom{k-1}{n-1}/\binom{N}{n} \f$.
[[nodiscard]] inline std::vector<best_of_n_point> best_of_n(std::vector<float> scores,
                                                            const std::vector<std::int64_t>& sizes) {
  std::sort(scores.begin(), scores.end());
  const auto total = static_cast<double>(scores.size());
  std::vector<best_of_n_point> out;
  for (const std::int64_t n : sizes) {
    if (n < 1 || static_cast<std::size_t>(n) > scores.size()) continue;
    const auto count = static_cast<double>(n);
    double reward = 0, weight = count / total;  // of the largest: n / N
    for (std::size_t k = scores.size(); k >= 1 && weight > 0; --k) {
      reward += weight * static_cast<double>(scores[k - 1]);
      const auto rank = static_cast<double>(k);
      if (rank <= count) break;
      weight *= (rank - count) / (rank - 1);
    }
    out.push_back({n, reward, std::log(count) - (count - 1) / count});
  }
  return out;
}

}  // namespace rlhf::inline v1
