#pragma once
// The exact little policy: one softmax for every prefix. For tests, teaching and theory.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// Responses of exactly `length` tokens over a vocabulary, to prompts that are a single token: the prompt's number. A prompt
/// may also hold the first tokens of a response: then the responses to it are the rest.
///
/// Every (prompt, prefix) has its own row of logits, so the policy can be any distribution over responses, and all
/// gradients are exact. Parameters: prompts * (V^length - 1) / (V - 1) rows of V logits, float.
class tabular_policy {
 public:
  tabular_policy(std::int64_t prompts, std::int64_t vocabulary, std::int64_t length)
      : vocabulary_(vocabulary), length_(length), prefixes_(count_prefixes(vocabulary, length)), prompts_(prompts) {
    if (prompts < 1 || vocabulary < 2 || length < 1)
      throw std::invalid_argument("tabular_policy: wants at least one prompt, two tokens and length 1");
    parameters_.assign(static_cast<std::size_t>(prompts * prefixes_ * vocabulary), 0.0f);
    gradient_.assign(parameters_.size(), 0.0f);
  }

  [[nodiscard]] std::span<float> parameters() { return parameters_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }
  [[nodiscard]] std::int64_t vocabulary() const { return vocabulary_; }
  [[nodiscard]] std::int64_t length() const { return length_; }

  void log_probs(const responses& batch, std::span<float> out) {
    if (static_cast<std::int64_t>(out.size()) != batch.response_tokens())
      throw std::invalid_argument("tabular_policy: log_probs: out has " + std::to_string(out.size()) +
                                  " elements, wants " + std::to_string(batch.response_tokens()));
    last_ = batch;
    std::size_t t = 0;
    walk(batch, [&](const float* row, std::int32_t token) {
      out[t++] = static_cast<float>(static_cast<double>(row[token]) - log_sum_exp(row));
    });
  }

  void backward(std::span<const float> grad_logp) {
    std::size_t t = 0;
    walk(last_, [&](const float* row, std::int32_t token) {
      const double g = static_cast<double>(grad_logp[t++]);
      float* const slope = gradient_.data() + (row - parameters_.data());
      const double lse = log_sum_exp(row);
      for (std::int64_t k = 0; k < vocabulary_; ++k)
        slope[k] += static_cast<float>(g * ((k == token ? 1.0 : 0.0) - std::exp(static_cast<double>(row[k]) - lse)));
    });
  }

  void log_square_sums(const responses& batch, std::span<float> out) const {
    std::size_t t = 0;
    walk(batch, [&](const float* row, std::int32_t) {
      double sum = 0;
      const double lse = log_sum_exp(row);
      for (std::int64_t k = 0; k < vocabulary_; ++k) sum += std::exp(2 * (static_cast<double>(row[k]) - lse));
      out[t++] = static_cast<float>(std::log(sum));
    });
  }

  [[nodiscard]] responses sample(const prompt_list& prompts, std::int64_t n, random_key key) {
    const random_numbers numbers(key);
    return act(prompts, n, [&](const float* row, std::size_t p, std::int64_t s, std::int64_t t) {
      return draw(row, numbers.uniform({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(s),
                                        static_cast<std::uint32_t>(t)}));
    });
  }

  /// From policy^own other^theirs, normalised at each token.
  [[nodiscard]] responses sample_mixture(const tabular_policy& other, double own, double theirs,
                                         const prompt_list& prompts, std::int64_t n, random_key key) const {
    if (other.parameters_.size() != parameters_.size() || other.vocabulary_ != vocabulary_)
      throw std::invalid_argument("tabular_policy: sample_mixture: the other policy has another size");
    const random_numbers numbers(key);
    std::vector<float> mixed(static_cast<std::size_t>(vocabulary_));
    return act(prompts, n, [&](const float* row, std::size_t p, std::int64_t s, std::int64_t t) {
      const float* const their_row = other.parameters_.data() + (row - parameters_.data());
      for (std::int64_t k = 0; k < vocabulary_; ++k)
        mixed[static_cast<std::size_t>(k)] =
            static_cast<float>(own * static_cast<double>(row[k]) + theirs * static_cast<double>(their_row[k]));
      return draw(mixed.data(), numbers.uniform({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(s),
                                                 static_cast<std::uint32_t>(t)}));
    });
  }

  [[nodiscard]] responses greedy(const prompt_list& prompts) const {
    return act(prompts, 1, [&](const float* row, std::size_t, std::int64_t, std::int64_t) {
      return static_cast<std::int32_t>(std::max_element(row, row + vocabulary_) - row);
    });
  }

 private:
  /// Tokens that `choose` picks until the response is complete.
  template <class Choose>
  [[nodiscard]] responses act(const prompt_list& prompts, std::int64_t n, Choose&& choose) const {
    responses out;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      const std::int64_t begun = static_cast<std::int64_t>(prompts[p].size()) - 1;
      std::vector<std::int32_t> tokens;
      for (std::int64_t s = 0; s < n; ++s) {
        std::int64_t prefix = prefix_of(prompts[p]);
        tokens.clear();
        for (std::int64_t t = begun; t < length_; ++t) {
          tokens.push_back(choose(row_of(prompts[p].front(), prefix), p, s, t));
          prefix = next(prefix, tokens.back());
        }
        out.add(prompts[p], tokens);
      }
    }
    return out;
  }
  /// Where a prompt with some tokens of the response behind it stands.
  [[nodiscard]] std::int64_t prefix_of(std::span<const std::int32_t> prompt) const {
    if (static_cast<std::int64_t>(prompt.size()) - 1 > length_)
      throw std::invalid_argument("tabular_policy: a prompt has " + std::to_string(prompt.size()) +
                                  " tokens, wants 1 and at most " + std::to_string(length_) + " of the response");
    std::int64_t prefix = 0;
    for (const std::int32_t token : prompt.subspan(1)) prefix = next(prefix, check_token(token));
    return prefix;
  }
  [[nodiscard]] std::int32_t check_token(std::int32_t token) const {
    if (token < 0 || token >= vocabulary_)
      throw std::invalid_argument("tabular_policy: a token is a number below " + std::to_string(vocabulary_));
    return token;
  }
  [[nodiscard]] static std::int64_t count_prefixes(std::int64_t vocabulary, std::int64_t length) {
    std::int64_t all = 0, level = 1;
    for (std::int64_t t = 0; t < length; ++t, level *= vocabulary) all += level;
    return all;
  }
  // Prefixes are numbered as a complete tree: the children of p are V p + 1 ... V p + V.
  [[nodiscard]] std::int64_t next(std::int64_t prefix, std::int32_t token) const {
    return vocabulary_ * prefix + 1 + token;
  }
  [[nodiscard]] const float* row_of(std::int32_t prompt, std::int64_t prefix) const {
    if (prompt < 0 || prompt >= prompts_)
      throw std::invalid_argument("tabular_policy: a prompt is a number below " + std::to_string(prompts_));
    return parameters_.data() + (prompt * prefixes_ + prefix) * vocabulary_;
  }
  [[nodiscard]] double log_sum_exp(const float* row) const {
    double top = static_cast<double>(row[0]);
    for (std::int64_t k = 1; k < vocabulary_; ++k) top = std::max(top, static_cast<double>(row[k]));
    double sum = 0;
    for (std::int64_t k = 0; k < vocabulary_; ++k) sum += std::exp(static_cast<double>(row[k]) - top);
    return top + std::log(sum);
  }
  [[nodiscard]] std::int32_t draw(const float* row, double u) const {
    const double lse = log_sum_exp(row);
    double below = 0;
    for (std::int64_t k = 0; k < vocabulary_; ++k) {
      below += std::exp(static_cast<double>(row[k]) - lse);
      if (u < below) return static_cast<std::int32_t>(k);
    }
    return static_cast<std::int32_t>(vocabulary_ - 1);
  }
  template <class F>
  void walk(const responses& batch, F&& f) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const auto begun = static_cast<std::int64_t>(batch.prompt(i).size()) - 1;
      if (static_cast<std::int64_t>(batch.response(i).size()) + begun != length_)
        throw std::invalid_argument("tabular_policy: a response has " + std::to_string(batch.response(i).size()) +
                                    " tokens, wants " + std::to_string(length_ - begun));
      std::int64_t prefix = prefix_of(batch.prompt(i));
      for (const std::int32_t token : batch.response(i)) {
        f(row_of(batch.prompt(i).front(), prefix), check_token(token));
        prefix = next(prefix, token);
      }
    }
  }

  std::int64_t vocabulary_, length_, prefixes_, prompts_;
  std::vector<float> parameters_, gradient_;
  responses last_;
};

static_assert(trainable_policy<tabular_policy> && sampling_policy<tabular_policy> && greedy_policy<tabular_policy> &&
              mixing_policy<tabular_policy, tabular_policy> && describes_concentration<tabular_policy>);

}  // namespace rlhf::inline v1
