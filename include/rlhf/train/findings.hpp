#pragma once
// What diagnose can find: the identities, a list of findings without allocation, and the sentences that go with them.

#include <cstdint>
#include <cstdio>

#include "rlhf/core/status.hpp"

namespace rlhf::inline v1 {

/// What must hold.
enum class identity : std::uint8_t {
  finite,               ///< no NaN and no infinity in a slot that counts
  logp_not_positive,    ///< log-probabilities are at most 0
  better_than_uniform,  ///< their mean is above that of a uniform guess, -log(vocabulary)
  policy_is_reference,  ///< log pi = log pi_ref: k1, k2, k3, their gradients and every implicit reward vanish
  ratio_is_one,         ///< log pi = log pi_old
  vanishes,             ///< a result that is 0 while policy and reference agree: a KL, its gradient, implicit rewards
  entropy_in_range,     ///< 0 <= H <= log(vocabulary)
  closed_form,          ///< a loss has the value that it has at log-ratios of 0
  prompt_not_masked,    ///< no token of the prompt is in the mask
  padding_not_masked,   ///< nor a token of the padding
  end_of_text_masked,   ///< the token that ends the text is in it
  score_placement       ///< the score stands where it is paid, and nothing stands elsewhere
};
[[nodiscard]] constexpr const char* name_of(identity what) {
  constexpr const char* names[] = {"finite",
                                   "logp_not_positive",
                                   "better_than_uniform",
                                   "policy_is_reference",
                                   "ratio_is_one",
                                   "vanishes",
                                   "entropy_in_range",
                                   "closed_form",
                                   "prompt_not_masked",
                                   "padding_not_masked",
                                   "end_of_text_masked",
                                   "score_placement"};
  return names[static_cast<int>(what)];
}

/// A broken identity: of what, the first slot (-1: none), how many, the worst number, the number it should be, what to
/// look at.
struct finding {
  identity what{};
  const char* of = "";
  std::int64_t where = -1;
  std::int64_t count = 0;
  double got = 0;
  double want = 0;
  const char* advice = "";

  struct text {
    char characters[512] = {};
    [[nodiscard]] const char* c_str() const { return characters; }
  };
  [[nodiscard]] text message() const {
    text out;
    std::snprintf(out.characters, sizeof out.characters, "%s: %s is %.10g, wants %.10g (%lld times, first at %lld). %s",
                  name_of(what), of, got, want, static_cast<long long>(count), static_cast<long long>(where), advice);
    return out;
  }
};

/// The findings of a call, the first `capacity` of them; `problem` says what could not be looked at.
struct diagnosis {
  static constexpr int capacity = 32;
  finding findings[capacity];
  int size = 0;
  int more = 0;  ///< findings that found no place
  status problem{};

  [[nodiscard]] bool healthy() const { return size == 0 && problem; }
  [[nodiscard]] const finding* find(identity what) const {
    for (int i = 0; i < size; ++i)
      if (findings[i].what == what) return &findings[i];
    return nullptr;
  }
  void add(const finding& f) {
    if (size < capacity)
      findings[size++] = f;
    else
      ++more;
  }
};

namespace diagnose_detail {

inline constexpr const char* not_finite =
    "Look for a mask that covers slots nothing was computed for, for logits of -infinity at the target (a constrained "
    "sampler), and for "
    "an overflow in 16 bits.";
inline constexpr const char* not_normalised =
    "A log-probability above 0 is of a row that does not add up to 1: the log-sum-exp misses columns (a shard of the "
    "vocabulary), "
    "or this is a loss and not a log-probability (sign).";
inline constexpr const char* not_its_labels =
    "The policy knows less than a uniform guess: the labels are shifted by one against the logits in both passes, or "
    "the "
    "tokens are of another tokenizer.";
inline constexpr const char* labels_shifted =
    "One stream is the other moved by one slot: the labels are shifted by one in one of the passes (logits at t score "
    "the token "
    "at t + 1).";
inline constexpr const char* padding_side =
    "Each row of one stream is that of the other moved by a number of slots of its own: one pass pads on the left, the "
    "other on the "
    "right.";
inline constexpr const char* temperature =
    "The gap follows the log-probability: a temperature divides the logits in one of the passes only.";
inline constexpr const char* dropout =
    "The gap has no pattern: dropout is on in one of the passes, or they differ in weights, adapters or precision.";
inline constexpr const char* few_tokens =
    "Too few tokens to say more: compare dropout, temperature, labels and padding of the two passes.";
inline constexpr const char* other_sums =
    "Log-probabilities agree where they were given, so the sums are not over the same tokens: prompt tokens or another "
    "mask on one "
    "side, or reference values that were cached with other settings.";
inline constexpr const char* other_vocabulary =
    "Below 0: not an entropy (its sign, or rows that do not add up to 1). Above log(vocabulary): the logits have "
    "columns of padding, "
    "or the vocabulary is another.";
inline constexpr const char* other_loss =
    "With the log-probabilities in order, look at the loss itself: beta, label smoothing, chosen and rejected swapped, "
    "a mean over something else, an extra term.";
inline constexpr const char* prompt_inside =
    "Prompt tokens are in the mask: the mask is the attention mask, or it is not shifted with the labels.";
inline constexpr const char* padding_inside =
    "Padding is in the mask: the mask was made for rows padded on the other side, or from lengths of something else.";
inline constexpr const char* end_outside =
    "The end of text is masked: where padding and end of text are the same token, mask by length and not by id, or "
    "the policy never learns to stop.";
inline constexpr const char* score_later =
    "The score stands after the last token of the mask: the placement is score_placement::after_eos or last_column, "
    "the mask ends early, or "
    "the slot was not shifted with the labels.";
inline constexpr const char* score_earlier =
    "The score stands before the last token: the slot was shifted twice, or the end of text is missing in the length.";
inline constexpr const char* score_changed =
    "The score is not paid as it is: it was clipped, scaled or whitened, or a KL was subtracted though it should be 0.";

}  // namespace diagnose_detail

}  // namespace rlhf::inline v1
