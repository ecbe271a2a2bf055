// libtorch beside us: views of its tensors, and the losses and gradients of our loops over its networks against its autograd.

#include <ATen/core/ivalue.h>  // first: see examples/torch/models.hpp

#include <ATen/DLConvertor.h>
#include <torch/autograd.h>
#include <torch/nn.h>

#include <cmath>
#include <functional>
#include <string>

#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/interop/dlpack.hpp"
#include "rlhf/objective/aggregate.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"
#include "support/catch.hpp"
#include "torch/models.hpp"

using namespace rlhf;
using torch::Tensor;
using torch_example::flat_model;
using torch_example::gru_network;
using torch_example::torch_critic;
using torch_example::torch_policy;

namespace {

constexpr std::int64_t vocabulary = 11, width = 12;
using policy = torch_policy<gru_network>;
using critic = torch_critic<gru_network>;

std::shared_ptr<gru_network> network(std::uint64_t seed, std::int64_t outputs = vocabulary) {
  torch::manual_seed(seed);
  return std::make_shared<gru_network>(vocabulary, width, outputs);
}

/// The same numbers as torch computes them, with its graph: [response tokens].
Tensor torch_logp(policy& p, const responses& r) {
  std::vector<std::int64_t> target;
  for (std::int64_t i = 0; i < r.size(); ++i) target.insert(target.end(), r.response(i).begin(), r.response(i).end());
  return torch::log_softmax(p.before_tokens(r), 1)
      .gather(1, torch::tensor(target, torch::kLong).unsqueeze(1))
      .squeeze(1);
}
/// Sums over responses [r.size()].
Tensor per_response(const Tensor& tokens, const responses& r) {
  std::vector<Tensor> sums;
  for (std::int64_t i = 0; i < r.size(); ++i) {
    const auto at = r.response_offsets().subspan(static_cast<std::size_t>(i), 2);
    sums.push_back(tokens.slice(0, at[0], at[1]).sum());
  }
  return torch::stack(sums);
}
Tensor tensor_of(std::span<const float> x) { return torch::tensor(at::ArrayRef<float>(x.data(), x.size())); }

/// Largest difference, as a part of the largest element.
double difference(const Tensor& got, const Tensor& wants) {
  return (got - wants).abs().max().item<double>() / wants.abs().max().item<double>();
}

/// What torch makes of a loss: its value and its gradient, laid out as our flat one. Leaves the model's gradient alone.
struct answer {
  double loss = 0;
  Tensor gradient;
};
template <class Network>
answer autograd(const Tensor& loss, flat_model<Network>& model) {
  std::vector<Tensor> flat;
  for (const Tensor& g : torch::autograd::grad({loss}, model.network().parameters())) flat.push_back(g.flatten());
  return {loss.item<double>(), torch::cat(flat)};
}

/// A model that holds every gradient it is given against autograd's of `loss`, of the batch it has just seen.
template <class Model>
class compared : public Model {
 public:
  using Model::Model;
  std::function<Tensor(const responses&)> loss;
  std::vector<double> wanted;  ///< torch's losses
  double worst = 0;            ///< difference of the gradients

  void log_probs(const responses& r, std::span<float> out) {
    last_ = r;
    Model::log_probs(r, out);
  }
  void values(const responses& r, std::span<float> out) {
    last_ = r;
    Model::values(r, out);
  }
  void backward(std::span<const float> g) {
    Model::backward(g);
    compare();
  }
  void backward_values(std::span<const float> g) {
    Model::backward_values(g);
    compare();
  }

 private:
  void compare() {
    const answer torch_says = autograd(loss(last_), *this);
    wanted.push_back(torch_says.loss);
    worst = std::max(worst, difference(tensor_of(this->gradient()), torch_says.gradient));
  }
  responses last_;
};

/// How far a loop's losses are from torch's.
double loss_difference(const std::vector<double>& got, const std::vector<double>& wanted) {
  REQUIRE(got.size() == wanted.size());
  REQUIRE(!got.empty());
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, std::abs(got[i] - wanted[i]) / std::abs(wanted[i]));
  return worst;
}

prompt_list prompts() { return {{1}, {2, 3}, {4}, {5, 6, 7}, {8}, {9, 10}}; }

responses some_responses(std::uint64_t seed) {
  policy p(network(50));
  return p.sample(prompts(), 2, {seed, 1});
}

parameter_update<constant_schedule> steps_of(double rate) { return {.rate = {rate}}; }

/// Rewards that differ.
struct counts_threes {
  void rewards(const responses& r, std::span<float> out) const {
    for (std::int64_t i = 0; i < r.size(); ++i)
      out[static_cast<std::size_t>(i)] =
          static_cast<float>(std::ranges::count(r.response(i), 3)) - 0.1f * static_cast<float>(r.response(i).size());
  }
};

}  // namespace

TEST_CASE("views of torch's tensors, without a copy") {
  const Tensor x = torch::arange(24, torch::kFloat).view({4, 6});
  const auto m = as_view<float, 2>(x.slice(1, 1, 4));
  CHECK(m.data == x.data_ptr<float>() + 1);
  CHECK(m.rows == 4);
  CHECK(m.columns == 3);
  CHECK(m.pitch == 6);
  m.row(2)[0] = -1;
  CHECK(x[2][1].item<float>() == -1);
  const auto column = as_view<const float>(x.select(1, 5));
  CHECK(column.stride == 6);
  CHECK(column[3] == 23);

  CHECK(as_view<const float>(x).extent == 24);  // sequences and tokens: the slots of a padded layout
  const auto rows = as_view<const float, 2>(x.view({2, 2, 6}));
  CHECK((rows.rows == 4 && rows.columns == 6));

  const Tensor half = torch::tensor({1.5f, -2.25f});
  const auto as_float = [](const auto& v) { return std::vector<float>{float{v[0]}, float{v[1]}}; };
  const Tensor b = half.to(torch::kBFloat16), h = half.to(torch::kHalf);
  CHECK(as_float(as_view<const bfloat16>(b)) == std::vector<float>{1.5f, -2.25f});
  CHECK(as_float(as_view<const float16>(h)) == std::vector<float>{1.5f, -2.25f});
  const Tensor mask = half > 0, ids = torch::tensor({7, 8}, torch::kInt);
  const mask_view<> keep = as_view<const std::uint8_t>(mask);
  CHECK(keep[0] == 1);
  CHECK(keep[1] == 0);
  CHECK(as_view<const std::int32_t>(ids)[1] == 8);

  const auto refusal = [](const Tensor& t) -> std::string {
    view<float> out;
    return as_view(t, out, "logp", "score").message().c_str();
  };
  CHECK(refusal({}) == "score: logp is not defined, wants a tensor");
  CHECK(refusal(torch::zeros(3, torch::kDouble)) == "score: logp is Double, wants Float");
  CHECK(refusal(torch::zeros({3, 2}).t()) ==
        "score: logp has gaps between dimensions, of which it has 2, wants one stride between all elements, for a view "
        "of rank 1");
  CHECK(refusal(torch::zeros(1).expand({3})) == "score: logp has stride 0, wants 1 or more, to be written to");
  CHECK(refusal(torch::zeros(3, torch::kMeta)) == "score: logp is on another device, wants host memory");
  CHECK(refusal(torch::zeros(3).to_sparse()) == "score: logp is not strided, wants a dense tensor");
  CHECK(refusal(torch::zeros(3)) == "ok");
  CHECK_THROWS_WITH((as_view<const float, 2>(x.t(), "logits")),
                    "as_view: logits has columns at a distance of 6, wants 1");
}

TEST_CASE("the same tensors by DLPack") {
  const Tensor x = torch::arange(24, torch::kFloat).view({4, 6});
  DLManagedTensor* const owned = at::toDLPack(x.slice(1, 1, 4));
  const auto m = as_view<const float, 2>(*owned);
  CHECK(m.data == x.data_ptr<float>() + 1);
  CHECK((m.rows == 4 && m.columns == 3 && m.pitch == 6));
  view<const double, 2> other;
  CHECK(std::string(as_view(owned->dl_tensor, other, "logits").message().c_str()) ==
        "as_view: logits is float32, wants float64");
  owned->deleter(owned);
}

TEST_CASE("a gradient adds up in the flat array, and a copy has the same log-probabilities") {
  policy p(network(1)), q(network(2));
  const responses r = some_responses(1);
  const auto n = static_cast<std::size_t>(r.response_tokens());
  std::vector<float> logp(n), other(n);
  const std::vector<float> g(n, 0.5f);
  q.copy(p);
  p.log_probs(r, logp);
  q.log_probs(r, other);
  CHECK(logp == other);
  CHECK(difference(tensor_of(logp), torch_logp(p, r)) < 1e-6);
  p.backward(g);
  const Tensor once = tensor_of(p.gradient());
  p.log_probs(r, logp);
  p.backward(g);
  CHECK(difference(tensor_of(p.gradient()), 2 * once) < 1e-6);
  CHECK(p.sample(prompts(), 3, {7, 7}).tokens().size() == q.sample(prompts(), 3, {7, 7}).tokens().size());
}

TEST_CASE("SFT: loss and gradient of each update are autograd's") {
  reference_backend cpu;
  compared<policy> p(network(3));
  p.loss = [&](const responses& r) { return -torch_logp(p, r).mean(); };
  auto update = steps_of(0.02);
  std::vector<double> losses;
  train_supervised(cpu, p, update, some_responses(2), {.batch = 5, .epochs = 3, .key = {1, 1}},
                   [&](const progress& now) { losses.push_back((*now.metrics)["loss"]); });
  CHECK(losses.size() == 9);
  CHECK(p.worst < 1e-5);
  CHECK(loss_difference(losses, p.wanted) < 1e-5);
  CHECK(losses.back() < losses.front());
}

TEST_CASE("DPO: loss and gradient of each update are autograd's") {
  reference_backend cpu;
  constexpr double beta = 0.3, flipped = 0.1;
  policy reference(network(4));
  compared<policy> p(network(5));
  p.loss = [&](const responses& both) {
    const Tensor ratio = per_response(torch_logp(p, both) - torch_logp(reference, both).detach(), both);
    const std::int64_t n = both.size() / 2;
    const Tensor margin = beta * (ratio.slice(0, 0, n) - ratio.slice(0, n));
    return -((1 - flipped) * torch::log_sigmoid(margin) + flipped * torch::log_sigmoid(-margin)).mean();
  };
  auto update = steps_of(0.02);
  std::vector<double> losses;
  train_preference(cpu, p, reference, update,
                   preference_pairs{.chosen = some_responses(3), .rejected = some_responses(4)},
                   {.batch = 4, .epochs = 3, .key = {1, 2}}, dpo{.beta = beta, .label_smoothing = flipped},
                   [&](const progress& now) { losses.push_back((*now.metrics)["loss"]); });
  CHECK(losses.size() == 9);
  CHECK(p.worst < 1e-5);
  CHECK(loss_difference(losses, p.wanted) < 1e-5);
}

TEST_CASE("PPO: shaping, advantages, both losses and both gradients are torch's") {
  reference_backend cpu;
  policy reference(network(6));
  compared<policy> p(network(7));
  compared<critic> v(network(8, 1));
  const ppo algorithm{};
  rollout sampled;
  Tensor advantage, returns, old_value;

  // Everything of an iteration, in torch and in double, from the rollout that the loop shows.
  struct observer {
    std::function<void(const rollout&)> prepare;
    std::function<void(const iteration&)> after;
    void sampled(const rollout& r) const { prepare(r); }
    void operator()(const iteration& now) const { after(now); }
  };
  std::vector<double> policy_loss, value_loss, clipped;
  const observer observe{[&](const rollout& r) {
                           sampled = r;
                           const torch::NoGradGuard no_graph;
                           old_value = v.before_tokens(r.batch).squeeze(1).to(torch::kDouble);
                           Tensor reward = -algorithm.reward.coefficient *
                                           (tensor_of(r.old_logp) - tensor_of(r.ref_logp)).to(torch::kDouble);
                           advantage = torch::zeros_like(reward);
                           for (std::int64_t i = 0; i < r.batch.size(); ++i) {
                             const auto at = r.batch.response_offsets().subspan(static_cast<std::size_t>(i), 2);
                             reward[at[1] - 1] += static_cast<double>(r.score[static_cast<std::size_t>(i)]);
                             double next = 0, carried = 0;
                             for (std::int64_t t = at[1] - 1; t >= at[0]; --t) {
                               const double now = old_value[t].item<double>();
                               carried = reward[t].item<double>() + algorithm.estimator.gamma * next - now +
                                         algorithm.estimator.gamma * algorithm.estimator.lambda * carried;
                               advantage[t] = carried;
                               next = now;
                             }
                           }
                           returns = advantage + old_value;
                           advantage = (advantage - advantage.mean()) / (advantage.var() + 1e-8).sqrt();
                         },
                         [&](const iteration& now) {
                           policy_loss.push_back((*now.metrics)["loss/policy_avg"]);
                           value_loss.push_back((*now.metrics)["loss/value_avg"]);
                           clipped.push_back((*now.metrics)["policy/clipfrac_avg"]);
                         }};
  // One minibatch an epoch, so that the order in which the loop shuffled it does not matter.
  p.loss = [&](const responses&) {
    const Tensor ratio = torch::exp(torch_logp(p, sampled.batch) - tensor_of(sampled.old_logp));
    return -torch::min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean();
  };
  v.loss = [&](const responses&) {
    const Tensor value = v.before_tokens(sampled.batch).squeeze(1);
    const Tensor held = old_value + (value - old_value).clamp(-0.2, 0.2);
    return 0.5 * torch::max((value - returns).square(), (held - returns).square()).mean();
  };
  auto policy_update = steps_of(0.03), critic_update = steps_of(0.05);
  counts_threes reward;
  constexpr std::int64_t iterations = 3, epochs = 4;
  train_ppo(
      cpu, algorithm, p, v, reference, reward, policy_update, critic_update, [](std::int64_t) { return prompts(); },
      {.iterations = iterations, .samples = 3, .epochs = epochs, .minibatch = 64, .key = {3, 3}}, observe);

  CHECK(p.wanted.size() == iterations * epochs);
  CHECK(v.wanted.size() == iterations * epochs);
  CHECK(p.worst < 1e-5);
  CHECK(v.worst < 1e-5);
  CHECK(clipped.back() > 0.05);  // or the clip has not been tried
  const auto means = [&](const std::vector<double>& each) {
    std::vector<double> out;
    for (std::size_t i = 0; i < each.size(); i += epochs) {
      double sum = 0;
      for (std::size_t k = 0; k < epochs; ++k) sum += each[i + k];
      out.push_back(sum / epochs);
    }
    return out;
  };
  CHECK(loss_difference(policy_loss, means(p.wanted)) < 1e-5);
  CHECK(loss_difference(value_loss, means(v.wanted)) < 1e-5);
}

TEST_CASE("PPO's clip with KL in the loss, and the mean of each response: a call of ours in a loop of torch's") {
  reference_backend cpu;
  policy p(network(9)), old(network(10)), reference(network(11));
  const responses r = some_responses(5);
  const auto n = static_cast<std::size_t>(r.response_tokens());
  std::vector<float> logp(n), old_logp(n), ref_logp(n), gradient(n);
  reference.log_probs(r, ref_logp);
  old.log_probs(r, old_logp);
  p.log_probs(r, logp);
  const Tensor advantage = torch::randn(static_cast<std::int64_t>(n));
  float loss = 0;
  statistics seen;
  const policy_loss<ppo_clip, kl_penalty<k3>, row_mean> call{{.low = 0.2, .high = 0.28}, {k3{}, 0.07}, {}};
  or_throw(call(cpu, r.layout(),
                token_inputs<float>{.logp = logp,
                                    .old_logp = old_logp,
                                    .ref_logp = ref_logp,
                                    .advantage = as_view<const float>(advantage, "advantage")},
                token_outputs<float>{.loss = {&loss, 1}, .grad_logp = gradient, .stats = &seen}));
  p.backward(gradient);

  const Tensor mine = torch_logp(p, r), d = tensor_of(ref_logp) - mine, ratio = torch::exp(mine - tensor_of(old_logp));
  const Tensor token = -torch::min(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage) + 0.07 * (d.exp() - d - 1);
  std::vector<Tensor> means;
  for (std::int64_t i = 0; i < r.size(); ++i) {
    const auto at = r.response_offsets().subspan(static_cast<std::size_t>(i), 2);
    means.push_back(token.slice(0, at[0], at[1]).mean());
  }
  const answer torch_says = autograd(torch::stack(means).mean(), p);
  CHECK(static_cast<double>(loss) == Approx(torch_says.loss).epsilon(1e-5));
  CHECK(difference(tensor_of(p.gradient()), torch_says.gradient) < 1e-5);
  CHECK(seen["clip_fraction"] > 0.05);
}
