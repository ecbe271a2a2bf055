// Hydra-PPO on a toy with a frozen table, a low-rank adapter and two heads.

#include "rlhf/train/hydra.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

/// One or two tokens to one prompt. Logits of a prefix: W + A B with the adapter on, W without; the value is a head on the adapted
/// trunk A and a number of the prefix. A starts at noise and B at 0, as adapters do.
class toy {
 public:
  static constexpr std::size_t v = vocabulary, rows = 1 + v, rank = v;

  explicit toy(const std::vector<float>& base)
      : base_(base), length_(base.size() == v ? 1 : 2), parameters_(rows * rank + rank * v + rows + rank) {
    const random_numbers numbers({2, 2});
    for (std::uint32_t i = 0; i < rows * rank; ++i) parameters_[i] = static_cast<float>(numbers.normal({i}));
    gradient_ = parameters_;
    std::fill(gradient_.begin(), gradient_.end(), 0.0f);
  }
  std::span<float> parameters() { return parameters_; }
  std::span<float> gradient() { return gradient_; }
  void adapters(bool on) { on_ = on; }
  [[nodiscard]] bool adapted() const { return on_; }

  void log_probs(const responses& batch, std::span<float> out) { forward(batch, out, {}); }
  void log_probs_and_values(const responses& batch, std::span<float> logp, std::span<float> value) {
    ++passes;
    forward(batch, logp, value);
  }
  void backward_both(std::span<const float> g_logp, std::span<const float> g_value) {
    ++passes_back;
    std::size_t t = 0;
    each(last_, [&](std::size_t row, std::size_t token) {
      const std::vector<double> p = softmax(row);
      const double g = static_cast<double>(g_logp[t]), gv = static_cast<double>(g_value[t]);
      for (std::size_t r = 0; r < rank; ++r) {
        double into = gv * head(r);
        for (std::size_t k = 0; k < v; ++k) {
          const double slope = g * ((k == token ? 1.0 : 0.0) - p[k]);
          into += slope * static_cast<double>(parameters_[rows * rank + r * v + k]);
          add(rows * rank + r * v + k, slope * a(row, r));
        }
        add(row * rank + r, into);
        add(parameters_.size() - rank + r, gv * a(row, r));
      }
      add(rows * rank + rank * v + row, gv);
      ++t;
    });
  }
  [[nodiscard]] responses sample(const prompt_list& prompts, std::int64_t n, random_key key) {
    return as_table().sample(prompts, n, key);
  }
  /// The policy as a table.
  [[nodiscard]] tabular_policy as_table() const {
    tabular_policy out(1, vocabulary, length_);
    for (std::size_t i = 0; i < base_.size(); ++i) out.parameters()[i] = static_cast<float>(logit(i / v, i % v));
    return out;
  }
  std::int64_t passes = 0, passes_back = 0;

 private:
  [[nodiscard]] double a(std::size_t row, std::size_t r) const {
    return static_cast<double>(parameters_[row * rank + r]);
  }
  [[nodiscard]] double head(std::size_t r) const {
    return static_cast<double>(parameters_[parameters_.size() - rank + r]);
  }
  void add(std::size_t i, double x) { gradient_[i] += static_cast<float>(x); }
  [[nodiscard]] double logit(std::size_t row, std::size_t k) const {
    double z = static_cast<double>(base_[row * v + k]);
    if (on_)
      for (std::size_t r = 0; r < rank; ++r) z += a(row, r) * static_cast<double>(parameters_[rows * rank + r * v + k]);
    return z;
  }
  [[nodiscard]] std::vector<double> softmax(std::size_t row) const {
    std::vector<double> p(v);
    double sum = 0;
    for (std::size_t k = 0; k < v; ++k) sum += p[k] = std::exp(logit(row, k));
    for (double& x : p) x /= sum;
    return p;
  }
  template <class F>
  void each(const responses& batch, F&& f) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      std::size_t row = 0;
      for (const std::int32_t token : batch.response(i)) {
        f(row, static_cast<std::size_t>(token));
        row = 1 + static_cast<std::size_t>(token);
      }
    }
  }
  void forward(const responses& batch, std::span<float> logp, std::span<float> value) {
    last_ = batch;
    std::size_t t = 0;
    each(batch, [&](std::size_t row, std::size_t token) {
      logp[t] = static_cast<float>(std::log(softmax(row)[token]));
      if (!value.empty()) {
        double found = static_cast<double>(parameters_[rows * rank + rank * v + row]);
        for (std::size_t r = 0; r < rank; ++r) found += a(row, r) * head(r);
        value[t] = static_cast<float>(found);
      }
      ++t;
    });
  }

  std::vector<float> base_;
  std::int64_t length_;
  std::vector<float> parameters_, gradient_;
  bool on_ = true;
  responses last_;
};
static_assert(joint_actor_critic<toy> && has_adapters<toy> && sampling_policy<toy>);

}  // namespace

TEST_CASE("a fresh adapter changes nothing, and a trained one comes off without a trace") {
  world w;
  toy model(bits(w.reference.parameters()));
  adapters_off<toy> reference(model);
  const responses all = all_responses(vocabulary);
  std::vector<float> start(32), with(32), without(32);
  reference.log_probs(all, start);
  model.log_probs(all, with);
  CHECK(start == with);
  for (std::size_t i = 0; i < model.parameters().size(); ++i) model.parameters()[i] += 0.1f * static_cast<float>(i % 5);
  model.log_probs(all, with);
  reference.log_probs(all, without);
  CHECK(start == without);
  CHECK(start != with);
  CHECK(model.adapted());
}

TEST_CASE("Hydra-PPO reaches the optimum of reward less KL with one pass for actor and critic") {
  world w(vocabulary, GENERATE(1, 2));
  toy model(bits(w.reference.parameters()));
  parameter_update<cosine_schedule> update{{.rate = 0.03, .total = 600}, {{.weight_decay = 0}}, 1e9};
  hydra_ppo<> algorithm{.value_weight = 0.5};
  algorithm.algorithm.reward.coefficient = 0.5;
  algorithm.algorithm.estimator.lambda = 1;
  algorithm.algorithm.whiten_advantages = false;
  algorithm.algorithm.critic.clip = infinity;
  statistics seen;
  train_hydra_ppo(
      w.cpu, algorithm, model, w.reward, update, [](std::int64_t) { return prompts(1024); },
      {.iterations = 300, .epochs = 2, .minibatch = 1024, .key = {1, 100}},
      [&](const iteration& i) { seen = *i.metrics; });
  tabular_policy reached = model.as_table();
  CHECK(w.distance(reached, 0.5) < 1e-2);
  CHECK(model.passes == 300 + 600);  // a rollout's values come with its log-probabilities
  CHECK(model.passes_back == 600);
  for (const char* name : {"objective/kl", "policy/approxkl_avg", "val/clipfrac_avg", "loss/value_avg", "grad_norm"}) {
    CAPTURE(name);
    CHECK(seen.find(name) != nullptr);
  }
}

TEST_CASE("the gradient of both losses is the sum of theirs") {
  world w;
  toy model(bits(w.reference.parameters()));
  for (float& x : model.parameters()) x += 0.1f;
  const responses all = all_responses(vocabulary);
  std::vector<float> logp(32), value(32), zero(32, 0.0f), g(32);
  for (std::size_t t = 0; t < 32; ++t) g[t] = 0.01f * static_cast<float>(t) - 0.1f;
  const auto back = [&](const std::vector<float>& a, const std::vector<float>& b) {
    std::fill(model.gradient().begin(), model.gradient().end(), 0.0f);
    model.log_probs_and_values(all, logp, value);
    model.backward_both(a, b);
    return bits(model.gradient());
  };
  const auto both = back(g, g), policy = back(g, zero), critic = back(zero, g);
  for (std::size_t i = 0; i < both.size(); ++i) CHECK(both[i] == Approx(policy[i] + critic[i]).margin(1e-5));
}

TEST_CASE("a Hydra-PPO run that goes on from what it saved ends with the same bits") {
  world w;
  const auto ask = [](std::int64_t i) { return prompts(static_cast<std::size_t>(20 + i)); };
  toy whole(bits(w.reference.parameters())), parts = whole;
  auto update = steps_of(0.03), part_update = update;
  on_policy_options options{.iterations = 5, .epochs = 2, .minibatch = 8, .key = {1, 100}};
  train_hydra_ppo(w.cpu, hydra_ppo<>{}, whole, w.reward, update, ask, options);
  for (const auto& [done, iterations] : {std::pair{0, 2}, std::pair{2, 5}}) {
    options.done = done;
    options.iterations = iterations;
    train_hydra_ppo(w.cpu, hydra_ppo<>{}, parts, w.reward, part_update, ask, options);
  }
  CHECK(bits(whole.parameters()) == bits(parts.parameters()));
}

TEST_CASE("one trunk takes less memory than four") {
  const ppo_memory m{.parameters = 1e9, .adapter = 1e7};
  CHECK(m.full() == 36e9);
  CHECK(m.lora() == 8e9 + 2 * 16e7);
  CHECK(m.hydra() == 2e9 + 2 * 16e7);
  CHECK(m.joint_hydra() == 2e9 + 16e7);
}
