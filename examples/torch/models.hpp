#pragma once
// Models of libtorch behind the concepts of policies: what the loops of train/ want of a network that is not ours.

#include <ATen/core/ivalue.h>  // first: in C++20 clang cannot read torch 1.13's headers the other way round

#include <torch/nn.h>

#include <algorithm>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "../words.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/interop/torch.hpp"
#include "rlhf/policy/concepts.hpp"

namespace torch_example {

/// Embedding, GRU, linear head: tokens [sequences, length] to outputs [sequences, length, outputs]. A plain torch module, which
/// has never heard of rlhf.
struct gru_network : torch::nn::Module {
  torch::nn::Embedding embedding{nullptr};
  torch::nn::GRU memory{nullptr};
  torch::nn::Linear head{nullptr};

  gru_network(std::int64_t vocabulary, std::int64_t width, std::int64_t outputs) {
    embedding = register_module("embedding", torch::nn::Embedding(vocabulary, width));
    memory = register_module("memory", torch::nn::GRU(torch::nn::GRUOptions(width, width).batch_first(true)));
    head = register_module("head", torch::nn::Linear(width, outputs));
  }
  torch::Tensor forward(const torch::Tensor& tokens) {
    return head->forward(std::get<0>(memory->forward(embedding->forward(tokens))));
  }
};

//! [parameters]
/// What policy and critic share: parameters and gradient as flat arrays, and outputs where response tokens are predicted.
template <class Network>
class flat_model {
 public:
  explicit flat_model(std::shared_ptr<Network> network) : network_(std::move(network)) {
    std::int64_t count = 0, begin = 0;
    for (const torch::Tensor& p : network_->parameters()) count += p.numel();
    parameters_ = torch::empty({count});
    gradient_ = torch::zeros({count});
    // From here on each parameter, and its gradient, is a window of the flat ones: an optimiser's step is seen at once.
    for (torch::Tensor& p : network_->parameters()) {
      const auto window = [&](torch::Tensor& all) { return all.narrow(0, begin, p.numel()).view(p.sizes()); };
      window(parameters_).copy_(p.detach());
      p.set_data(window(parameters_));
      p.mutable_grad() = window(gradient_);
      begin += p.numel();
    }
  }
  [[nodiscard]] std::span<float> parameters() { return span_of(parameters_); }
  [[nodiscard]] std::span<float> gradient() { return span_of(gradient_); }
  //! [parameters]
  [[nodiscard]] Network& network() { return *network_; }

  /// Parameters as another model has them.
  void copy(flat_model& other) { std::ranges::copy(other.parameters(), parameters().begin()); }
  /// Nothing will be learnt: torch need not remember how outputs came about.
  void freeze() {
    for (torch::Tensor& p : network_->parameters()) p.requires_grad_(false);
  }

  /// The network's outputs [response tokens, outputs]; row t is what the network says before it has seen response token t.
  [[nodiscard]] torch::Tensor before_tokens(const rlhf::responses& r) {
    std::int64_t longest = 0;
    for (std::int64_t i = 0; i < r.size(); ++i) longest = std::max(longest, length(r, i));
    torch::Tensor tokens = torch::zeros({r.size(), longest}, torch::kLong);  // padded at the end, which no GRU looks at
    std::vector<std::int64_t> before;
    for (std::int64_t i = 0; i < r.size(); ++i) {
      std::int64_t* const row = tokens.data_ptr<std::int64_t>() + i * longest;
      std::ranges::copy(r.response(i), std::ranges::copy(r.prompt(i), row).out);
      for (auto t = std::ssize(r.prompt(i)); t < length(r, i); ++t) before.push_back(i * longest + t - 1);
    }
    return network_->forward(tokens).flatten(0, 1).index_select(0, torch::tensor(before, torch::kLong));
  }

 private:
  [[nodiscard]] static std::int64_t length(const rlhf::responses& r, std::int64_t i) {
    return std::ssize(r.prompt(i)) + std::ssize(r.response(i));
  }
  [[nodiscard]] static std::span<float> span_of(const torch::Tensor& flat) {
    const rlhf::view<float> v = rlhf::as_view<float>(flat);
    return {v.data, static_cast<std::size_t>(v.extent)};
  }

  std::shared_ptr<Network> network_;
  torch::Tensor parameters_, gradient_;
};

//! [policy]
/// A policy: log-probabilities and their gradient by token_logp on torch's logits where they lie; the network by autograd.
template <class Network>
class torch_policy : public flat_model<Network> {
 public:
  std::int32_t end_token = 0;    ///< ends a response and is its last token
  std::int64_t max_tokens = 12;  ///< of a response

  using flat_model<Network>::flat_model;

  void log_probs(const rlhf::responses& r, std::span<float> out) {
    logits_ = this->before_tokens(r);
    target_.clear();
    for (std::int64_t i = 0; i < r.size(); ++i)
      target_.insert(target_.end(), r.response(i).begin(), r.response(i).end());
    lse_.resize(target_.size());
    const auto logits = rlhf::as_view<const float, 2>(logits_, "logits");
    rlhf::or_throw(rlhf::token_logp(cpu_, rlhf::logits_inputs<float>{.logits = logits, .target = target_},
                                    rlhf::logp_outputs<float>{.logp = out, .lse = lse_}));
  }

  void backward(std::span<const float> grad_logp) {
    const torch::Tensor slope = torch::empty_like(logits_);
    const auto logits = rlhf::as_view<const float, 2>(logits_, "logits");
    rlhf::or_throw(rlhf::token_logp_backward(cpu_, rlhf::logits_inputs<float>{.logits = logits, .target = target_},
                                             rlhf::logp_gradients<float>{.lse = lse_, .grad_logp = grad_logp},
                                             rlhf::as_view<float, 2>(slope, "slope")));
    logits_.backward(slope);
  }
  //! [policy]

  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    const torch::NoGradGuard no_graph;
    return words::sample_prefixes(prompts, n, key, end_token, max_tokens, [&](const rlhf::responses& next) {
      const torch::Tensor p = torch::softmax(this->before_tokens(next), 1);
      const auto all = rlhf::as_view<const float>(p);
      return std::vector<float>(all.data, all.data + all.extent);
    });
  }

 private:
  rlhf::reference_backend cpu_;
  torch::Tensor logits_;  // of the last log_probs, with torch's graph behind them
  std::vector<std::int32_t> target_;
  std::vector<float> lse_;
};

/// A critic: a network with one output, the value of the state before each response token.
template <class Network>
class torch_critic : public flat_model<Network> {
 public:
  using flat_model<Network>::flat_model;

  void values(const rlhf::responses& r, std::span<float> out) {
    values_ = this->before_tokens(r).squeeze(1);
    const rlhf::view<const float> v = rlhf::as_view<const float>(values_, "values");
    for (std::int64_t t = 0; t < v.extent; ++t) out[static_cast<std::size_t>(t)] = v[t];
  }
  void backward_values(std::span<const float> grad_value) {
    values_.backward(torch::from_blob(const_cast<float*>(grad_value.data()), {std::ssize(grad_value)}));
  }

 private:
  torch::Tensor values_;
};

static_assert(rlhf::trainable_policy<torch_policy<gru_network>> && rlhf::sampling_policy<torch_policy<gru_network>>);
static_assert(rlhf::trainable_critic<torch_critic<gru_network>>);

}  // namespace torch_example
