#pragma once
// What a policy sampled, with everything that stays fixed while it is learnt from, and which policy it was.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "rlhf/core/statistics.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/policy/concepts.hpp"
#include "rlhf/train/answers.hpp"
#include "rlhf/train/loop.hpp"

namespace rlhf::inline v1 {

struct on_policy_options {
  std::int64_t iterations = 10;
  std::int64_t samples = 1;      ///< responses to each prompt; loops over pairs take two, whatever this says
  std::int64_t epochs = 1;       ///< passes over the responses of an iteration
  std::int64_t minibatch = 64;   ///< responses (or pairs) of an update
  random_key key{};              ///< iteration i samples on stream key.stream + 2 i and shuffles on the next
  std::int64_t done = 0;         ///< iterations made before, by the run that this one goes on with
  std::int64_t tokens_done = 0;  ///< response tokens that they sampled
  /// An iteration makes no more updates once the policy is this far from the one that sampled (k3, nats per token).
  double stop_kl = std::numeric_limits<double>::infinity();
  std::int64_t critic_first = 0;  ///< iterations whose updates are the critic's alone, where there is one
  /// Where the policy says that it draws from another distribution than itself (describes_sampling), policy gradients weigh each
  /// token by pi_old / pi_sampled, at most this (sampling_weights); 0: by 1.
  double weight_cap = 2;
};

/// Refuses what no loop can walk. Throws rlhf::error.
inline void check_loop(const char* function, const on_policy_options& options, bool with_critic = false) {
  const auto wants = [function](const char* argument, std::int64_t got, const char* range) {
    throw error(remark::argument(function, argument, static_cast<double>(got), range));
  };
  if (options.samples < 1) wants("options.samples", options.samples, "1 or more");
  if (options.epochs < 0) wants("options.epochs", options.epochs, "0 or more");
  if (options.minibatch < 1) wants("options.minibatch", options.minibatch, "1 or more");
  if (options.done < 0) wants("options.done", options.done, "0 or more");
  if (options.critic_first < 0) wants("options.critic_first", options.critic_first, "0 or more");
  if (options.critic_first > 0 && !with_critic)
    wants("options.critic_first", options.critic_first, "0: there is no critic to learn first");
  if (!(options.weight_cap >= 0))
    throw error(remark::argument(function, "options.weight_cap", options.weight_cap, "0 (no weights) or more"));
  if (!(options.stop_kl > 0))
    throw error(remark::argument(function, "options.stop_kl", options.stop_kl, "more than 0 (infinity turns it off)"));
}

/// Responses and what was known of them when they were sampled. Token arrays are in the response frame.
struct rollout {
  responses batch;
  std::vector<float> old_logp;        ///< [tokens] under the policy that sampled, as the trainer computes it
  std::vector<float> ref_logp;        ///< [tokens]
  std::vector<float> score;           ///< [responses]; NaN: nobody was asked about it; empty: about none
  std::vector<float> sampled_logp;    ///< [tokens] under the distribution really drawn from; empty: not known
  std::vector<float> support;         ///< [tokens] the mass that top-k and top-p left; empty: not known
  std::vector<std::int64_t> version;  ///< [responses] updates that the policy had had when it sampled
  std::int32_t end_token = -1;        ///< of a response that was not cut off; negative: not known

  [[nodiscard]] double mean_score() const {
    double sum = 0;
    for (const float s : score) sum += static_cast<double>(s);
    return score.empty() ? 0 : sum / static_cast<double>(score.size());
  }
  /// log pi_old - log pi_ref of a whole response.
  [[nodiscard]] double log_ratio(std::int64_t i) const {
    const auto offsets = batch.response_offsets();
    double sum = 0;
    for (auto t = static_cast<std::size_t>(offsets[static_cast<std::size_t>(i)]);
         t < static_cast<std::size_t>(offsets[static_cast<std::size_t>(i) + 1]); ++t)
      sum += static_cast<double>(old_logp[t]) - static_cast<double>(ref_logp[t]);
    return sum;
  }
  [[nodiscard]] double mean_log_ratio() const {
    double sum = 0;
    for (std::int64_t i = 0; i < batch.size(); ++i) sum += log_ratio(i);
    return batch.size() == 0 ? 0 : sum / static_cast<double>(batch.size());
  }

  /// The given responses, in the given order.
  [[nodiscard]] rollout select(std::span<const std::int64_t> rows) const {
    const auto tokens = [&](const std::vector<float>& v) {
      return v.empty() ? std::vector<float>{} : batch.select(rows, std::span<const float>(v));
    };
    rollout out{batch.select(rows), tokens(old_logp), tokens(ref_logp), {}, tokens(sampled_logp), tokens(support), {},
                end_token};
    for (const std::int64_t row : rows) {
      if (!score.empty()) out.score.push_back(score[static_cast<std::size_t>(row)]);
      out.version.push_back(version[static_cast<std::size_t>(row)]);
    }
    return out;
  }
  /// Appends another rollout. What only one of the two knows is forgotten.
  void append(const rollout& more) {
    const auto join = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    const bool first = batch.size() == 0;
    end_token = first || end_token == more.end_token ? more.end_token : -1;
    const auto join_known = [&](std::vector<float>& to, const std::vector<float>& from) {
      if ((first || !to.empty()) && !from.empty())
        join(to, from);
      else
        to.clear();
    };
    for (std::int64_t i = 0; i < more.batch.size(); ++i) batch.add(more.batch, i);
    join(old_logp, more.old_logp);
    join(ref_logp, more.ref_logp);
    join(score, more.score);
    join_known(sampled_logp, more.sampled_logp);
    join_known(support, more.support);
    join(version, more.version);
  }
};

/// Rollouts waiting to be learnt from. Versions of the policy are never mixed silently: what is older than `maximum_age`
/// updates when it is taken is refused, or left out where `drop_old` says so.
class rollout_buffer {
 public:
  std::int64_t maximum_age = 0;  ///< updates between sampling and learning
  bool drop_old = false;         ///< leave old samples out instead of refusing them

  void add(const rollout& r) { waiting_.append(r); }
  [[nodiscard]] std::int64_t size() const { return waiting_.batch.size(); }

  /// All that waits, for a policy that has had `version` updates; the buffer is empty afterwards. Throws rlhf::error.
  [[nodiscard]] rollout take(std::int64_t version) {
    std::vector<std::int64_t> young;
    for (std::int64_t i = 0; i < waiting_.batch.size(); ++i) {
      const std::int64_t age = version - waiting_.version[static_cast<std::size_t>(i)];
      if (age >= 0 && age <= maximum_age)
        young.push_back(i);
      else if (!drop_old || age < 0)
        throw error({errc::argument, "rollout_buffer", "the age of a sample", "is", static_cast<double>(age),
                     static_cast<double>(maximum_age), age < 0 ? "0 or more: it is from a later policy" : nullptr});
    }
    rollout out = static_cast<std::int64_t>(young.size()) == size() ? std::move(waiting_) : waiting_.select(young);
    waiting_ = {};
    return out;
  }

 private:
  rollout waiting_;
};

/// What an iteration reports: any callable of (const iteration&).
struct iteration {
  std::int64_t number = 0;  ///< 1 after the first
  std::int64_t of = 0;
  /// Mean score of the responses that the policy sampled in this iteration; a judge without scores: see the loop; NaN: it
  /// sampled none by itself.
  double reward = 0;
  double kl = 0;  ///< their mean log pi / pi_ref, nats per response, under the policy that sampled them; NaN likewise
  /// Response tokens sampled so far, those included that were only compared with or passed over.
  std::int64_t tokens = 0;
  const statistics* metrics = nullptr;  ///< of all updates of the iteration

  /// Iteration i is done; it learnt from `r`.
  void after(const rollout& r, std::int64_t i, const statistics& found) {
    number = i + 1;
    reward = r.mean_score();
    kl = r.mean_log_ratio();
    tokens += r.batch.response_tokens();
    metrics = &found;
  }
};

/// An observer that looks at nothing.
struct ignore_iteration {
  void operator()(const iteration&) const {}
};

/// An observer that also wants to see what was sampled, before it is learnt from.
template <class Observer>
concept wants_rollouts = requires(Observer& observe, const rollout& r) { observe.sampled(r); };

/// Who drew the responses of a rollout.
enum class drawn_by : std::uint8_t {
  policy,  ///< the policy, by itself: it knows what from
  others   ///< others too, or nobody asks: nothing is recorded of it
};

/// Samples of a policy that has had `version` updates, without scores. Throws rlhf::error where there are none.
template <class Policy, class Reference>
[[nodiscard]] rollout collect_unscored(Policy& policy, Reference& reference, responses batch, std::int64_t version,
                                       drawn_by who = drawn_by::policy) {
  if (batch.size() == 0) throw error({errc::argument, "collect", "prompts", "has elements:", 0, 0, "at least one"});
  rollout r;
  r.batch = std::move(batch);
  const auto tokens = static_cast<std::size_t>(r.batch.response_tokens());
  r.old_logp.resize(tokens);
  r.ref_logp.resize(tokens);
  r.version.assign(static_cast<std::size_t>(r.batch.size()), version);
  if constexpr (ends_responses<Policy>) r.end_token = policy.end_token();
  // Scored again rather than taken from the sampler, so that the first ratio is exactly 1.
  policy.log_probs(r.batch, r.old_logp);
  reference.log_probs(r.batch, r.ref_logp);
  if constexpr (describes_sampling<Policy>) {
    if (who == drawn_by::others) return r;
    r.sampled_logp = r.old_logp;
    r.support.assign(tokens, 1.0f);
    const std::span<float> logp(r.sampled_logp), mass(r.support);
    (void)policy.describe_sampling(r.batch, logp, mass);  // where it says false they stay the policy's own
  }
  return r;
}

/// Samples of a policy that has had `version` updates, scored. Throws rlhf::error where a score is not finite.
template <class Policy, class Reference, class Reward>
[[nodiscard]] rollout collect(Policy& policy, Reference& reference, Reward& reward, responses batch,
                              std::int64_t version, drawn_by who = drawn_by::policy) {
  rollout r = collect_unscored(policy, reference, std::move(batch), version, who);
  r.score = ask_rewards("collect", reward, r.batch);
  return r;
}

template <class Policy, class Reference, class Reward>
[[nodiscard]] rollout collect(Policy& policy, Reference& reference, Reward& reward, const prompt_list& prompts,
                              std::int64_t samples, random_key key, std::int64_t version) {
  return collect(policy, reference, reward, policy.sample(prompts, samples, key), version);
}

/// The mean of pi / pi_old over the tokens of an update; `variance` is that of these means over updates, n - 1 in its divisor
/// as in torch.var, 0 of a single one. TRL's val/ratio_var.
struct ratio_means {
  double count = 0, mean = 0, squares = 0;

  void add(std::span<const float> logp, std::span<const float> old_logp) {
    if (logp.empty()) return;
    double sum = 0;
    for (std::size_t t = 0; t < logp.size(); ++t)
      sum += std::exp(static_cast<double>(logp[t]) - static_cast<double>(old_logp[t]));
    const double delta = sum / static_cast<double>(logp.size()) - mean;
    mean += delta / ++count;
    squares += delta * (sum / static_cast<double>(logp.size()) - mean);
  }
  [[nodiscard]] double variance() const { return count > 1 ? squares / (count - 1) : 0; }
};

/// How far log-probabilities have moved from those of the sampler: mean of k3, nats per token.
[[nodiscard]] inline double moved_kl(std::span<const float> logp, std::span<const float> old_logp) {
  double sum = 0;
  for (std::size_t t = 0; t < logp.size(); ++t) {
    const double d = static_cast<double>(logp[t]) - static_cast<double>(old_logp[t]);
    sum += std::expm1(d) - d;
  }
  return logp.empty() ? 0 : sum / static_cast<double>(logp.size());
}

[[nodiscard]] inline random_key stream(random_key key, std::int64_t offset) {
  return {key.seed, key.stream + static_cast<std::uint64_t>(offset)};
}

/// How long responses are, under TRL's names: mean and longest in tokens; where the policy says what ends one
/// (ends_responses), the share of those that were cut off before, and how many end tokens there are.
inline void describe_lengths(const rollout& r, statistics& metrics) {
  double ends = 0, cut = 0;
  for (std::int64_t i = 0; i < r.batch.size(); ++i) {
    const auto response = r.batch.response(i);
    const auto here = static_cast<double>(std::count(response.begin(), response.end(), r.end_token));
    ends += here;
    cut += here > 0 ? 0 : 1;
    metrics.add_maximum("completions/max_length", static_cast<double>(response.size()));
  }
  const auto n = static_cast<double>(r.batch.size());
  metrics.add("completions/mean_length", static_cast<double>(r.batch.response_tokens()), n);
  if (r.end_token < 0) return;
  metrics.add("completions/clipped_ratio", cut, n);
  metrics.add_total("val/num_eos_tokens", ends);
}

/// What an iteration sampled, under TRL's names: sums over responses, nats. `shaped` are the rewards with the price of KL, of
/// tokens or of responses; where there are none, `objective/rlhf_reward` and `objective/non_score_reward` are left out, and
/// without scores `objective/scores`.
inline void describe(const rollout& r, const std::vector<float>& shaped, statistics& metrics) {
  const auto n = static_cast<double>(r.batch.size());
  double scores = 0, total = 0, kl = 0, entropy = 0, mass = 0;
  for (const float s : r.score) scores += static_cast<double>(s);
  for (const float x : shaped) total += static_cast<double>(x);
  for (std::size_t t = 0; t < r.old_logp.size(); ++t) {
    kl += static_cast<double>(r.old_logp[t]) - static_cast<double>(r.ref_logp[t]);
    entropy -= static_cast<double>(r.old_logp[t]);
  }
  for (const float m : r.support) mass += static_cast<double>(m);
  if (!r.score.empty()) metrics.add("objective/scores", scores, n);
  metrics.add("objective/kl", kl, n);
  metrics.add("objective/entropy", entropy, n);
  if (!shaped.empty()) {
    metrics.add("objective/rlhf_reward", total, n);
    metrics.add("objective/non_score_reward", total - scores, n);
  }
  if (!r.support.empty()) metrics.add("sampling/support_mass", mass, static_cast<double>(r.support.size()));
  describe_lengths(r, metrics);
}

/// Iteration i compared `all`; it reports what the policy drew by itself, `own`, and `won`, the probabilities that one of its
/// responses beats the other of its pair: their mean is `rewards/probabilities` (TRL's name), and the reward of a judge that
/// gives no scores. Of nothing the reward and the KL are NaN, and there are no metrics.
inline void report_compared(iteration& now, std::int64_t i, const rollout& all, rollout own, bool scored,
                            std::span<const float> won, statistics& metrics) {
  double sum = 0;
  for (const float p : won) sum += static_cast<double>(p);
  if (!scored) own.score.clear();
  now.after(all, i, metrics);
  now.reward = now.kl = std::numeric_limits<double>::quiet_NaN();
  if (own.batch.size() == 0) return;
  describe(own, {}, metrics);
  metrics.add("rewards/probabilities", sum, static_cast<double>(won.size()));
  now.reward = scored ? own.mean_score() : sum / static_cast<double>(won.size());
  now.kl = own.mean_log_ratio();
}

}  // namespace rlhf::inline v1
