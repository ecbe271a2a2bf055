#pragma once
// A language model that learns by low-rank adapters alone, with a value head on the same trunk.

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "align/model/policy.hpp"

namespace align {

/// Every matrix W of the layers, [outputs, inputs], becomes W + B A with A [rank, inputs] and B [outputs, rank]; embedding and
/// norms stay. B begins at 0, so that the model begins as the one it was made of, and with `adapters(false)` it is that one
/// again, bit by bit. What learns is A and B of each matrix, then the weight and bias of the value head.
///
/// The products are added to a copy of the weights before a pass, so that a pass costs what it does without adapters.
/// Source: Hu et al. 2021 (LoRA), arXiv 2106.09685, with its scale alpha / rank at 1.
template <rlhf::backend Backend>
class adapted_policy {
 public:
  adapted_policy(Backend& backend, rlhf::thread_pool& pool, const language_model<float>& from, std::int64_t rank,
                 rlhf::random_key key, sampling_limits limits,
                 std::shared_ptr<pass_memory> learning = std::make_shared<pass_memory>(),
                 std::shared_ptr<pass_memory> scoring = std::make_shared<pass_memory>())
      : backend_(&backend),
        pool_(&pool),
        rank_(rank),
        memory_(std::move(learning)),
        off_(backend, pool, from, limits, scoring),
        on_(backend, pool, from, limits, scoring),
        slope_(from.parameters.size()) {
    const rlhf::random_numbers numbers(key);
    for (const parameter_slice& slice : from.net.slices()) {
      if (slice.shape.size() != 2 || slice.offset == 0) continue;
      adapter one{slice.offset, slice.shape[0], slice.shape[1], static_cast<std::int64_t>(parameters_.size())};
      const double deviation = 1 / std::sqrt(static_cast<double>(one.inputs));
      for (std::int64_t i = 0; i < rank * one.inputs; ++i)
        parameters_.push_back(
            static_cast<float>(numbers.normal({.prompt = static_cast<std::uint32_t>(parameters_.size())}) * deviation));
      parameters_.resize(parameters_.size() + static_cast<std::size_t>(rank * one.outputs));
      adapters_.push_back(one);
    }
    head_ = parameters_.size();
    parameters_.resize(head_ + static_cast<std::size_t>(from.net.options().dimension + 1));
    gradient_.resize(parameters_.size());
  }

  [[nodiscard]] std::span<float> parameters() { return parameters_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }
  [[nodiscard]] std::int32_t end_token() const { return off_.end_token(); }
  void adapters(bool on) { with_ = on; }
  /// The model as it is now, as one that anyone can use.
  [[nodiscard]] const language_model<float>& merged() {
    merge();
    return on_.model();
  }

  void log_probs(const rlhf::responses& r, std::span<float> out) { now().log_probs(r, out); }
  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    return now().sample(prompts, n, key);
  }
  /// How samples are drawn while the adapters are on.
  void draw_by(const sampling_law& law) { on_.draw_by(law); }
  [[nodiscard]] bool describe_sampling(const rlhf::responses& r, std::span<float> logp, std::span<float> mass) {
    return now().describe_sampling(r, logp, mass);
  }
  void log_probs_and_values(const rlhf::responses& r, std::span<float> logp, std::span<float> value) {
    merge();
    last_ = r;
    std::size_t done = 0;
    const activation_storage keep = kept_of(last_, memory_->limits);
    in_parts(last_, at_once(keep, memory_->limits), [&](std::int64_t first, std::int64_t last) {
      const model_batch part(last_, first, last);
      pass_ = score_part(*backend_, *pool_, on_.model(), part, keep, *memory_);
      std::copy(memory_->logp.begin(), memory_->logp.end(), logp.begin() + static_cast<std::ptrdiff_t>(done));
      scalar_head<float>(memory_->work, part.rows, head(), value.subspan(done, part.rows.size()));
      done += part.rows.size();
    });
  }
  void backward_both(std::span<const float> grad_logp, std::span<const float> grad_value) {
    const language_model<float>& model = on_.model();
    std::fill(slope_.begin(), slope_.end(), 0.0f);
    std::size_t done = 0;
    pass_memory& m = *memory_;
    in_parts(last_, m.limits, [&](std::int64_t first, std::int64_t last) {
      const model_batch part(last_, first, last);
      if (part.rows.empty()) return;
      if (!m.holds(pass_)) pass_ = score_part(*backend_, *pool_, model, part, to_go_back(m.limits), m);
      logits_to_gradient(*backend_, part, grad_logp.subspan(done), m);
      pass_ = 0;  // the logits hold their gradient now
      m.d_hidden.assign(static_cast<std::size_t>(m.work.tokens() * model.net.options().dimension), 0.0f);
      scalar_head_backward<float>(m.work, part.rows, head(), grad_value.subspan(done, part.rows.size()), m.d_hidden,
                                  std::span(gradient_).subspan(head_));
      model.backward(*pool_, m.work, {.rows = part.rows, .logits = m.logits, .hidden = m.d_hidden}, slope_);
      m.count();
      done += part.rows.size();
    });
    for (const adapter& one : adapters_) descend(one);
  }

 private:
  struct adapter {
    std::int64_t offset, outputs, inputs;
    std::int64_t first;  ///< of A in the parameters; B follows
  };

  [[nodiscard]] language_policy<Backend>& now() {
    if (!with_) return off_;
    merge();
    return on_;
  }
  [[nodiscard]] std::span<const float> head() const { return std::span(parameters_).subspan(head_); }

  /// W + B A of every matrix, from the parameters as they are now.
  void merge() {
    memory_->count_copy(on_.parameters());
    memory_->count_copy(slope_);
    const std::span<const float> base = off_.model().parameters;
    const std::span<float> to = on_.parameters();
    for (const adapter& one : adapters_) {
      const float* const a = parameters_.data() + one.first;
      const float* const b = a + rank_ * one.inputs;
      for (std::int64_t o = 0; o < one.outputs; ++o) {
        float* const row = to.data() + one.offset + o * one.inputs;
        std::copy_n(base.data() + one.offset + o * one.inputs, one.inputs, row);
        for (std::int64_t k = 0; k < rank_; ++k)
          for (std::int64_t i = 0; i < one.inputs; ++i) row[i] += b[o * rank_ + k] * a[k * one.inputs + i];
      }
    }
  }
  /// From the slope of a matrix to those of its adapter: of B it is slope A', of A it is B' slope.
  void descend(const adapter& one) {
    const float* const a = parameters_.data() + one.first;
    const float* const b = a + rank_ * one.inputs;
    float* const to_a = gradient_.data() + one.first;
    float* const to_b = to_a + rank_ * one.inputs;
    for (std::int64_t o = 0; o < one.outputs; ++o) {
      const float* const row = slope_.data() + one.offset + o * one.inputs;
      for (std::int64_t k = 0; k < rank_; ++k) {
        float sum = 0;
        for (std::int64_t i = 0; i < one.inputs; ++i) {
          sum += row[i] * a[k * one.inputs + i];
          to_a[k * one.inputs + i] += b[o * rank_ + k] * row[i];
        }
        to_b[o * rank_ + k] += sum;
      }
    }
  }
  Backend* backend_;
  rlhf::thread_pool* pool_;
  std::int64_t rank_;
  std::shared_ptr<pass_memory> memory_;
  language_policy<Backend> off_, on_;
  std::vector<adapter> adapters_;
  std::size_t head_ = 0;
  std::vector<float> parameters_, gradient_, slope_;
  bool with_ = true;

  rlhf::responses last_;
  pass_number pass_;  ///< that left the activations of `last_`; 0: none did
};

}  // namespace align
