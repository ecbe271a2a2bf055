#pragma once
// Models of ggml behind the concepts of policies: what the loops of train/ want of a network that is not ours.

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "../words.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/interop/ggml.hpp"
#include "rlhf/math/random.hpp"
#include "rlhf/policy/concepts.hpp"

namespace ggml_example {

/// The last tokens' embeddings, a hidden layer, a linear head: what is said after a prefix. Parameters are one flat array, of which the
/// tensors of every graph are windows.
class window_network {
 public:
  static constexpr std::int64_t reach = 6;  ///< tokens that are looked at

  window_network(std::int64_t vocabulary, std::int64_t width, std::int64_t outputs, std::uint64_t seed)
      : shapes_{{width, vocabulary}, {reach * width, 4 * width}, {4 * width, outputs}} {
    const rlhf::random_numbers numbers({.seed = seed});
    for (const shape& s : shapes_)
      for (std::int64_t i = 0; i < s.in * s.out; ++i)
        parameters_.push_back(static_cast<float>(numbers.normal({static_cast<std::uint32_t>(parameters_.size())}) /
                                                 std::sqrt(static_cast<double>(s.in))));
    gradient_.resize(parameters_.size());
  }
  [[nodiscard]] std::span<float> parameters() { return parameters_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }
  [[nodiscard]] std::int64_t outputs() const { return shapes_.back().out; }

  /// The windows, as parameters of a graph that is built in `context`.
  [[nodiscard]] std::vector<ggml_tensor*> weights(ggml_context* context) {
    std::vector<ggml_tensor*> all;
    std::size_t begin = 0;
    ggml_set_no_alloc(context, true);
    for (const shape& s : shapes_) {
      ggml_tensor* const w = ggml_new_tensor_2d(context, GGML_TYPE_F32, s.in, s.out);
      w->data = parameters_.data() + begin;
      ggml_set_param(w);
      begin += static_cast<std::size_t>(s.in * s.out);
      all.push_back(w);
    }
    ggml_set_no_alloc(context, false);
    return all;
  }
  /// `ids` [reach * n]: the tokens that n predictions look at; gives [outputs, n] in ggml's order.
  [[nodiscard]] ggml_tensor* forward(ggml_context* context, const std::vector<ggml_tensor*>& w,
                                     ggml_tensor* ids) const {
    const std::int64_t n = ids->ne[0] / reach;
    ggml_tensor* const seen = ggml_reshape_2d(context, ggml_get_rows(context, w[0], ids), shapes_[1].in, n);
    return ggml_mul_mat(context, w[2], ggml_silu(context, ggml_mul_mat(context, w[1], seen)));
  }

 private:
  struct shape {
    std::int64_t in, out;
  };
  std::vector<shape> shapes_;
  std::vector<float> parameters_, gradient_;
};

//! [graph]
/// A pass over responses: ggml's graph forward, and backward from any slope of its outputs.
class pass {
 public:
  pass(window_network& network, const rlhf::responses& r) : network_(&network) {
    const std::vector<std::int32_t> seen = looked_at(r);
    const auto n = static_cast<std::int64_t>(seen.size()) / window_network::reach;
    const auto numbers = static_cast<std::size_t>(n * (network.outputs() + 2048)) + 4 * network.parameters().size();
    context_.reset(ggml_init({.mem_size = 16 * numbers + (16u << 20), .mem_buffer = nullptr, .no_alloc = false}));
    if (!context_) throw std::bad_alloc();
    ids_ = ggml_new_tensor_1d(context_.get(), GGML_TYPE_I32, std::ssize(seen));
    const rlhf::view<std::int32_t> ids = rlhf::as_view<std::int32_t>(*ids_, "ids");
    std::ranges::copy(seen, ids.data);
    weights_ = network.weights(context_.get());
    outputs_ = network.forward(context_.get(), weights_, ids_);
    graph_ = ggml_new_graph_custom(context_.get(), 256, true);
    ggml_build_forward_expand(graph_, outputs_);
    compute(graph_);
  }
  /// [outputs, response tokens] in ggml's order: for each response token what the network says before it has seen it.
  [[nodiscard]] const ggml_tensor& outputs() const { return *outputs_; }

  /// Adds d loss / d parameters to the gradient, where `set` writes d loss / d outputs into the tensor that it is given.
  template <class Set>
  void backward(Set&& set) {
    // ggml differentiates numbers: of the sum of outputs times slope, with the slope held, the gradient is the one wanted.
    ggml_tensor* const slope = ggml_new_tensor(context_.get(), GGML_TYPE_F32, 2, outputs_->ne);
    set(*slope);
    ggml_tensor* const along = ggml_sum(context_.get(), ggml_mul(context_.get(), outputs_, slope));
    ggml_set_loss(along);
    const int done = ggml_graph_n_nodes(graph_);
    ggml_build_forward_expand(graph_, along);
    ggml_build_backward_expand(context_.get(), graph_, nullptr);
    ggml_graph_reset(graph_);
    // What was computed is still there: only the rest runs.
    ggml_cgraph* const rest = ggml_new_graph_custom(context_.get(), 256, false);
    for (int i = done; i < ggml_graph_n_nodes(graph_); ++i) ggml_graph_add_node(rest, ggml_graph_node(graph_, i));
    compute(rest);

    std::size_t begin = 0;
    for (const ggml_tensor* const w : weights_) {
      const auto g = rlhf::as_view<const float>(*ggml_graph_get_grad(graph_, w), "gradient");
      for (std::int64_t i = 0; i < g.extent; ++i) network_->gradient()[begin + static_cast<std::size_t>(i)] += g[i];
      begin += static_cast<std::size_t>(g.extent);
    }
  }
  //! [graph]

 private:
  /// Before each response token: the last tokens of what stands before it, 0 where there are none.
  [[nodiscard]] static std::vector<std::int32_t> looked_at(const rlhf::responses& r) {
    std::vector<std::int32_t> all;
    for (std::int64_t i = 0; i < r.size(); ++i) {
      std::vector<std::int32_t> text(window_network::reach, 0);
      text.insert(text.end(), r.prompt(i).begin(), r.prompt(i).end());
      for (const std::int32_t token : r.response(i)) {
        all.insert(all.end(), text.end() - window_network::reach, text.end());
        text.push_back(token);
      }
    }
    return all;
  }
  void compute(ggml_cgraph* graph) const {
    if (ggml_graph_compute_with_ctx(context_.get(), graph, 1) != GGML_STATUS_SUCCESS)
      throw std::runtime_error("ggml_graph_compute_with_ctx failed");
  }
  struct release {
    void operator()(ggml_context* c) const { ggml_free(c); }
  };

  window_network* network_;
  std::unique_ptr<ggml_context, release> context_;
  ggml_tensor *ids_, *outputs_;
  std::vector<ggml_tensor*> weights_;
  ggml_cgraph* graph_;
};

//! [policy]
/// A policy: log-probabilities and their gradient by token_logp on ggml's logits where they lie; the network by ggml.
class ggml_policy : public window_network {
 public:
  std::int32_t end_token = words::end;  ///< ends a response and is its last token
  std::int64_t max_tokens = 12;         ///< of a response

  using window_network::window_network;

  void log_probs(const rlhf::responses& r, std::span<float> out) {
    last_ = std::make_unique<pass>(*this, r);
    target_.clear();
    for (std::int64_t i = 0; i < r.size(); ++i)
      target_.insert(target_.end(), r.response(i).begin(), r.response(i).end());
    lse_.resize(target_.size());
    rlhf::or_throw(rlhf::token_logp(cpu_, inputs(), rlhf::logp_outputs<float>{.logp = out, .lse = lse_}));
  }
  void backward(std::span<const float> grad_logp) {
    last_->backward([&](ggml_tensor& slope) {
      rlhf::or_throw(rlhf::token_logp_backward(cpu_, inputs(),
                                               rlhf::logp_gradients<float>{.lse = lse_, .grad_logp = grad_logp},
                                               rlhf::as_view<float, 2>(slope, "slope")));
    });
  }
  //! [policy]

  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    return words::sample_prefixes(prompts, n, key, end_token, max_tokens, [&](const rlhf::responses& next) {
      const pass now(*this, next);
      const auto logits = rlhf::as_view<const float, 2>(now.outputs(), "logits");
      std::vector<float> all;
      for (std::int64_t i = 0; i < logits.rows; ++i) {
        const float* const row = logits.row(i);
        const float largest = *std::max_element(row, row + logits.columns);
        double sum = 0;
        for (std::int64_t v = 0; v < logits.columns; ++v) sum += std::exp(static_cast<double>(row[v] - largest));
        for (std::int64_t v = 0; v < logits.columns; ++v)
          all.push_back(static_cast<float>(std::exp(static_cast<double>(row[v] - largest)) / sum));
      }
      return all;
    });
  }

 private:
  [[nodiscard]] rlhf::logits_inputs<float> inputs() const {
    return {.logits = rlhf::as_view<const float, 2>(last_->outputs(), "logits"), .target = target_};
  }

  rlhf::reference_backend cpu_;
  std::unique_ptr<pass> last_;  // of the last log_probs
  std::vector<std::int32_t> target_;
  std::vector<float> lse_;
};

/// A critic: a network with one output, the value of the state before each response token.
class ggml_critic : public window_network {
 public:
  using window_network::window_network;

  void values(const rlhf::responses& r, std::span<float> out) {
    last_ = std::make_unique<pass>(*this, r);
    const auto v = rlhf::as_view<const float>(last_->outputs(), "values");
    std::copy(v.data, v.data + v.extent, out.begin());
  }
  void backward_values(std::span<const float> grad_value) {
    last_->backward(
        [&](ggml_tensor& slope) { std::ranges::copy(grad_value, rlhf::as_view<float>(slope, "slope").data); });
  }

 private:
  std::unique_ptr<pass> last_;
};

static_assert(rlhf::trainable_policy<ggml_policy> && rlhf::sampling_policy<ggml_policy>);
static_assert(rlhf::trainable_critic<ggml_critic>);

}  // namespace ggml_example
