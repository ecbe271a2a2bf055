#pragma once
// A reward model with two heads on one trunk, for ODIN: see rlhf/train/odin.hpp.

#include <cmath>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "align/model/policy.hpp"
#include "rlhf/math/random.hpp"

namespace align {

/// parameters() holds the trunk, the quality head (weight, then bias) and the length head; without the last it is a
/// scalar_model's. The heads begin as small random numbers, because from equal heads neither would know what to become.
class two_headed_policy {
 public:
  two_headed_policy(rlhf::thread_pool& pool, const language_model<float>& from, rlhf::random_key key,
                    std::shared_ptr<pass_memory> memory = std::make_shared<pass_memory>())
      : pool_(&pool), net_(from.net), parameters_(from.parameters), memory_(std::move(memory)) {
    const rlhf::random_numbers draw(key);
    const auto size = static_cast<std::uint32_t>(head_size());
    for (std::uint32_t i = 0; i < 2 * size; ++i)
      parameters_.push_back((i + 1) % size == 0 ? 0.0f : static_cast<float>(0.02 * draw.normal({.prompt = i})));
    gradient_.resize(parameters_.size());
  }

  [[nodiscard]] std::span<float> parameters() { return parameters_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }
  /// The parameters of the reward model that is left when the length head goes.
  [[nodiscard]] std::span<const float> without_length() const {
    return std::span(parameters_).first(trunk_size() + head_size());
  }

  void head_scores(const rlhf::responses& batch, std::span<float> quality, std::span<float> length) {
    last_ = batch;
    std::size_t done = 0;
    const activation_storage keep = kept_of(last_, memory_->limits);
    in_parts(last_, at_once(keep, memory_->limits), [&](std::int64_t first, std::int64_t last) {
      const model_batch part(last_, first, last);
      const std::vector<std::int64_t> rows = part.last_rows();
      score(part, keep);
      scalar_head<float>(memory_->work, rows, head(0), quality.subspan(done, rows.size()));
      scalar_head<float>(memory_->work, rows, head(1), length.subspan(done, rows.size()));
      done += rows.size();
    });
  }
  /// The inner product of the two weights, each divided by its length; 0 where one has none.
  [[nodiscard]] float head_product() const {
    const double sizes = length_of(0) * length_of(1);
    return sizes > 0 ? static_cast<float>(inner(0, 1) / sizes) : 0.0f;
  }
  void backward_heads(std::span<const float> grad_quality, std::span<const float> grad_length, float grad_product) {
    const std::span<float> all(gradient_);
    std::size_t done = 0;
    pass_memory& m = *memory_;
    in_parts(last_, m.limits, [&](std::int64_t first, std::int64_t last) {
      const model_batch part(last_, first, last);
      const std::vector<std::int64_t> rows = part.last_rows();
      if (!m.holds(pass_)) score(part, to_go_back(m.limits));
      pass_ = 0;
      m.d_hidden.assign(static_cast<std::size_t>(m.work.tokens() * net_.options().dimension), 0.0f);
      for (std::size_t k = 0; k < 2; ++k)
        scalar_head_backward<float>(m.work, rows, head(k),
                                    (k == 0 ? grad_quality : grad_length).subspan(done, rows.size()), m.d_hidden,
                                    all.subspan(trunk_size() + k * head_size(), head_size()));
      net_.backward(*pool_, trunk(), m.work, {.hidden = m.d_hidden}, all.first(trunk_size()));
      done += rows.size();
    });
    // d <a/|a|, b/|b|> / da = (b/|b| - product a/|a|) / |a|
    const double product = static_cast<double>(head_product()), sizes[] = {length_of(0), length_of(1)};
    if (!(sizes[0] * sizes[1] > 0)) return;
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t j = 0; j + 1 < head_size(); ++j) {
        const double own = static_cast<double>(head(k)[j]) / sizes[k],
                     other = static_cast<double>(head(1 - k)[j]) / sizes[1 - k];
        gradient_[trunk_size() + k * head_size() + j] +=
            static_cast<float>(static_cast<double>(grad_product) * (other - product * own) / sizes[k]);
      }
  }

 private:
  void score(const model_batch& part, activation_storage keep) {
    ++memory_->pass;
    net_.forward(*pool_, trunk(), part, memory_->work, keep);
    pass_ = keep == activation_storage::none ? 0 : memory_->pass;
  }
  [[nodiscard]] std::size_t trunk_size() const { return static_cast<std::size_t>(net_.size()); }
  [[nodiscard]] std::size_t head_size() const { return static_cast<std::size_t>(net_.options().dimension) + 1; }
  [[nodiscard]] std::span<const float> trunk() const { return std::span(parameters_).first(trunk_size()); }
  [[nodiscard]] std::span<const float> head(std::size_t k) const {
    return std::span(parameters_).subspan(trunk_size() + k * head_size(), head_size());
  }
  [[nodiscard]] double inner(std::size_t a, std::size_t b) const {
    double sum = 0;
    for (std::size_t j = 0; j + 1 < head_size(); ++j)
      sum += static_cast<double>(head(a)[j]) * static_cast<double>(head(b)[j]);
    return sum;
  }
  [[nodiscard]] double length_of(std::size_t k) const { return std::sqrt(inner(k, k)); }

  rlhf::thread_pool* pool_;
  transformer<float> net_;
  std::vector<float> parameters_, gradient_;
  std::shared_ptr<pass_memory> memory_;
  rlhf::responses last_;
  pass_number pass_;  ///< that left the activations of `last_`; 0: none did
};

}  // namespace align
