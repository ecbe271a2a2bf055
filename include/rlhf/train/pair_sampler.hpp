#pragma once
// Which two responses to a prompt are compared. A pair sampler is a struct with a call operator; write another like these.
//
//   sampler(policy, reference, judge, prompts, key)  ->  response_pairs, one pair for each prompt

#include <algorithm>
#include <utility>
#include <vector>

#include "rlhf/core/throw.hpp"
#include "rlhf/objective/sampling.hpp"
#include "rlhf/policy/judge.hpp"
#include "rlhf/train/answers.hpp"

namespace rlhf::inline v1 {

/// Two responses to each prompt; nobody has said yet which one is better.
struct response_pairs {
  responses first;
  responses second;
  std::int64_t passed_over = 0;  ///< response tokens that were sampled to choose from, and not taken
  /// Responses that another one than the policy drew: the first ones are numbers 0 to n - 1, the second ones n to 2 n - 1.
  std::vector<std::int64_t> foreign = {};
  std::int64_t asked = 0;  ///< scores or comparisons that the judge gave so that these two could be chosen
};

namespace pair_sampler_detail {

/// A stream of its own for each of the draws of an iteration.
[[nodiscard]] inline random_key draw(random_key key, std::uint64_t k) { return {key.seed, key.stream + (k << 32)}; }

/// Of groups of n scored responses the best and another one: the worst, or one drawn from the rest.
[[nodiscard]] inline response_pairs best_and(const responses& all, const std::vector<double>& score, std::int64_t n,
                                             bool worst, random_key key) {
  const random_numbers numbers(key);
  response_pairs out;
  for (std::int64_t g = 0; g * n < all.size(); ++g) {
    const auto begin = score.begin() + g * n, end = begin + n;
    const std::int64_t best = std::max_element(begin, end) - begin;
    std::int64_t other = std::min_element(begin, end) - begin;
    if (!worst || other == best) {
      const auto any = static_cast<std::int64_t>(
          numbers.integer(static_cast<std::uint32_t>(n - 1), {.prompt = static_cast<std::uint32_t>(g)}));
      other = any < best ? any : any + 1;
    }
    out.first.add(all, g * n + best);
    out.second.add(all, g * n + other);
  }
  out.passed_over = all.response_tokens() - out.first.response_tokens() - out.second.response_tokens();
  return out;
}

/// Each response's mean probability of beating the others of its group. Throws rlhf::error.
template <class Judge>
[[nodiscard]] std::vector<double> win_rates(Judge& judge, const responses& all, std::int64_t n) {
  responses a, b;
  for (std::int64_t i = 0; i < all.size(); ++i)
    for (std::int64_t j = i + 1; j < (i / n + 1) * n; ++j) {
      a.add(all, i);
      b.add(all, j);
    }
  const std::vector<float> p = ask_preferences("sample_max_min", judge, a, b);
  std::vector<double> rate(static_cast<std::size_t>(all.size()));
  std::size_t k = 0;
  for (std::int64_t i = 0; i < all.size(); ++i)
    for (std::int64_t j = i + 1; j < (i / n + 1) * n; ++j, ++k) {
      rate[static_cast<std::size_t>(i)] += static_cast<double>(p[k]);
      rate[static_cast<std::size_t>(j)] += 1 - static_cast<double>(p[k]);
    }
  return rate;
}

inline void check_size(const char* sampler, const char* argument, std::int64_t n) {
  if (n < 2) throw error(remark::argument(sampler, argument, static_cast<double>(n), "2 or more"));
}

}  // namespace pair_sampler_detail

/// Both from the policy (online DPO: Guo et al. 2024, arXiv 2402.04792).
struct sample_vanilla {
  template <sampling_policy Policy, class Reference, class Judge>
  [[nodiscard]] response_pairs operator()(Policy& policy, Reference&, Judge&, const prompt_list& prompts,
                                          random_key key) const {
    const responses both = policy.sample(prompts, 2, key);
    response_pairs out;
    for (std::int64_t i = 0; i < both.size(); i += 2) {
      out.first.add(both, i);
      out.second.add(both, i + 1);
    }
    return out;
  }
};

/// One from the policy, the second from the reference (XPO: Xie et al. 2024, arXiv 2405.21046).
struct sample_hybrid {
  template <sampling_policy Policy, sampling_policy Reference, class Judge>
  [[nodiscard]] response_pairs operator()(Policy& policy, Reference& reference, Judge&, const prompt_list& prompts,
                                          random_key key) const {
    response_pairs out{policy.sample(prompts, 1, key), reference.sample(prompts, 1, pair_sampler_detail::draw(key, 1))};
    for (std::int64_t i = 0; i < out.second.size(); ++i) out.foreign.push_back(out.first.size() + i);
    return out;
  }
};

/// The best and the worst of n by the reward that the policy itself implies, log pi - log pi_ref: no label is spent on the
/// choice. At equal rewards the second is any other.
struct sample_best_of_n {
  std::int64_t n = 8;

  template <class Policy, scores_tokens Reference, class Judge>
    requires sampling_policy<Policy> && scores_tokens<Policy>
  [[nodiscard]] response_pairs operator()(Policy& policy, Reference& reference, Judge&, const prompt_list& prompts,
                                          random_key key) const {
    pair_sampler_detail::check_size("sample_best_of_n", "n", n);
    const responses all = policy.sample(prompts, n, key);
    std::vector<float> own(static_cast<std::size_t>(all.response_tokens())), ref(own.size());
    policy.log_probs(all, own);
    reference.log_probs(all, ref);
    std::vector<double> implied(static_cast<std::size_t>(all.size()));
    for (std::int64_t i = 0; i < all.size(); ++i)
      for (auto t = static_cast<std::size_t>(all.response_offsets()[static_cast<std::size_t>(i)]);
           t < static_cast<std::size_t>(all.response_offsets()[static_cast<std::size_t>(i) + 1]); ++t)
        implied[static_cast<std::size_t>(i)] += static_cast<double>(own[t]) - static_cast<double>(ref[t]);
    return pair_sampler_detail::best_and(all, implied, n, true, pair_sampler_detail::draw(key, 1));
  }
};

/// Half of the pairs both from the policy, half one from beyond it and one from between it and the reference: see pilaf().
/// A coin decides for each prompt, and only what it asks for is drawn: two responses. What a response's random numbers are
/// depends on the key, and on the place of its prompt among those that the coin fell alike for. beta is the loss's.
/// Source: Feng et al. 2025, arXiv 2502.04270.
struct sample_pilaf {
  double beta = 0.1;
  double from_policy = 0.5;  ///< share of the pairs that are both from the policy

  template <sampling_policy Policy, class Reference, class Judge>
    requires mixing_policy<Policy, Reference>
  [[nodiscard]] response_pairs operator()(Policy& policy, Reference& reference, Judge&, const prompt_list& prompts,
                                          random_key key) const {
    using pair_sampler_detail::draw;
    if (!(from_policy >= 0 && from_policy <= 1))
      throw error(remark::argument("sample_pilaf", "from_policy", from_policy, "a probability"));
    const logit_mixture beyond = pilaf(beta, true), between = pilaf(beta, false);
    const random_numbers coin(draw(key, 3));
    const auto n = static_cast<std::int64_t>(prompts.size());
    std::vector<char> vanilla;
    prompt_list of_policy, of_mixtures;
    for (std::int64_t i = 0; i < n; ++i) {
      vanilla.push_back(coin.uniform({.prompt = static_cast<std::uint32_t>(i)}) < from_policy ? 1 : 0);
      (vanilla.back() != 0 ? of_policy : of_mixtures).push_back(prompts[static_cast<std::size_t>(i)]);
    }
    responses plain, plus, minus;
    if (!of_policy.empty()) plain = policy.sample(of_policy, 2, key);
    if (!of_mixtures.empty()) {
      plus = policy.sample_mixture(reference, beyond.policy, beyond.reference, of_mixtures, 1, draw(key, 1));
      minus = policy.sample_mixture(reference, between.policy, between.reference, of_mixtures, 1, draw(key, 2));
    }
    response_pairs out;
    std::int64_t own = 0, mixed = 0;
    for (std::int64_t i = 0; i < n; ++i)
      if (vanilla[static_cast<std::size_t>(i)] != 0) {
        out.first.add(plain, 2 * own);
        out.second.add(plain, 2 * own++ + 1);
      } else {
        out.first.add(plus, mixed);
        out.second.add(minus, mixed++);
        out.foreign.insert(out.foreign.end(), {i, n + i});
      }
    return out;
  }
};

/// The best of K by the judge, and the worst or any other one. A judge that scores is asked for K scores, another for K (K -
/// 1) / 2 comparisons, before the loop's own question about the two (`asked` counts them). `length_price` is taken off for
/// each token. Source: RLHFlow's online iterative DPO, Dong et al. 2024, arXiv 2405.07863.
struct sample_max_min {
  std::int64_t k = 8;
  bool worst = true;        ///< false: the second is drawn from the rest (max_random)
  double length_price = 0;  ///< of a token, in units of the scores (or of win rates)

  template <sampling_policy Policy, class Reference, class Judge>
  [[nodiscard]] response_pairs operator()(Policy& policy, Reference&, Judge& judge, const prompt_list& prompts,
                                          random_key key) const {
    pair_sampler_detail::check_size("sample_max_min", "k", k);
    const responses all = policy.sample(prompts, k, key);
    std::vector<double> score;
    if constexpr (scores_responses<Judge>) {
      const std::vector<float> found = ask_rewards("sample_max_min", judge, all);
      score.assign(found.begin(), found.end());
    } else {
      score = pair_sampler_detail::win_rates(judge, all, k);
      for (double& s : score) s /= static_cast<double>(k - 1);
    }
    for (std::int64_t i = 0; i < all.size(); ++i)
      score[static_cast<std::size_t>(i)] -= length_price * static_cast<double>(all.response(i).size());
    response_pairs out = pair_sampler_detail::best_and(all, score, k, worst, pair_sampler_detail::draw(key, 1));
    const auto n = static_cast<std::int64_t>(prompts.size());
    out.asked = scores_responses<Judge> ? n * k : n * k * (k - 1) / 2;
    return out;
  }
};

}  // namespace rlhf::inline v1
