#pragma once
// A transformer with its parameters: as a language model, and with a scalar head as a reward or value model.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "align/model/transformer.hpp"

namespace align {

/// A language model: architecture and parameters. Copy it to keep a reference policy; what is made of it stores its weights as it does.
template <class Scalar>
struct language_model {
  transformer<Scalar> net;
  std::vector<Scalar> parameters;

  explicit language_model(const transformer_options& options, rlhf::random_key key = {},
                          parameter_storage storage = parameter_storage::full)
      : net(options, storage), parameters(static_cast<std::size_t>(net.size())) {
    net.initialize(parameters, key);
  }
  /// With parameters from elsewhere; std::invalid_argument where their number is wrong.
  language_model(const transformer_options& options, std::vector<Scalar> from,
                 parameter_storage storage = parameter_storage::full)
      : net(options, storage), parameters(std::move(from)) {
    if (static_cast<std::int64_t>(parameters.size()) != net.size())
      throw std::invalid_argument("language_model: " + std::to_string(parameters.size()) + " parameters, wanted " +
                                  std::to_string(net.size()));
  }

  void forward(rlhf::thread_pool& pool, const token_batch& batch, workspace<Scalar>& work,
               activation_storage keep = activation_storage::full) const {
    net.forward(pool, parameters, batch, work, keep);
  }
  void logits(rlhf::thread_pool& pool, const workspace<Scalar>& work, std::span<const std::int64_t> rows,
              std::span<Scalar> logits) const {
    net.logits(pool, work, rows, logits);
  }
  /// gradient [parameters.size()] += that of the loss.
  void backward(rlhf::thread_pool& pool, workspace<Scalar>& work, const output_gradient<Scalar>& output,
                std::span<Scalar> gradient) const {
    net.backward(pool, parameters, work, output, gradient);
  }
};

/// value[i] = <weight, hidden state of token rows[i]> + bias; `head` [dimension + 1] is the weight, then the bias.
template <class Scalar>
void scalar_head(const workspace<Scalar>& work, std::span<const std::int64_t> rows, std::span<const Scalar> head,
                 std::span<Scalar> values) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::span<const Scalar> hidden = work.hidden(rows[i]);
    Scalar sum = 0;
    for (std::size_t j = 0; j < hidden.size(); ++j) sum += head[j] * hidden[j];
    values[i] = sum + head[hidden.size()];
  }
}

/// d_hidden [tokens, dimension] += and d_head [dimension + 1] += the gradients, given those of the values.
template <class Scalar>
void scalar_head_backward(const workspace<Scalar>& work, std::span<const std::int64_t> rows,
                          std::span<const Scalar> head, std::span<const Scalar> d_values, std::span<Scalar> d_hidden,
                          std::span<Scalar> d_head) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::span<const Scalar> hidden = work.hidden(rows[i]);
    Scalar* const to = d_hidden.data() + static_cast<std::size_t>(rows[i]) * hidden.size();
    for (std::size_t j = 0; j < hidden.size(); ++j) {
      to[j] += d_values[i] * head[j];
      d_head[j] += d_values[i] * hidden[j];
    }
    d_head[hidden.size()] += d_values[i];
  }
}

/// A transformer that puts out a number per token instead of logits: a value model reads it at every prediction, a
/// reward model at the last token. `parameters` holds the trunk's, then the head's weight and bias (zero at first), which are read
/// as they are however the trunk's weights are stored.
template <class Scalar>
struct scalar_model {
  transformer<Scalar> net;
  std::vector<Scalar> parameters;

  /// With a random trunk.
  explicit scalar_model(const transformer_options& options, rlhf::random_key key = {},
                        parameter_storage storage = parameter_storage::full)
      : net(options, storage), parameters(static_cast<std::size_t>(net.size() + options.dimension + 1)) {
    net.initialize(trunk(), key);
  }
  /// With the trunk of a language model, as reward and value models are usually started.
  explicit scalar_model(const language_model<Scalar>& from) : net(from.net), parameters(from.parameters) {
    parameters.resize(parameters.size() + static_cast<std::size_t>(net.options().dimension + 1));
  }

  /// The trunk's tensors, then "head.weight" and "head.bias".
  [[nodiscard]] std::vector<parameter_slice> slices() const {
    std::vector<parameter_slice> all = net.slices();
    const std::int64_t dimension = net.options().dimension;
    all.push_back({"head.weight", {1, dimension}, net.size(), dimension});
    all.push_back({"head.bias", {1}, net.size() + dimension, 1});
    return all;
  }

  void forward(rlhf::thread_pool& pool, const token_batch& batch, workspace<Scalar>& work,
               activation_storage keep = activation_storage::full) const {
    net.forward(pool, std::span(parameters).first(trunk_size()), batch, work, keep);
  }
  /// The values of some tokens of the last forward pass, any order.
  void values(const workspace<Scalar>& work, std::span<const std::int64_t> rows, std::span<Scalar> out) const {
    scalar_head<Scalar>(work, rows, std::span(parameters).subspan(trunk_size()), out);
  }
  /// gradient [parameters.size()] += that of the loss, given that of the values of `rows`; `d_hidden` is scratch.
  void backward(rlhf::thread_pool& pool, workspace<Scalar>& work, std::span<const std::int64_t> rows,
                std::span<const Scalar> d_values, std::span<Scalar> gradient, std::vector<Scalar>& d_hidden) const {
    const std::span<const Scalar> all(parameters);
    d_hidden.assign(static_cast<std::size_t>(work.tokens() * net.options().dimension), Scalar{0});
    scalar_head_backward<Scalar>(work, rows, all.subspan(trunk_size()), d_values, d_hidden,
                                 gradient.subspan(trunk_size()));
    net.backward(pool, all.first(trunk_size()), work, {.hidden = d_hidden}, gradient.first(trunk_size()));
  }

 private:
  [[nodiscard]] std::size_t trunk_size() const { return static_cast<std::size_t>(net.size()); }
  [[nodiscard]] std::span<Scalar> trunk() { return std::span(parameters).first(trunk_size()); }
};

}  // namespace align
