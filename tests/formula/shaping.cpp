// Rewards per token: KL in the reward, every place of the score, RTO in all its modes, controllers, the overlong penalty.

#include "rlhf/reward/shaping.hpp"

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/algorithm/rto.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/reward/kl_controller.hpp"

namespace {

using test::not_a_number;
using test::token_batch;

struct result {
  rlhf::status status;
  std::vector<double> reward, kl, sum;
};
template <class Rule>
result run(const Rule& rule, const token_batch& b, const std::vector<double>& score,
           const std::vector<std::int32_t>& segment = {}) {
  rlhf::reference_backend backend;
  result r{{},
           std::vector<double>(b.size(), 99),
           std::vector<double>(b.size(), 99),
           std::vector<double>(static_cast<std::size_t>(b.layout().sequences), 99)};
  rlhf::shaping_inputs<double> in;
  in.old_logp = b.old_logp;
  in.ref_logp = b.ref_logp;
  in.dpo_logp = b.logp;
  if (!score.empty()) in.score = score;
  if (!b.mask.empty()) in.mask = b.mask;
  if (!segment.empty()) in.segment = segment;
  r.status = rlhf::reward_shaping{rule}(backend, b.layout(), in, {r.reward, r.kl, r.sum});
  return r;
}

std::int64_t last_of(const token_batch& b, std::int64_t s) {
  std::int64_t last = -1;
  for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i)
    if (b.valid(static_cast<std::size_t>(i))) last = i;
  return last;
}
std::vector<double> scores(std::size_t n) {
  std::vector<double> s(n);
  for (std::size_t i = 0; i < n; ++i) s[i] = static_cast<double>(i) - 3.5;
  return s;
}

}  // namespace

TEST_CASE("KL in the reward, and the score at each of its places") {
  const token_batch b = test::padded_batch(71);
  const auto score = scores(9);
  for (const auto placement :
       {rlhf::score_placement::last, rlhf::score_placement::after_eos, rlhf::score_placement::last_column}) {
    CAPTURE(static_cast<int>(placement));
    const auto r = run(rlhf::kl_in_reward{rlhf::k1{}, 0.2, placement, rlhf::score_clip{-2, 3}}, b, score);
    REQUIRE(r.status);
    std::vector<double> want(b.size(), 0);
    for (std::size_t i = 0; i < b.size(); ++i)
      if (b.valid(i)) want[i] = -0.2 * (b.old_logp[i] - b.ref_logp[i]);
    for (std::int64_t s = 0; s < 9; ++s) {
      const std::int64_t last = last_of(b, s), end = b.layout()[s].end;
      if (last < 0) continue;  // a response without tokens drops its score
      const std::int64_t slot = placement == rlhf::score_placement::last          ? last
                                : placement == rlhf::score_placement::last_column ? end - 1
                                                                                  : std::min(last + 1, end - 1);
      want[static_cast<std::size_t>(slot)] += std::clamp(score[static_cast<std::size_t>(s)], -2.0, 3.0);
    }
    for (std::size_t i = 0; i < b.size(); ++i) {
      CHECK(r.reward[i] == Approx(want[i]).epsilon(1e-12).margin(1e-14));
      CHECK(r.kl[i] == Approx(b.valid(i) ? b.old_logp[i] - b.ref_logp[i] : 0).epsilon(1e-12).margin(1e-14));
      if (!b.valid(i) && placement == rlhf::score_placement::last) CHECK(test::is_plain_zero(r.reward[i]));
    }
    for (const double sum : r.sum) CHECK(sum == 0);  // no DPO reward is paid
  }
  const auto k3 = run(rlhf::kl_in_reward{rlhf::k3{}, 0.2}, b, {});
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = b.ref_logp[i] - b.old_logp[i];
    CHECK(k3.reward[i] == Approx(b.valid(i) ? -0.2 * (std::expm1(d) - d) : 0).epsilon(1e-11).margin(1e-14));
  }
  const rlhf::kl_in_reward<rlhf::k1> free{{}, 0.0};  // no price, and no reference
  rlhf::reference_backend backend;
  std::vector<double> reward(b.size(), 99), kl(b.size(), 99);
  rlhf::shaping_inputs<double> in{.old_logp = b.old_logp, .score = score};
  if (!b.mask.empty()) in.mask = b.mask;
  REQUIRE(rlhf::reward_shaping{free}(backend, b.layout(), in, {.reward = reward}));
  CHECK(reward == run(free, b, score).reward);
  CHECK(test::text(rlhf::reward_shaping{free}(backend, b.layout(), in, {.reward = reward, .kl = kl})) ==
        "reward_shaping: ref_logp is null, wants a pointer to its elements");
  CHECK(test::text(rlhf::reward_shaping{rlhf::rto_reward{}}(backend, b.layout(), in, {.reward = reward})) ==
        "reward_shaping: ref_logp is null, wants a pointer to its elements");
  token_batch far = b;  // the estimate overflows, and nobody pays it
  for (double& x : far.old_logp) x = -900;
  for (const double paid : run(rlhf::kl_in_reward{rlhf::k3{}, 0.0}, far, {}).reward) CHECK(test::is_plain_zero(paid));
}

TEST_CASE("RTO's reward in each mode") {
  const token_batch b = test::padded_batch(72);
  const auto score = scores(9);
  std::vector<std::int32_t> segment(b.size());
  for (std::size_t i = 0; i < b.size(); ++i) segment[i] = static_cast<std::int32_t>(i % 13 / 4);
  for (const auto mode :
       {rlhf::rto_mode::dense, rlhf::rto_mode::semi, rlhf::rto_mode::eos, rlhf::rto_mode::shaping_only})
    for (const double clip : {0.03, test::infinity}) {
      CAPTURE(static_cast<int>(mode), clip);
      const rlhf::rto_reward rule{.beta1 = 0.1, .beta2 = 0.05, .beta3 = 2, .clip = clip, .mode = mode};
      const auto r = run(rule, b, score, segment);
      REQUIRE(r.status);
      std::vector<double> want(b.size(), 0);
      for (std::int64_t s = 0; s < 9; ++s) {
        double sum = 0;
        std::int64_t open = -1;
        double unpaid = 0;
        for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i) {
          const auto at = static_cast<std::size_t>(i);
          if (!b.valid(at)) continue;
          const double scaled = 0.1 * (b.logp[at] - b.ref_logp[at]),
                       dpo = std::clamp(scaled, -clip, clip);  // the clip comes after the scale
          sum += dpo;
          want[at] -= 0.05 * (b.old_logp[at] - b.ref_logp[at]);
          if (mode == rlhf::rto_mode::dense || mode == rlhf::rto_mode::shaping_only) want[at] += dpo;
          if (mode == rlhf::rto_mode::semi) {
            if (open >= 0 && segment[static_cast<std::size_t>(open)] != segment[at])
              want[static_cast<std::size_t>(open)] += unpaid, unpaid = 0;
            unpaid += dpo;
            open = i;
          }
        }
        if (open >= 0) want[static_cast<std::size_t>(open)] += unpaid;
        CHECK(r.sum[static_cast<std::size_t>(s)] == Approx(sum).epsilon(1e-12).margin(1e-14));
        const std::int64_t last = last_of(b, s);
        if (last < 0) continue;
        want[static_cast<std::size_t>(last)] += 2 * score[static_cast<std::size_t>(s)];
        if (mode == rlhf::rto_mode::eos) want[static_cast<std::size_t>(last)] += sum;
        if (mode == rlhf::rto_mode::shaping_only) want[static_cast<std::size_t>(last)] -= sum;
      }
      for (std::size_t i = 0; i < b.size(); ++i) {
        if (b.valid(i)) CHECK(r.reward[i] == Approx(want[i]).epsilon(1e-12).margin(1e-13));
        if (!b.valid(i)) CHECK(test::is_plain_zero(r.reward[i]));
      }
    }
}

TEST_CASE("RTO without the DPO reward is PPO to the last bit, and needs no DPO policy") {
  const token_batch b = test::padded_batch(73);
  const auto score = scores(9);
  rlhf::reference_backend backend;
  const auto prepared = [&](const auto& algorithm, bool with_dpo) {
    result r{{}, std::vector<double>(b.size()), std::vector<double>(b.size()), std::vector<double>(b.size())};
    rlhf::rollout_inputs<double> in;
    in.old_logp = b.old_logp;
    in.ref_logp = b.ref_logp;
    if (with_dpo) in.dpo_logp = b.logp;
    in.value = b.entropy;
    in.score = score;
    in.mask = b.mask;
    r.status = algorithm.prepare(backend, b.layout(), in, rlhf::rollout_outputs<double>{r.reward, {}, r.kl, r.sum});
    REQUIRE(r.status);
    return r;
  };
  rlhf::ppo ppo;
  ppo.reward.coefficient = 0.01;
  rlhf::rto rto;
  rto.reward.beta1 = 0;
  const auto a = prepared(ppo, false), c = prepared(rto, false);
  CHECK(a.reward == c.reward);
  CHECK(a.kl == c.kl);  // the advantages
  CHECK(a.sum == c.sum);
  rto.reward.beta1 = 0.05;
  CHECK(prepared(rto, true).reward != a.reward);
}

TEST_CASE("packed responses are paid like padded ones") {
  const token_batch padded = test::padded_batch(74), packed = test::packed_of(padded);
  const auto a = run(rlhf::rto_reward{}, padded, scores(9)), b = run(rlhf::rto_reward{}, packed, scores(9));
  std::vector<double> dense;
  for (std::size_t i = 0; i < padded.size(); ++i)
    if (padded.valid(i)) dense.push_back(a.reward[i]);
  CHECK(dense == b.reward);
  CHECK(a.sum == b.sum);
}

TEST_CASE("controllers hold still or follow their target") {
  rlhf::fixed_kl_controller fixed{0.1};
  fixed.update(100, 10);
  CHECK(fixed.coefficient == 0.1);
  rlhf::adaptive_kl_controller adaptive{.coefficient = 0.2, .target = 6, .horizon = 10000};
  adaptive.update(6, 256);
  CHECK(adaptive.coefficient == 0.2);
  adaptive.update(60, 256);  // far above: the error is bounded by 0.2
  CHECK(adaptive.coefficient == Approx(0.2 * (1 + 0.2 * 0.0256)));
  const double before = adaptive.coefficient;
  adaptive.update(0, 256);
  CHECK(adaptive.coefficient == Approx(before * (1 - 0.2 * 0.0256)));
  adaptive.update(not_a_number, 256);
  CHECK(adaptive.coefficient == Approx(before * (1 - 0.2 * 0.0256)));
  adaptive.update(0, 1e9);  // would turn negative
  CHECK(adaptive.coefficient > 0);
}

TEST_CASE("the soft overlong penalty with its three endings") {
  using rlhf::soft_overlong;
  const soft_overlong floor{.max_length = 100, .buffer = 20};
  CHECK(floor(80) == 0);
  CHECK(floor(0) == 0);
  CHECK(floor(90) == -0.5);
  CHECK(floor(100) == -1);
  CHECK(floor(1000) == -1);
  const soft_overlong capped{.max_length = 100, .buffer = 20, .factor = 2, .ending = soft_overlong::beyond::capped};
  CHECK(capped(90) == -1);
  CHECK(capped(1000) == -2);
  const soft_overlong open{.max_length = 100, .buffer = 20, .factor = 1, .ending = soft_overlong::beyond::unbounded};
  CHECK(open(120) == -2);
}
