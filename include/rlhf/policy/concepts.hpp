#pragma once
// What a model may offer, each capability a concept of its own. Nothing here knows layers, devices or engines.

#include <concepts>
#include <cstdint>
#include <span>
#include <vector>

#include "rlhf/math/random.hpp"
#include "rlhf/policy/responses.hpp"

namespace rlhf::inline v1 {

/// Scores responses: `log_probs(r, out)` writes the log-probability (nats) of every response token into `out`
/// [r.response_tokens()]. A frozen reference needs no more.
template <class P>
concept scores_tokens = requires(P& p, const responses& r, std::span<float> out) { p.log_probs(r, out); };

/// Has parameters that an optimiser may change: two flat arrays of the same length.
template <class P>
concept parameterised = requires(P& p) {
  { p.parameters() } -> std::convertible_to<std::span<float>>;
  { p.gradient() } -> std::convertible_to<std::span<float>>;
};

/// A policy that learns: `backward(g)` adds to the gradient what `g` = d loss / d log_probs makes of it, for the responses
/// of the last call of log_probs.
template <class P>
concept trainable_policy =
    scores_tokens<P> && parameterised<P> && requires(P& p, std::span<const float> g) { p.backward(g); };

/// A policy that acts: `sample(prompts, n, key)` gives n responses to each prompt, those to a prompt next to each other.
/// The choice depends on the key and on prompt, sample and position alone, never on batching or threads.
template <class P>
concept sampling_policy = requires(P& p, const prompt_list& prompts, std::int64_t n, random_key key) {
  { p.sample(prompts, n, key) } -> std::same_as<responses>;
};

/// Can stop earlier, at a number of tokens for each prompt: `sample_at_most(prompts, n, key, most)` draws what `sample` draws, of
/// each response to prompt i at most the first most[i] tokens, 1 or more; whatever else ends a response still does. Loops that
/// go on from within a response ask for what is left of its length; of who cannot stop they cut what is too long.
template <class P>
concept bounded_sampling_policy = sampling_policy<P> && requires(P& p, const prompt_list& prompts, std::int64_t n,
                                                                 random_key key, std::span<const std::int64_t> most) {
  { p.sample_at_most(prompts, n, key, most) } -> std::same_as<responses>;
};

/// Knows its most likely continuation, token by token: `greedy(prompts)` gives one response to each prompt.
template <class P>
concept greedy_policy = requires(P& p, const prompt_list& prompts) {
  { p.greedy(prompts) } -> std::same_as<responses>;
};

/// Knows what it really drew from: `describe_sampling(r, logp, mass)` writes, for every response token, its log-probability
/// under the sampling distribution (temperature, top-k, top-p and all) and the mass that truncation left of the policy at
/// that temperature. It may say false instead, and write nothing: it drew from the policy itself.
template <class P>
concept describes_sampling = requires(P& p, const responses& r, std::span<float> logp, std::span<float> mass) {
  p.describe_sampling(r, logp, mass);
};

/// Knows how concentrated it is: `log_square_sums(r, out)` writes for every response token the logarithm of the sum of the
/// squared probabilities of all tokens at its place (that of token_logp's square_sum). Loops ask before log_probs.
template <class P>
concept describes_concentration =
    requires(P& p, const responses& r, std::span<float> out) { p.log_square_sums(r, out); };

/// Knows which token ends a response (negative: none does), so that loops can say how many responses were cut off.
template <class P>
concept ends_responses = requires(const P& p) {
  { p.end_token() } -> std::convertible_to<std::int32_t>;
};

/// Samples from the normalised powers of two policies, token by token: `sample_mixture(other, a, b, prompts, n, key)` draws
/// each token from what is proportional to this policy to the a times the other one to the b.
template <class P, class Other>
concept mixing_policy =
    requires(P& p, Other& other, double power, const prompt_list& prompts, std::int64_t n, random_key key) {
      { p.sample_mixture(other, power, power, prompts, n, key) } -> std::same_as<responses>;
    };

/// Compares responses: `preferences(a, b, out)` writes for each pair of responses to the same prompt the probability [0, 1]
/// that the one of `a` is preferred. A person, a model of one, a game.
template <class J>
concept compares_responses =
    requires(J& j, const responses& a, const responses& b, std::span<float> out) { j.preferences(a, b, out); };

/// Values of the states before each response token: `values(r, out)` [r.response_tokens()].
template <class V>
concept estimates_values = requires(V& v, const responses& r, std::span<float> out) { v.values(r, out); };

/// A critic that learns: `backward_values(g)` for the responses of the last call of values.
template <class V>
concept trainable_critic =
    estimates_values<V> && parameterised<V> && requires(V& v, std::span<const float> g) { v.backward_values(g); };

/// Policy and critic on one trunk: `log_probs_and_values(r, logp, value)` is one pass forward, and
/// `backward_both(g_logp, g_value)` one pass back for the responses of that call.
template <class M>
concept joint_actor_critic = scores_tokens<M> && parameterised<M> &&
                             requires(M& m, const responses& r, std::span<float> out, std::span<const float> g) {
                               m.log_probs_and_values(r, out, out);
                               m.backward_both(g, g);
                             };

/// What it has learnt can be taken off and put on again: with `adapters(false)` it is the model it started from, exactly.
template <class M>
concept has_adapters = requires(M& m, bool on) { m.adapters(on); };

/// Scores whole responses: `rewards(r, out)` [r.size()]. A learned model or a rule.
template <class R>
concept scores_responses = requires(R& m, const responses& r, std::span<float> out) { m.rewards(r, out); };

/// A reward model that learns: `backward_rewards(g)` for the responses of the last call of rewards.
template <class R>
concept trainable_reward =
    scores_responses<R> && parameterised<R> && requires(R& m, std::span<const float> g) { m.backward_rewards(g); };

}  // namespace rlhf::inline v1
