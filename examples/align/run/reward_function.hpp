#pragma once
// A reward, whatever it is made of, through the library's concept `scores_responses`.

#include <functional>
#include <span>
#include <utility>

#include "align/model/policy.hpp"

namespace align {

class reward_function {
 public:
  /// A rule on the tokens of a response.
  explicit reward_function(const std::function<double(std::span<const std::int32_t>)>& rule)
      : score_([&rule](const rlhf::responses& batch, std::span<float> out) {
          for (std::int64_t i = 0; i < batch.size(); ++i)
            out[static_cast<std::size_t>(i)] = static_cast<float>(rule(batch.response(i)));
        }) {}
  /// A learned model; it must outlive this.
  explicit reward_function(scalar_policy& model)
      : score_([&model](const rlhf::responses& batch, std::span<float> out) { model.rewards(batch, out); }) {}

  /// Anything that fills in the rewards of a batch.
  explicit reward_function(std::function<void(const rlhf::responses&, std::span<float>)> score)
      : score_(std::move(score)) {}

  void rewards(const rlhf::responses& batch, std::span<float> out) const { score_(batch, out); }

 private:
  std::function<void(const rlhf::responses&, std::span<float>)> score_;
};

}  // namespace align
