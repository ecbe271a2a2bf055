#pragma once
// A reward on the scale that its own prompt has had lately, so that easy prompts and hard ones pull alike.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "rlhf/core/throw.hpp"
#include "rlhf/math/monoids.hpp"
#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// How rewards of a prompt become z-scores.
struct per_prompt_options {
  std::int64_t capacity = 32;     ///< the latest rewards of a prompt that count; 1 or more
  std::int64_t enough = 16;       ///< with fewer rewards of its prompt a reward is measured by those of its call
  double epsilon = 1e-6;          ///< added to the standard deviation; more than 0
  std::int64_t prompt_tokens = 0; /**< so many tokens at the front of a prompt say which one it is; 0: all of them. A
                                       denoiser's prompt is a number, then the noise it starts from: 1. */
};

/// The scores of a model or rule as z-scores of their prompt: \f$ (x - \mu_p)/(\sigma_p + \epsilon) \f$.
///
/// mu_p and sigma_p (n in its divisor) are of the latest `capacity` rewards of prompt p, those of this call among them: a
/// call first takes in all of its rewards, in order, then scales them. A prompt of which fewer than `enough` have been kept
/// is measured by the rewards of this call, of all prompts together. Where all rewards are the same z is 0.
/// Wherever a reward is asked for, this will do; every call counts. `seen` is the state of the run, to be saved with it:
/// for each prompt its latest rewards, oldest first. It grows with the number of prompts. Owns nothing of the reward.
/// Example: `per_prompt_reward scaled(reward, {.prompt_tokens = 1});`
/// Errors (rlhf::error): a reward that is not finite, before anything is kept; options out of their range.
/// Source: Black et al. 2023, arXiv 2305.13301 (rewards normalised prompt by prompt); defaults those of the consistency-model
/// experiments of Gao et al. 2024, arXiv 2404.16767. The trackers of DDPO's and RLCM's code compute the same.
template <scores_responses Reward>
class per_prompt_reward {
 public:
  using prompt = std::vector<std::int32_t>;
  std::map<prompt, std::vector<float>> seen;

  explicit per_prompt_reward(Reward& reward, per_prompt_options options = {}) : options_(options), reward_(&reward) {
    const auto want = [](bool holds, const char* argument, double got, const char* range) {
      if (!holds) throw error(remark::argument("per_prompt_reward", argument, got, range));
    };
    want(options.capacity >= 1, "options.capacity", static_cast<double>(options.capacity), "1 or more");
    want(options.enough <= options.capacity, "options.enough", static_cast<double>(options.enough),
         "at most options.capacity");
    want(options.epsilon > 0 && std::isfinite(options.epsilon), "options.epsilon", options.epsilon,
         "a finite number above 0");
    want(options.prompt_tokens >= 0, "options.prompt_tokens", static_cast<double>(options.prompt_tokens), "0 or more");
  }

  [[nodiscard]] const per_prompt_options& options() const { return options_; }

  void rewards(const responses& batch, std::span<float> out) {
    reward_->rewards(batch, out);
    moments call;
    for (const float x : out) {
      if (!std::isfinite(x))
        throw error(remark::argument("per_prompt_reward", "a reward", static_cast<double>(x), "finite numbers"));
      call.merge({1, static_cast<double>(x), 0});
    }
    std::vector<const std::vector<float>*> of_row;  // elements of a map stay where they are
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      std::vector<float>& latest = seen[name(batch.prompt(i))];
      latest.push_back(out[static_cast<std::size_t>(i)]);
      if (std::ssize(latest) > options_.capacity) latest.erase(latest.begin());
      of_row.push_back(&latest);
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      moments own = call;
      if (std::ssize(*of_row[i]) >= options_.enough) {
        own = {};
        for (const float x : *of_row[i]) own.merge({1, static_cast<double>(x), 0});
      }
      out[i] = static_cast<float>((static_cast<double>(out[i]) - own.mean) /
                                  (std::sqrt(own.variance(true)) + options_.epsilon));
    }
  }

 private:
  [[nodiscard]] prompt name(std::span<const std::int32_t> of) const {
    const std::size_t n =
        options_.prompt_tokens == 0 ? of.size() : std::min(of.size(), static_cast<std::size_t>(options_.prompt_tokens));
    return {of.begin(), of.begin() + static_cast<std::ptrdiff_t>(n)};
  }

  per_prompt_options options_;
  Reward* reward_;
};
template <class R>
per_prompt_reward(R&) -> per_prompt_reward<R>;
template <class R>
per_prompt_reward(R&, per_prompt_options) -> per_prompt_reward<R>;

}  // namespace rlhf::inline v1
