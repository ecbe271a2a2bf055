// The model with adapters: the start at first and without them, slopes of both heads, and a reading that needs no last token.

#include "align/model/adapted_policy.hpp"

#include <cmath>
#include <ranges>
#include <vector>

#include "align/responses.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/numeric.hpp"
#include "rlhf/policy/adapters_off.hpp"
#include "support/catch.hpp"

namespace {

const align::transformer_options sizes{
    .vocabulary = 13, .dimension = 24, .hidden = 20, .layers = 2, .heads = 4, .kv_heads = 2, .context = 12};

struct world {
  rlhf::reference_backend cpu;
  rlhf::thread_pool pool{2};
  align::language_model<float> start{sizes, rlhf::random_key{.seed = 5}};
  align::adapted_policy<rlhf::reference_backend> model{cpu, pool, start, 3, {.seed = 6}, {}};
  align::language_policy<rlhf::reference_backend> plain{cpu, pool, start};
  rlhf::responses batch = some_responses();
  std::size_t tokens = static_cast<std::size_t>(batch.response_tokens());

  void disturb() {
    const rlhf::random_numbers numbers({.seed = 7});
    std::uint32_t i = 0;
    for (float& x : model.parameters()) x += static_cast<float>(0.2 * numbers.normal({i++}));
  }
};

}  // namespace

static_assert(rlhf::joint_actor_critic<align::adapted_policy<rlhf::reference_backend>>);
static_assert(rlhf::has_adapters<align::adapted_policy<rlhf::reference_backend>>);

TEST_CASE("adapters begin at nothing, and come off without a trace") {
  world w;
  std::vector<float> of_start(w.tokens), logp(w.tokens), value(w.tokens, 1.0f), off(w.tokens);
  w.plain.log_probs(w.batch, of_start);
  w.model.log_probs_and_values(w.batch, logp, value);
  CHECK(logp == of_start);
  CHECK(value == std::vector<float>(w.tokens, 0.0f));
  w.disturb();
  w.model.log_probs(w.batch, logp);
  CHECK(logp != of_start);
  rlhf::adapters_off reference(w.model);
  reference.log_probs(w.batch, off);
  CHECK(off == of_start);
  std::vector<float> again(w.tokens);
  w.model.log_probs_and_values(w.batch, again, value);
  CHECK(again == logp);
}

TEST_CASE("one pass back gives the slopes of both heads in the adapters") {
  world w;
  w.disturb();
  std::vector<float> logp(w.tokens), value(w.tokens), d_logp(w.tokens), d_value(w.tokens);
  for (std::size_t t = 0; t < w.tokens; ++t) {
    d_logp[t] = static_cast<float>(std::sin(static_cast<double>(t)));
    d_value[t] = static_cast<float>(std::cos(static_cast<double>(3 * t)));
  }
  const auto loss = [&] {
    w.model.log_probs_and_values(w.batch, logp, value);
    double sum = 0;
    for (std::size_t t = 0; t < w.tokens; ++t)
      sum += static_cast<double>(d_logp[t]) * static_cast<double>(logp[t]) +
             static_cast<double>(d_value[t]) * static_cast<double>(value[t]);
    return sum;
  };
  loss();
  w.model.backward_both(d_logp, d_value);
  // Along random directions, because a single parameter's slope drowns in the rounding of float32.
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const rlhf::random_numbers numbers({.seed = seed, .stream = 3});
    const std::vector<float> kept(w.model.parameters().begin(), w.model.parameters().end());
    std::vector<double> v(kept.size());
    double slope = 0;
    for (std::size_t i = 0; i < v.size(); ++i) {
      v[i] = numbers.normal({static_cast<std::uint32_t>(i)});
      slope += v[i] * static_cast<double>(w.model.gradient()[i]);
    }
    const auto at = [&](double step) {
      for (std::size_t i = 0; i < v.size(); ++i)
        w.model.parameters()[i] = static_cast<float>(static_cast<double>(kept[i]) + step * v[i]);
      return loss();
    };
    const double up = at(1e-3), down = at(-1e-3);
    std::copy(kept.begin(), kept.end(), w.model.parameters().begin());
    CHECK((up - down) / 2e-3 == Approx(slope).epsilon(0.01).margin(0.05));
  }
}

TEST_CASE("a critic of states reads no last token, and says the same of all others") {
  world w;
  align::scalar_model<float> net(w.start);
  for (std::size_t i = 0; i < 25; ++i) net.parameters[net.parameters.size() - 25 + i] = 0.1f * static_cast<float>(i);
  align::scalar_policy whole(w.pool, net), states(w.pool, net, false);
  std::vector<float> a(w.tokens), b(w.tokens), slope(w.tokens);
  whole.values(w.batch, a);
  states.values(w.batch, b);
  CHECK(a == b);
  for (std::size_t t = 0; t < w.tokens; ++t) slope[t] = static_cast<float>(t);
  whole.backward_values(slope);
  states.backward_values(slope);
  for (std::size_t i = 0; i < whole.gradient().size(); ++i)
    REQUIRE(states.gradient()[i] == Approx(whole.gradient()[i]).epsilon(1e-4).margin(1e-3));
  // A response that fills the context and one token more.
  rlhf::responses full;
  const std::vector<std::int32_t> prompt{0}, response(12, 3);
  full.add(prompt, response);
  std::vector<float> all(12);
  CHECK_NOTHROW(states.values(full, all));
}

TEST_CASE("models that share their memory compute what they compute alone") {
  world w;
  const auto memory = std::make_shared<align::pass_memory>();
  using policy = align::language_policy<rlhf::reference_backend>;
  policy alone(w.cpu, w.pool, w.start), shares(w.cpu, w.pool, w.start, {}, memory);
  policy other(w.cpu, w.pool, align::language_model<float>(sizes, rlhf::random_key{.seed = 8}), {}, memory);
  // A head that is not 0, so that slopes reach the trunk.
  align::scalar_model<float> valuing(w.start);
  for (std::size_t i = 0; i < 25; ++i) valuing.parameters[valuing.parameters.size() - 25 + i] = 0.1f;
  align::scalar_policy critic(w.pool, valuing, true, memory);
  std::vector<float> a(w.tokens), b(w.tokens), of_other(w.tokens), values(w.tokens), slope(w.tokens);
  for (std::size_t t = 0; t < w.tokens; ++t) slope[t] = 0.25f * static_cast<float>(t) - 1;
  alone.log_probs(w.batch, a);
  alone.backward(slope);
  shares.log_probs(w.batch, b);
  critic.values(w.batch, values);  // both walk over what the first left
  other.log_probs(w.batch, of_other);
  CHECK(a == b);
  CHECK(of_other != a);
  shares.backward(slope);
  critic.backward_values(slope);
  CHECK(std::ranges::equal(shares.gradient(), alone.gradient()));
  align::scalar_policy critic_alone(w.pool, valuing);
  critic_alone.values(w.batch, values);
  critic_alone.backward_values(slope);
  CHECK(std::ranges::equal(critic.gradient(), critic_alone.gradient()));
  CHECK(std::ranges::any_of(critic.gradient().first(w.start.parameters.size()), [](float x) { return x != 0; }));
}

TEST_CASE("models in bfloat16 score, draw and learn by the same rounded weights: a first ratio is 1") {
  world w;
  using policy = align::language_policy<rlhf::reference_backend>;
  const align::language_model<float> stored(sizes, w.start.parameters, align::parameter_storage::bfloat16);
  align::language_model<float> before = w.start;
  for (float& p : before.parameters) p = static_cast<float>(rlhf::bfloat16(p));
  policy model(w.cpu, w.pool, stored), plain(w.cpu, w.pool, before), start(w.cpu, w.pool, stored);
  const auto memory = std::make_shared<align::pass_memory>(align::pass_limits{.tokens = 9});
  policy split(w.cpu, w.pool, stored, {}, memory);
  const rlhf::responses drawn = model.sample({{0}, {0, 3}, {0, 4, 5}}, 4, {.seed = 9});
  CHECK(std::ranges::equal(drawn.tokens(), plain.sample({{0}, {0, 3}, {0, 4, 5}}, 4, {.seed = 9}).tokens()));
  const auto n = static_cast<std::size_t>(drawn.response_tokens());
  std::vector<float> a(n), b(n), c(n), d(n), slope(n, 0.5f);
  model.log_probs(drawn, a);
  plain.log_probs(drawn, b);
  split.log_probs(drawn, c);
  start.log_probs(drawn, d);
  CHECK(a == b);
  CHECK(a == c);  // exp(a - c), the ratio, is 1
  CHECK(a == d);  // and of the reference
  w.plain.log_probs(drawn, d);
  CHECK(a != d);
  model.backward(slope);
  plain.backward(slope);
  CHECK(std::ranges::equal(model.gradient(), plain.gradient()));
  // With adapters that are still nothing the model is its start, and what is merged is rounded as a whole.
  align::adapted_policy<rlhf::reference_backend> adapted(w.cpu, w.pool, stored, 3, {.seed = 6}, {});
  adapted.log_probs(drawn, d);
  CHECK(a == d);
  for (float& x : adapted.parameters()) x += 0.03f;
  align::language_model<float> merged(sizes, adapted.merged().parameters);
  CHECK(adapted.merged().net.storage() == align::parameter_storage::bfloat16);
  for (float& p : merged.parameters) p = static_cast<float>(rlhf::bfloat16(p));
  adapted.log_probs(drawn, d);
  policy as_merged(w.cpu, w.pool, merged);
  as_merged.log_probs(drawn, b);
  CHECK(b == d);
  CHECK(a != d);
}

TEST_CASE("a copy goes back by a pass of its own, and going back twice adds the same again") {
  world w;
  using policy = align::language_policy<rlhf::reference_backend>;
  std::vector<float> out(w.tokens), slope(w.tokens);
  for (std::size_t t = 0; t < w.tokens; ++t) slope[t] = 0.25f * static_cast<float>(t) - 1;
  const auto twice = [&](auto& model, auto&& back) {
    const std::vector<float> once(model.gradient().begin(), model.gradient().end());
    back(model);
    for (std::size_t i = 0; i < once.size(); ++i)
      REQUIRE(model.gradient()[i] == Approx(2 * once[i]).epsilon(1e-4).margin(1e-4));
  };
  policy model(w.cpu, w.pool, w.start);
  model.log_probs(w.batch, out);
  policy copied = model;
  const auto back = [&](policy& of) { of.backward(slope); };
  back(model);  // the logits in the memory of both hold their gradient now
  back(copied);
  CHECK(std::ranges::equal(copied.gradient(), model.gradient()));
  twice(model, back);
  align::scalar_model<float> net(w.start);
  for (std::size_t i = 0; i < 25; ++i) net.parameters[net.parameters.size() - 25 + i] = 0.1f;
  align::scalar_policy critic(w.pool, net);
  critic.values(w.batch, out);
  align::scalar_policy other = critic;
  const auto back_values = [&](align::scalar_policy& of) { of.backward_values(slope); };
  back_values(critic);
  back_values(other);
  CHECK(std::ranges::equal(other.gradient(), critic.gradient()));
  twice(critic, back_values);
}

TEST_CASE("a gradient that is added up over passes is that of the whole batch, however it is split") {
  world w;
  w.disturb();
  using policy = align::language_policy<rlhf::reference_backend>;
  std::vector<float> logp(w.tokens), slope(w.tokens), value(w.tokens);
  for (std::size_t t = 0; t < w.tokens; ++t) slope[t] = 0.25f * static_cast<float>(t) - 1;
  policy whole(w.cpu, w.pool, w.start);
  whole.log_probs(w.batch, logp);
  whole.backward(slope);
  align::scalar_policy critic(w.pool, align::scalar_model<float>(w.start));
  for (std::size_t i = 0; i < 25; ++i) critic.parameters()[critic.parameters().size() - 25 + i] = 0.1f;
  const std::vector<float> of_critic(critic.parameters().begin(), critic.parameters().end());
  critic.values(w.batch, value);
  critic.backward_values(slope);
  std::vector<float> joint(w.model.gradient().size());
  w.model.log_probs_and_values(w.batch, logp, value);
  w.model.backward_both(slope, slope);
  std::ranges::copy(w.model.gradient(), joint.begin());
  const auto same = [](std::span<const float> x, std::span<const float> y) {
    double difference = 0, all = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      difference += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
      all += std::pow(static_cast<double>(x[i]), 2);
    }
    REQUIRE(all > 0);
    return difference <= 1e-10 * all;
  };
  for (const std::int64_t tokens : {1, 9, 20}) {
    CAPTURE(tokens);
    const auto memory = std::make_shared<align::pass_memory>(align::pass_limits{.tokens = tokens});
    policy split(w.cpu, w.pool, w.start, {}, memory);
    std::vector<float> again(w.tokens);
    whole.log_probs(w.batch, logp);
    split.log_probs(w.batch, again);
    CHECK(again == logp);
    split.backward(slope);
    CHECK(same(whole.gradient(), split.gradient()));
    align::scalar_policy split_critic(w.pool, align::scalar_model<float>(w.start), true, memory);
    std::ranges::copy(of_critic, split_critic.parameters().begin());
    split_critic.values(w.batch, again);
    split_critic.backward_values(slope);
    CHECK(same(critic.gradient(), split_critic.gradient()));
    align::adapted_policy<rlhf::reference_backend> split_model(w.cpu, w.pool, w.start, 3, {.seed = 6}, {}, memory);
    std::ranges::copy(w.model.parameters(), split_model.parameters().begin());
    split_model.log_probs_and_values(w.batch, again, value);
    split_model.backward_both(slope, slope);
    CHECK(same(joint, split_model.gradient()));
  }
}
