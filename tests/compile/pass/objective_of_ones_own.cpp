// A new objective is one struct: no base class, no registration; penalties, aggregates and wrappers compose with it.
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/objective/kl.hpp>

struct soft_clip {
  double low = 0.2, high = 0.28, sharpness = 4;
  static constexpr unsigned reads = rlhf::field::old_logp | rlhf::field::advantage;

  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::token<V>& t) const {
    const V ratio = rlhf::exp(t.logp - t.old_logp);
    const V bounded = rlhf::clamp(ratio, rlhf::constant<V>(1 - low), rlhf::constant<V>(1 + high));
    return -rlhf::soft_min(ratio * t.advantage, bounded * t.advantage, sharpness);
  }
};
struct squared_margin {
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::pair<V>& p) const {
    return rlhf::square(p.log_ratio_margin() - p.margin);
  }
};
static_assert(rlhf::token_objective<soft_clip> && !rlhf::pair_objective<soft_clip>);
static_assert(rlhf::pair_objective<squared_margin> && !rlhf::token_objective<squared_margin>);

rlhf::status call(rlhf::reference_backend& cpu, rlhf::token_inputs<double> in, rlhf::token_outputs<double> out,
                  rlhf::pair_inputs<> pairs, rlhf::pair_outputs<> pair_out) {
  if (auto s = rlhf::policy_loss{soft_clip{}, rlhf::kl_penalty{rlhf::k2{}}, rlhf::row_mean{}}(cpu, rlhf::padded(2, 3),
                                                                                              in, out);
      !s)
    return s;
  if (auto s = rlhf::policy_loss{rlhf::sequence_ratio{soft_clip{}}}(cpu, rlhf::padded(2, 3), in, out); !s) return s;
  return rlhf::preference_loss{squared_margin{}}(cpu, pairs, pair_out);
}
