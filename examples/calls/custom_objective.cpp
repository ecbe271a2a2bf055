// Objectives of one's own: a struct with one templated call operator each. Loss, exact gradient, SIMD, statistics, every
// aggregation and every layout come from the library; nothing in it is touched, nothing is registered.

#include <span>
#include <string>
#include <vector>

#include "check.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/kl.hpp"

//! [token objective]
/// PPO whose ratio bends instead of breaking: -A exp(w tanh(d / w)), d = log pi - log pi_old. The slope never jumps to 0.
struct smooth_clip {
  double width = 0.2;

  // What it reads, so that a missing input is an error that names it.
  static constexpr unsigned reads = rlhf::field::old_logp | rlhf::field::advantage;
  [[nodiscard]] constexpr rlhf::status check() const {
    return width > 0 ? rlhf::status{} : rlhf::remark::argument("smooth_clip", "width", width, "more than 0");
  }

  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::token<V>& t) const {
    const auto w = rlhf::constant<V>(width);
    const V bent = rlhf::tanh((t.logp - t.old_logp) / w) * w;
    return -(rlhf::exp(bent) * t.advantage);
  }

  // Statistics of its own: masked means under these names.
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"bent_fraction"};
  template <rlhf::number V>
  RLHF_HD void statistics(const rlhf::token<V>& t, V (&out)[1]) const {
    const auto outside = rlhf::abs(t.logp - t.old_logp) > rlhf::constant<V>(width);
    out[0] = rlhf::select(outside, rlhf::constant<V>(1), rlhf::constant<V>(0));
  }
};
//! [token objective]

//! [pair objective]
/// DPO with tempered lengths and a target from the rewards:
/// -log sigma(beta (a / n_c^p - b / n_r^p) - gamma tanh(r_c - r_r)); p = 0 is DPO, p = 1 averages over tokens.
struct tempered_dpo {
  double beta = 0.5, power = 0.5, gamma = 0.3;

  static constexpr unsigned reads = rlhf::field::references | rlhf::field::lengths | rlhf::field::rewards;

  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::pair<V>& p) const {
    const V margin = tempered(p.chosen) - tempered(p.rejected);
    const auto target = rlhf::tanh(p.chosen.reward - p.rejected.reward) * rlhf::constant<V>(gamma);
    return -rlhf::log_sigmoid(margin * rlhf::constant<V>(beta) - target);
  }

  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"agreement"};  // with the rewards
  template <rlhf::number V>
  RLHF_HD void statistics(const rlhf::pair<V>& p, V (&out)[1]) const {
    const V both = p.log_ratio_margin() * (p.chosen.reward - p.rejected.reward);
    out[0] = rlhf::select(both > rlhf::constant<V>(0), rlhf::constant<V>(1), rlhf::constant<V>(0));
  }

 private:
  template <rlhf::number V>
  RLHF_HD V tempered(const rlhf::response<V>& r) const {
    return r.log_ratio() * rlhf::exp(rlhf::log(r.divisor()) * rlhf::constant<V>(-power));
  }
};
//! [pair objective]

//! [aggregate]
/// Between a mean over tokens and a mean over sequences: a sequence weighs by the root of its length.
struct root_length_mean {
  double sequences = 0;  // of the whole batch; 0: those of the call
  static constexpr bool uniform = false;
  [[nodiscard]] RLHF_HD double weight(double tokens, double, const rlhf::aggregation_counts& counts) const {
    const double all = sequences > 0 ? sequences : counts.nonempty;
    return tokens > 0 && all > 0 ? 1 / (all * std::sqrt(tokens)) : 0;
  }
};
//! [aggregate]

namespace {

using calls::expect;

/// Three responses of 4, 1 and 3 tokens, packed, and the same in rows of 5 slots with garbage in between.
struct batch {
  std::vector<std::int64_t> offsets{0, 4, 5, 8};
  std::vector<double> logp{-1.0, -0.5, -2.0, -0.1, -0.7, -1.2, -0.4, -2.2};
  std::vector<double> old_logp{-1.1, -0.9, -1.5, -0.1, -0.7, -0.8, -0.9, -2.0};
  std::vector<double> ref_logp{-1.3, -0.4, -1.6, -0.3, -0.9, -0.6, -1.0, -1.9};
  std::vector<double> advantage{0.9, -0.4, 0.7, 0.9, -1.2, 0.3, -0.8, 0.5};
};

std::vector<double> in_rows(const std::vector<double>& packed, const std::vector<std::int64_t>& offsets,
                            std::int64_t width) {
  std::vector<double> rows;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
    for (std::int64_t t = 0; t < width; ++t) {
      const std::int64_t at = offsets[i] + t;
      rows.push_back(at < offsets[i + 1] ? packed[static_cast<std::size_t>(at)] : rlhf::not_a_number);
    }
  return rows;
}

//! [call]
// Any backend, any token objective, any aggregate, any layout.
template <rlhf::backend B, class Objective, class Aggregate>
double loss_of(B& be, const Objective& objective, const Aggregate& aggregate, const rlhf::layout<>& sequences,
               const rlhf::token_inputs<double>& in, std::span<double> gradient, rlhf::statistics& metrics) {
  double loss = 0;
  const rlhf::policy_loss formula{objective, rlhf::kl_penalty{rlhf::k3{}, 0.1}, aggregate};
  expect(formula(be, sequences, in,
                 rlhf::token_outputs<double>{.loss = {&loss, 1}, .grad_logp = gradient, .stats = &metrics}));
  return loss;
}
//! [call]

/// The largest difference between the gradient and central differences of the loss.
template <class Loss>
double gradient_error(std::vector<double>& x, const std::vector<double>& gradient, const Loss& loss) {
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i], step = 1e-5;
    x[i] = at + step;
    const double above = loss();
    x[i] = at - step;
    const double below = loss();
    x[i] = at;
    worst = std::max(worst, std::abs((above - below) / (2 * step) - gradient[i]));
  }
  return worst;
}

template <class B, class Aggregate>
void token_objective(const char* backend, const char* name, const Aggregate& aggregate) {
  B be;
  batch b;
  const smooth_clip objective{.width = 0.25};
  std::vector<double> gradient(8), ignored(8);
  rlhf::statistics metrics, none;
  const auto loss = [&](std::vector<double>& g, rlhf::statistics& stats) {
    return loss_of(be, objective, aggregate, rlhf::packed(b.offsets),
                   {.logp = b.logp, .old_logp = b.old_logp, .ref_logp = b.ref_logp, .advantage = b.advantage}, g,
                   stats);
  };
  const double packed = loss(gradient, metrics);
  const std::string title = std::string(backend) + ", " + name;
  std::printf("%s: loss %.9f, bent_fraction %.3f, kl_mean %.5f\n", title.c_str(), packed, metrics["bent_fraction"],
              metrics["kl_mean"]);
  expect("  gradient against central differences",
         gradient_error(b.logp, gradient, [&] { return loss(ignored, none); }), 0, 1e-9);

  // The same batch in padded rows: the same loss, the same gradient, exact zeros in the padding.
  const std::int64_t width = 5;
  std::vector<double> logp = in_rows(b.logp, b.offsets, width), old_logp = in_rows(b.old_logp, b.offsets, width),
                      ref_logp = in_rows(b.ref_logp, b.offsets, width),
                      advantage = in_rows(b.advantage, b.offsets, width);
  std::vector<std::uint8_t> mask;
  for (const double x : logp) mask.push_back(x == x ? 1 : 0);
  std::vector<double> rows(logp.size());
  const double padded = loss_of(
      be, objective, aggregate, rlhf::padded(3, width),
      {.logp = logp, .old_logp = old_logp, .ref_logp = ref_logp, .advantage = advantage, .mask = mask}, rows, none);
  expect("  padded rows: the same loss", padded, packed, 1e-14);
  double worst = 0, padding = 0;
  const std::vector<double> wanted = in_rows(gradient, b.offsets, width);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (mask[i] != 0)
      worst = std::max(worst, std::abs(rows[i] - wanted[i]));
    else
      padding = std::max(padding, std::abs(rows[i]));
  }
  expect("  padded rows: the same gradient", worst, 0, 1e-14);
  expect("  padding has gradient exactly 0", padding == 0);
}

template <class B>
void pair_objective(const char* backend) {
  B be;
  std::vector<double> chosen{-20, -31, -12}, rejected{-24, -30, -18}, ref_chosen{-21, -30, -14},
      ref_rejected{-23, -32, -17};
  std::vector<double> chosen_length{12, 20, 5}, rejected_length{15, 11, 9}, chosen_reward{1.5, 0.9, -0.3},
      rejected_reward{0.5, 0.4, -1};
  std::vector<double> grad_chosen(3), grad_rejected(3);
  double loss = 0;
  rlhf::statistics metrics;
  const auto run = [&](rlhf::statistics* stats, std::span<double> c, std::span<double> r) {
    expect(rlhf::preference_loss{tempered_dpo{}, rlhf::batch_mean{}}(
        be,
        rlhf::pair_inputs<double>{.chosen = chosen,
                                  .rejected = rejected,
                                  .ref_chosen = ref_chosen,
                                  .ref_rejected = ref_rejected,
                                  .chosen_length = chosen_length,
                                  .rejected_length = rejected_length,
                                  .chosen_reward = chosen_reward,
                                  .rejected_reward = rejected_reward},
        rlhf::pair_outputs<double>{.loss = {&loss, 1}, .grad_chosen = c, .grad_rejected = r, .stats = stats}));
    return loss;
  };
  run(&metrics, grad_chosen, grad_rejected);
  std::printf("%s, tempered_dpo: loss %.9f, agreement %.3f, rewards/margins %.4f\n", backend, loss,
              metrics["agreement"], metrics["rewards/margins"]);
  std::vector<double> c(3), r(3);
  expect("  d / d chosen against central differences",
         gradient_error(chosen, grad_chosen, [&] { return run(nullptr, c, r); }), 0, 1e-9);
  expect("  d / d rejected against central differences",
         gradient_error(rejected, grad_rejected, [&] { return run(nullptr, c, r); }), 0, 1e-9);
}

}  // namespace

int main() {
  // On plain loops, then on SIMD lanes.
  token_objective<rlhf::reference_backend>("reference", "token_mean", rlhf::token_mean{});
  token_objective<rlhf::reference_backend>("reference", "fixed_length", rlhf::fixed_length{.length = 8});
  pair_objective<rlhf::reference_backend>("reference");
  token_objective<rlhf::eigen_backend>("eigen", "token_mean", rlhf::token_mean{});
  token_objective<rlhf::eigen_backend>("eigen", "row_mean", rlhf::row_mean{});
  token_objective<rlhf::eigen_backend>("eigen", "root_length_mean", root_length_mean{});
  pair_objective<rlhf::eigen_backend>("eigen");

  // What the formula says it reads is asked for by name.
  rlhf::reference_backend be;
  const float x[] = {0};
  float loss = 0;
  const rlhf::status refused = rlhf::policy_loss{smooth_clip{}}(
      be, rlhf::padded(1, 1), {.logp = {x, 1}, .advantage = {x, 1}}, {.loss = {&loss, 1}});
  std::printf("refused: %s\n", refused.message().c_str());
  expect("a missing input is named", refused.code == rlhf::errc::null);
  return calls::failures();
}
