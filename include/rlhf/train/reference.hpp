#pragma once
// Where a loop's reference log-probabilities come from: a model, numbers computed before, or nowhere.

#include <concepts>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "rlhf/core/throw.hpp"
#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// In place of the reference of a loss that reads none, such as SimPO, ORPO and CPO.
struct no_reference {};

/// Log-probabilities of a reference that were computed before, nats: of the data's responses, [response tokens]. No pass of a
/// model is made.
struct reference_logp {
  std::span<const float> logp;
};
/// The same of pairs, [response tokens] of either side.
struct pair_reference_logp {
  std::span<const float> chosen, rejected;
};

/// What an offline loop takes for its reference: a model that scores tokens, its numbers, or no_reference.
template <class R, class Numbers>
concept gives_reference = scores_tokens<R> || std::same_as<std::remove_cvref_t<R>, Numbers> ||
                          std::same_as<std::remove_cvref_t<R>, no_reference>;

namespace reference_detail {

/// A reference that is not moved.
struct stands_still {};

/// A loop's reference: asked once about all data before the first update, or, where it follows the policy, about each
/// minibatch; not at all where the loss reads none or the numbers were given.
template <class Reference, class Sync>
class loop_reference {
  using source = std::remove_cv_t<Reference>;
  static constexpr bool moves = !std::same_as<std::remove_cv_t<Sync>, stands_still>;
  static_assert(!moves || (scores_tokens<Reference> && parameterised<Reference>),
                "rlhf: a reference that follows the policy has parameters to be moved");

 public:
  loop_reference(Reference& from, Sync& sync, bool read, const char* function)
      : from_(&from), sync_(&sync), read_(read), function_(function) {
    if (read && std::same_as<source, no_reference>)
      throw error({errc::null, function, "reference", "is absent", 0, 0,
                   "a model or its log-probabilities: the loss reads them"});
    if (!read && moves)
      throw error({errc::null, function, "sync", "is given", 0, 0, "none: the loss reads no reference"});
  }

  [[nodiscard]] bool read() const { return read_; }

  /// Takes in a part of the data.
  void add(const responses& data) {
    std::vector<float> logp;
    if constexpr (std::same_as<source, reference_logp>)
      logp = given(data, from_->logp, "reference.logp");
    else if constexpr (std::same_as<source, pair_reference_logp>)
      logp = parts_.empty() ? given(data, from_->chosen, "reference.chosen")
                            : given(data, from_->rejected, "reference.rejected");
    else if constexpr (scores_tokens<Reference>)
      if (read_ && !moves) {
        logp.resize(static_cast<std::size_t>(data.response_tokens()));
        from_->log_probs(data, logp);
      }
    parts_.emplace_back(&data, std::move(logp));
  }

  /// Of a minibatch, which holds these rows of each part, part after part: [response tokens]. Empty where none is read.
  [[nodiscard]] std::vector<float> of(const responses& batch, std::span<const std::int64_t> rows) {
    std::vector<float> out;
    if (!read_) return out;
    if constexpr (moves) {
      out.resize(static_cast<std::size_t>(batch.response_tokens()));
      from_->log_probs(batch, out);
    } else {
      for (const auto& [data, logp] : parts_) {
        const std::vector<float> some = data->select(rows, std::span<const float>(logp));
        out.insert(out.end(), some.begin(), some.end());
      }
    }
    return out;
  }

  /// After an update of the policy.
  template <class Policy>
  void follow(Policy& policy) {
    if constexpr (moves) sync_->step(from_->parameters(), policy.parameters());
  }

 private:
  [[nodiscard]] std::vector<float> given(const responses& data, std::span<const float> logp, const char* argument) {
    const auto n = static_cast<std::int64_t>(logp.size()), wants = read_ ? data.response_tokens() : n;
    if (n != wants) throw error(remark::shape(function_, argument, n, wants));
    return {logp.begin(), logp.end()};
  }

  Reference* from_;
  Sync* sync_;
  bool read_;
  const char* function_;
  std::vector<std::pair<const responses*, std::vector<float>>> parts_;
};

}  // namespace reference_detail

}  // namespace rlhf::inline v1
