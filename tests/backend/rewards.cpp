// The drivers of single responses, reward models, worst cases and samplers on SIMD lanes and threads against plain loops:
// a batch long enough for both, with garbage under the mask.

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/ensemble_reward.hpp"
#include "rlhf/driver/odin_loss.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "rlhf/driver/sampling_distribution.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"
#include "support/catch.hpp"

namespace {

using list = std::vector<float>;
constexpr std::int64_t n = 100003;

struct batch {
  list a, b, c, label;
  std::vector<std::uint8_t> mask;
  batch() : mask(n) {
    std::mt19937 random(11);
    for (auto* v : {&a, &b, &c}) {
      v->resize(n);
      for (float& x : *v) x = -3 + 6 * static_cast<float>(random()) / 4294967296.0f;
    }
    label.resize(n);
    for (float& x : label) x = static_cast<float>(random() % 3) / 2;
    for (auto& m : mask) m = random() % 5 != 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
      if (mask[i] == 0) a[i] = b[i] = c[i] = label[i] = std::numeric_limits<float>::quiet_NaN();
  }
};

/// Arrays, in the order of the calls.
template <class B>
std::vector<list> run(B& be, const batch& in) {
  std::vector<list> out;
  const auto space = [&](std::int64_t size) -> list& {
    return out.emplace_back(static_cast<std::size_t>(size), std::numeric_limits<float>::quiet_NaN());
  };
  const auto good = [](const rlhf::status& s) { REQUIRE(s); };
  out.reserve(64);
  {
    list& kl = space(1);
    good(rlhf::kto_reference_point{}(be, rlhf::log_ratio_inputs<float>{in.a, in.b, in.mask}, kl));
    list &loss = space(1), &grad = space(n), &each = space(n);
    rlhf::unpaired_inputs<float> x;
    x.logp = in.a;
    x.ref_logp = in.b;
    x.label = in.label;
    x.reference_point = kl;
    x.mask = in.mask;
    rlhf::statistics stats;
    good(rlhf::unpaired_loss{rlhf::kto{}}(be, x, {loss, grad, each, &stats}));
    list& found = space(stats.size);
    for (int i = 0; i < stats.size; ++i)
      found[static_cast<std::size_t>(i)] = static_cast<float>(stats[stats.entries[i].name]);
    rlhf::running_reference running;
    good(running.update(be, rlhf::log_ratio_inputs<float>{in.a, in.b, in.mask}));
    list& moments = space(2);
    moments = {static_cast<float>(running.mean()), static_cast<float>(running.variance())};
  }
  {
    list &loss = space(1), &chosen = space(n), &rejected = space(n), &each = space(n), &slope = space(1);
    const list tie{0.4f};
    const rlhf::score_inputs<float> x{in.a, in.b, in.c, in.label, {}, in.mask, tie};
    good(rlhf::reward_loss{rlhf::rao_kupper{}}(be, x, {loss, chosen, rejected, each, nullptr, slope}));
    list &other = space(1), &grad = space(n);
    good(rlhf::reward_loss{rlhf::thurstone{0.2}}(be, x, {other, grad, {}, {}, nullptr, {}}));
  }
  {
    list &loss = space(1), &grad = space(n), &each = space(1);
    const auto lists = rlhf::padded(1, n);  // one long list
    rlhf::ranking_inputs<float> x;
    x.score = in.a;
    x.mask = in.mask;
    good(rlhf::ranking_loss{rlhf::plackett_luce{}}(be, lists, x, {loss, grad, each}));
  }
  {
    const std::int64_t third = n / 3;
    list &reward = space(third), &grad = space(3 * third);
    rlhf::ensemble_outputs<float> to;
    to.reward = reward;
    to.grad_score = {grad.data(), 3, third};
    list clean = in.a;
    for (float& x : clean) x = x != x ? 0 : x;
    good(rlhf::ensemble_reward{rlhf::lower_confidence_bound{}}(be, rlhf::view<const float, 2>{clean.data(), 3, third},
                                                               to));
  }
  {
    list &loss = space(1), &q = space(n), &l = space(n), &r = space(n), &m = space(n);
    const list product{0.3f};
    const rlhf::odin_inputs<float> x{{in.a, in.b, in.c}, {in.c, in.a, in.b}, product, in.mask};
    good(rlhf::odin_loss{}(be, x, {loss, {q, l}, {r, m}, {}, {}, nullptr}));
  }
  const auto robust = [&](const auto& set) {
    list &loss = space(1), &weight = space(n), &dual = space(1);
    rlhf::robust_inputs<float> x;
    x.loss = in.a;
    x.mask = in.mask;
    good(rlhf::robust_aggregate{set}(be, x, {loss, weight, dual, nullptr}));
  };
  robust(rlhf::tilted_mean{0.5});
  robust(rlhf::kl_ball{0.3});
  robust(rlhf::chi_square_ball{0.9});
  robust(rlhf::conditional_value_at_risk{0.07});
  {
    list p = in.a, r = in.b;
    for (auto* v : {&p, &r})
      for (float& x : *v) x = x != x ? -INFINITY : x;
    list &drawn = space(n), &z = space(1);
    rlhf::sampling_inputs<float> x;
    x.policy = {p.data(), 1, n};
    x.reference = {r.data(), 1, n};
    rlhf::sampling_outputs<float> to;
    to.log_probability = {drawn.data(), 1, n};
    to.log_normaliser = z;
    good(rlhf::sampling_distribution(be, rlhf::pilaf(0.2, false), x, to));
  }
  return out;
}

}  // namespace

TEST_CASE("reward drivers give what they give on plain loops") {
  const batch in;
  rlhf::reference_backend plain;
  rlhf::eigen_backend lanes(3);
  const auto want = run(plain, in), got = run(lanes, in);
  REQUIRE(want.size() == got.size());
  for (std::size_t k = 0; k < want.size(); ++k) {
    REQUIRE(want[k].size() == got[k].size());
    double worst = 0;
    std::size_t unlike = 0;
    for (std::size_t i = 0; i < want[k].size(); ++i) {
      const double w = want[k][i], g = got[k][i];
      if (!std::isfinite(w) || !std::isfinite(g)) {
        unlike += !(w == g);
        continue;
      }
      worst = std::max(worst, std::abs(w - g) / (1e-3 / static_cast<double>(n) + std::abs(w)));
    }
    CAPTURE(k);
    CHECK(unlike == 0);
    CHECK(worst < 2e-4);
  }
}
