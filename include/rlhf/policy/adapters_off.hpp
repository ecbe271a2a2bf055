#pragma once
// The model that an adapted one started from: a reference, and a reward model, without a second copy of the weights.

#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// A model as it is without its adapters. They are put on again after every call, whatever happens in it.
template <has_adapters Model>
class adapters_off {
 public:
  explicit adapters_off(Model& model) : model_(&model) {}

  void log_probs(const responses& r, std::span<float> out)
    requires scores_tokens<Model>
  {
    const off now(*model_);
    model_->log_probs(r, out);
  }
  void rewards(const responses& r, std::span<float> out)
    requires scores_responses<Model>
  {
    const off now(*model_);
    model_->rewards(r, out);
  }
  [[nodiscard]] responses sample(const prompt_list& prompts, std::int64_t n, random_key key)
    requires sampling_policy<Model>
  {
    const off now(*model_);
    return model_->sample(prompts, n, key);
  }

 private:
  class off {
   public:
    explicit off(Model& model) : model_(&model) { model_->adapters(false); }
    off(const off&) = delete;
    off& operator=(const off&) = delete;
    ~off() { model_->adapters(true); }

   private:
    Model* model_;
  };
  Model* model_;
};

}  // namespace rlhf::inline v1
