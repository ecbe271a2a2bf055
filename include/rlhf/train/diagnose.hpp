#pragma once
// Identities that hold before the first update: while policy and reference are the same, much is known about every
// number of a training step. Where one fails, the finding says which mistakes usually break it.

#include <initializer_list>

#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/train/findings.hpp"

namespace rlhf::inline v1 {

/// A loss as it came out, and as it is at log-ratios of 0: see loss_at_reference.
struct loss_check {
  const char* name;
  double got;
  double want;
};

/// A batch before the first update, on the host. What is absent is not checked.
template <class T = float>
struct step_zero {
  layout<> sequences{};
  mask_view<> mask{};
  view<const T> logp{};      ///< [tokens] of the policy as it is trained
  view<const T> old_logp{};  ///< [tokens] of the policy that scored the batch
  view<const T> ref_logp{};  ///< [tokens]
  view<const T> entropy{};   ///< [tokens]
  double vocabulary = 0;     ///< tokens that the logits know; 0: unknown

  // Results that vanish.
  view<const T> kl{};               ///< any extent: an estimate of the KL, k1, k2 or k3
  view<const T> kl_gradient{};      ///< any extent: the gradient of k2 or k3 (k1's is 1 everywhere)
  view<const T> implicit_reward{};  ///< any extent

  // What the masks should be.
  view<const std::int32_t> target{};  ///< [tokens] the token that each slot scores
  mask_view<> prompt{};               ///< [tokens] slots that score a token of the prompt
  std::int32_t end_of_text = -1;
  std::int32_t padding = -1;

  // Where the score should be.
  view<const T> score{};   ///< [sequences]
  view<const T> reward{};  ///< [tokens] as the advantages see it
  score_placement placement = score_placement::last;

  double tolerance = 0;  ///< of everything that should be 0; more than 0 where the two passes are not bitwise the same
};

/// The loss of an objective of log-ratios where policy and reference agree: log 2 for dpo_sigmoid, 1 for dpo_hinge, 1 /
/// (4 beta^2) for ipo, 1/2 for kto with K = 0. Rewards and margins are taken for 0, lengths for 1. Not for objectives
/// without a reference: theirs depends on the responses.
template <class Objective>
[[nodiscard]] double loss_at_reference(const Objective& objective, double label = 1) {
  if constexpr (pair_objective<Objective>) {
    pair<double> p;
    p.chosen.length = p.rejected.length = 1;
    return objective(p);
  } else {
    static_assert(
        unpaired_objective<Objective>,
        "rlhf: the loss at the reference is that of an objective of pairs or of single responses; the loss of a "
        "token at ratio 1 depends on its advantage");
    labelled_response<double> r;
    r.label = label;
    r.length = 1;
    return objective(r);
  }
}

namespace diagnose_detail {

[[nodiscard]] inline bool counts(const mask_view<>& mask, std::int64_t i) { return !mask || mask[i] != 0; }
[[nodiscard]] inline bool beyond(double difference, double tolerance) {
  return !(difference <= tolerance && difference >= -tolerance);
}

/// Do all valid tokens of a row stand `by` slots further in the other stream? At least two must be there to compare.
template <class T>
[[nodiscard]] bool moved(const segment& row, const mask_view<>& mask, const view<const T>& a, const view<const T>& b,
                         std::int64_t by) {
  std::int64_t seen = 0;
  for (std::int64_t i = row.begin; i < row.end; ++i) {
    if (!counts(mask, i) || i + by < row.begin || i + by >= row.end) continue;
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i + by]);
    if (beyond(x - y, 1e-6 * (1 + (x < 0 ? -x : x)))) return false;
    ++seen;
  }
  return seen >= 2;
}

/// Why do two streams differ that should be the same?
template <class T>
[[nodiscard]] const char* explain(const layout<>& sequences, const mask_view<>& mask, const view<const T>& a,
                                  const view<const T>& b) {
  bool by_one[2] = {true, true}, by_any = true;
  double n = 0, mean[2] = {}, square[2] = {}, product = 0;
  for (std::int64_t s = 0; s < sequences.sequences; ++s) {
    const segment row = sequences[s];
    std::int64_t valid = 0;
    for (std::int64_t i = row.begin; i < row.end; ++i) {
      if (!counts(mask, i)) continue;
      ++valid;
      const double x[2] = {static_cast<double>(b[i]), static_cast<double>(a[i]) - static_cast<double>(b[i])};
      n += 1;
      const double d[2] = {x[0] - mean[0], x[1] - mean[1]};
      for (int k = 0; k < 2; ++k) {
        mean[k] += d[k] / n;
        square[k] += d[k] * (x[k] - mean[k]);
      }
      product += d[0] * (x[1] - mean[1]);
    }
    if (valid < 3) continue;
    by_one[0] = by_one[0] && moved(row, mask, a, b, 1);
    by_one[1] = by_one[1] && moved(row, mask, a, b, -1);
    bool any = false;
    for (std::int64_t by = row.begin - row.end + 1; by < row.end - row.begin && !any && by_any; ++by)
      any = moved(row, mask, a, b, by);
    by_any = by_any && any;
  }
  if (n < 8) return few_tokens;
  if (by_one[0] || by_one[1]) return labels_shifted;
  if (by_any) return padding_side;
  const bool follows = square[0] > 0 && square[1] > 0 && product * product > 0.36 * square[0] * square[1];
  return follows ? temperature : dropout;
}

}  // namespace diagnose_detail

/// Checks what holds before the first update; never throws, allocates nothing. Cost: a few passes over the tokens, and
/// where two streams differ a search for the slot to which they moved, at worst sequences times the square of the
/// width.
///
/// `losses` are results with the values they should have: `{"dpo", loss, loss_at_reference(objective)}`; they are
/// compared to 1e-6, relative, or to the tolerance, whichever is larger.
template <class T>
[[nodiscard]] diagnosis diagnose(const step_zero<T>& in, std::initializer_list<loss_check> losses = {}) {
  using namespace diagnose_detail;
  constexpr const char* name = "diagnose";
  diagnosis out;
  const std::int64_t n = in.sequences.tokens;
  const auto sized = [&](const auto& v, const char* what, std::int64_t want) {
    if (out.problem && v && v.extent != want) out.problem = remark::shape(name, what, v.extent, want);
  };
  if (auto s = check(in.sequences, name); !s) out.problem = s;
  sized(in.mask, "mask", n);
  sized(in.logp, "logp", n);
  sized(in.old_logp, "old_logp", n);
  sized(in.ref_logp, "ref_logp", n);
  sized(in.entropy, "entropy", n);
  sized(in.target, "target", n);
  sized(in.prompt, "prompt", n);
  sized(in.reward, "reward", n);
  sized(in.score, "score", in.sequences.sequences);
  if (!out.problem) return out;

  // Adds a finding for all slots where `wrong` says how far off they are (0: not at all).
  const auto scan = [&](identity what, const char* of, std::int64_t slots, bool masked, double want, const char* advice,
                        const auto& value, const auto& wrong) {
    finding f{what, of, -1, 0, 0, want, advice};
    double worst = -1;
    for (std::int64_t i = 0; i < slots; ++i) {
      if ((masked && !counts(in.mask, i)) || !wrong(i)) continue;
      if (f.count++ == 0) f.where = i;
      const double x = static_cast<double>(value(i)), off = x > want ? x - want : want - x;
      if (off > worst || f.count == 1) f.got = x, worst = off;
    }
    if (f.count > 0) out.add(f);
    return f.count == 0;
  };
  const auto at = [](const auto& v) { return [&v](std::int64_t i) { return static_cast<double>(v[i]); }; };

  bool finite = true;
  const auto all_finite = [&](const view<const T>& v, const char* of, bool masked) {
    if (v)
      finite = scan(identity::finite, of, v.extent, masked, 0, not_finite, at(v),
                    [&](std::int64_t i) { return !is_finite(static_cast<double>(v[i])); }) &&
               finite;
  };
  all_finite(in.logp, "logp", true);
  all_finite(in.old_logp, "old_logp", true);
  all_finite(in.ref_logp, "ref_logp", true);
  all_finite(in.entropy, "entropy", true);
  all_finite(in.reward, "reward", true);
  all_finite(in.kl, "kl", false);
  all_finite(in.kl_gradient, "kl_gradient", false);
  all_finite(in.implicit_reward, "implicit_reward", false);

  const auto probabilities = [&](const view<const T>& v, const char* of) {
    if (!v) return;
    scan(identity::logp_not_positive, of, n, true, 0, not_normalised, at(v),
         [&](std::int64_t i) { return static_cast<double>(v[i]) > in.tolerance; });
    double sum = 0, slots = 0;
    for (std::int64_t i = 0; i < n; ++i)
      if (counts(in.mask, i)) sum += static_cast<double>(v[i]), slots += 1;
    if (in.vocabulary > 1 && slots > 0 && sum / slots < -log(in.vocabulary))
      out.add({identity::better_than_uniform, of, -1, static_cast<std::int64_t>(slots), sum / slots,
               -log(in.vocabulary), not_its_labels});
  };
  probabilities(in.logp, "logp");
  probabilities(in.ref_logp, "ref_logp");
  if (in.entropy && in.vocabulary > 0) {
    const double most = log(in.vocabulary), slack = 1e-5 * (1 + most) + in.tolerance;
    scan(identity::entropy_in_range, "entropy", n, true, most, other_vocabulary, at(in.entropy), [&](std::int64_t i) {
      const double h = static_cast<double>(in.entropy[i]);
      return h < -slack || h > most + slack;
    });
  }

  bool agree = true;
  const auto same = [&](identity what, const char* of, const view<const T>& other) {
    if (!in.logp || !other || !finite) return;
    const auto difference = [&](std::int64_t i) {
      return static_cast<double>(in.logp[i]) - static_cast<double>(other[i]);
    };
    const auto wrong = [&](std::int64_t i) { return beyond(difference(i), in.tolerance); };
    bool differs = false;
    for (std::int64_t i = 0; i < n && !differs; ++i) differs = counts(in.mask, i) && wrong(i);
    if (!differs) return;
    agree = false;
    scan(what, of, n, true, 0, explain(in.sequences, in.mask, in.logp, other), difference, wrong);
  };
  same(identity::policy_is_reference, "logp - ref_logp", in.ref_logp);
  same(identity::ratio_is_one, "logp - old_logp", in.old_logp);

  const auto vanishes = [&](const view<const T>& v, const char* of) {
    if (v && agree)
      scan(identity::vanishes, of, v.extent, v.extent == n, 0, other_sums, at(v),
           [&](std::int64_t i) { return beyond(static_cast<double>(v[i]), in.tolerance); });
  };
  vanishes(in.kl, "kl");
  vanishes(in.kl_gradient, "kl_gradient");
  vanishes(in.implicit_reward, "implicit_reward");
  for (const loss_check& l : losses) {
    const double relative = 1e-6 * (l.want < 0 ? -l.want : l.want);
    if (agree && beyond(l.got - l.want, relative > in.tolerance ? relative : in.tolerance + 1e-12))
      out.add({identity::closed_form, l.name, -1, 1, l.got, l.want, other_loss});
  }

  if (in.prompt)
    scan(
        identity::prompt_not_masked, "mask", n, true, 0, prompt_inside, [](std::int64_t) { return 1; },
        [&](std::int64_t i) { return in.prompt[i] != 0; });
  if (in.target && in.padding >= 0 && in.padding != in.end_of_text)
    scan(
        identity::padding_not_masked, "mask", n, true, 0, padding_inside, [](std::int64_t) { return 1; },
        [&](std::int64_t i) { return in.target[i] == in.padding; });
  finding ends{identity::end_of_text_masked, "mask", -1, 0, 0, 1, end_outside};
  finding pays{identity::score_placement, "reward", -1, 0, 0, 0, ""};
  for (std::int64_t s = 0; s < in.sequences.sequences; ++s) {
    const segment row = in.sequences[s];
    std::int64_t last = shaping_detail::score_slot(row, in.mask, score_placement::last);
    if (last < 0) continue;
    // The text ends right after what the mask counts: then its end should have counted too.
    if (in.target && in.end_of_text >= 0 && in.target[last] != in.end_of_text && last + 1 < row.end &&
        in.target[last + 1] == in.end_of_text) {
      if (ends.count++ == 0) ends.where = last + 1;
    }
    if (!in.score || !in.reward || !agree || !finite) continue;
    const std::int64_t slot = shaping_detail::score_slot(row, in.mask, in.placement);
    const double score = static_cast<double>(in.score[s]), slack = in.tolerance + 1e-6 * (score < 0 ? -score : score);
    std::int64_t largest = row.begin;
    bool elsewhere = false;
    for (std::int64_t i = row.begin; i < row.end; ++i) {
      const double r = static_cast<double>(in.reward[i]), top = static_cast<double>(in.reward[largest]);
      if (r * r > top * top) largest = i;
      // Outside the mask anything may stand, but not the score.
      const bool strays = counts(in.mask, i) ? beyond(r, slack) : score != 0 && !beyond(r - score, slack);
      elsewhere = elsewhere || (i != slot && strays);
    }
    if (!elsewhere && !beyond(static_cast<double>(in.reward[slot]) - score, slack)) continue;
    if (pays.count++ > 0) continue;
    pays.where = largest;
    pays.got = static_cast<double>(in.reward[slot]);
    pays.want = score;
    const bool moved = !beyond(static_cast<double>(in.reward[largest]) - score, slack) && largest != slot;
    pays.advice = !moved ? score_changed : largest > slot ? score_later : score_earlier;
  }
  if (ends.count > 0) out.add(ends);
  if (pays.count > 0) out.add(pays);
  return out;
}

}  // namespace rlhf::inline v1
