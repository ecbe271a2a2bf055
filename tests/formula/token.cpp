// Token objectives, penalties and bonuses against closed forms, central differences through the driver, and at their kinks.

#include "rlhf/objective/token.hpp"

#include <algorithm>
#include <type_traits>

#include "formula/support.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/weighted.hpp"

namespace {

using test::infinity;
using test::not_a_number;
using test::run;
using test::token_batch;

/// A token as the closed forms see it.
struct plain {
  double logp, old, ref, rollout, advantage, mean;  // mean: of logp - old over the sequence
  double ratio() const { return std::exp(logp - old); }
};

plain token_at(const token_batch& b, std::size_t i) {
  const auto sequences = b.layout();
  double sum = 0, count = 0;
  for (std::int64_t s = 0; s < sequences.sequences; ++s)
    if (static_cast<std::int64_t>(i) >= sequences[s].begin && static_cast<std::int64_t>(i) < sequences[s].end)
      for (auto j = static_cast<std::size_t>(sequences[s].begin); j < static_cast<std::size_t>(sequences[s].end); ++j)
        if (b.valid(j)) sum += b.logp[j] - b.old_logp[j], count += 1;
  return {b.logp[i], b.old_logp[i], b.ref_logp[i], b.rollout_logp[i], b.advantage[i], sum / count};
}

/// Value and slope of every token, the mean over the batch, exact zeros under the mask. Without a slope of its own (formulas
/// that stop no gradient) the closed form's central difference is what the derivative must be, and the driver's own loss's.
template <class Loss, class Value, class Slope = std::nullptr_t>
void check(const char* name, const Loss& loss, Value value, Slope slope = nullptr) {
  constexpr bool plain_derivative = std::is_same_v<Slope, std::nullptr_t>;
  for (const unsigned seed : {1u, 2u}) {
    CAPTURE(name, seed);
    const token_batch b = test::padded_batch(seed);
    const auto r = run(loss, b);
    REQUIRE(r.status);
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < b.size(); ++i) count += b.valid(i);
    for (std::size_t i = 0; i < b.size(); ++i) {
      CAPTURE(i);
      CHECK(test::is_plain_zero(r.grad_entropy[i]));  // asked for, read by no formula here
      if (!b.valid(i)) {
        CHECK(test::is_plain_zero(r.grad_logp[i]));
        CHECK(test::is_plain_zero(r.per_token[i]));
        continue;
      }
      const plain t = token_at(b, i);
      sum += value(t);
      CHECK(r.per_token[i] == Approx(value(t)).epsilon(1e-12).margin(1e-13));
      if constexpr (plain_derivative) {
        const double h = 1e-6;
        plain above = t, below = t;
        above.logp += h;
        below.logp -= h;
        CHECK(r.grad_logp[i] * count == Approx((value(above) - value(below)) / (2 * h)).epsilon(1e-7).margin(1e-7));
        if (i % 5 == 0) {
          const auto f = [&](const std::vector<double>& logp) {
            token_batch moved = b;
            moved.logp = logp;
            return run(loss, moved).loss;
          };
          CHECK(r.grad_logp[i] == Approx(test::central_difference(f, b.logp, i)).epsilon(1e-6).margin(1e-8));
        }
      } else {
        CHECK(r.grad_logp[i] * count == Approx(slope(t)).epsilon(1e-12).margin(1e-13));
      }
    }
    CHECK(r.loss == Approx(sum / count).epsilon(1e-12));
    CHECK(r.stats["items"] == count);
    CHECK(r.stats["nonfinite"] == 0);
  }
}

template <class Objective>
rlhf::policy_loss<Objective> mean_of(const Objective& o) {
  return rlhf::policy_loss<Objective>{o};
}
template <class Term>
rlhf::policy_loss<rlhf::none, Term> term_of(const Term& t) {
  return rlhf::policy_loss<rlhf::none, Term>{{}, t};
}

double clip(double x, double low, double high) { return std::min(std::max(x, low), high); }

/// One token through a formula: value and slope.
template <class Formula>
rlhf::dual<double> at(const Formula& f, double logp, double old, double advantage, double ref = -1) {
  rlhf::token<rlhf::dual<double>> t;
  t.logp = rlhf::dual<double>::variable(logp, 0);
  t.old_logp = old;
  t.rollout_logp = old;
  t.ref_logp = ref;
  t.advantage = advantage;
  return f(t);
}

}  // namespace

TEST_CASE("likelihood and REINFORCE") {
  check("nll", mean_of(rlhf::negative_log_likelihood{}), [](const plain& t) { return -t.logp; });
  check("reinforce", mean_of(rlhf::reinforce{}), [](const plain& t) { return -t.advantage * t.logp; });
  check(
      "dft", mean_of(rlhf::dynamic_fine_tuning{}), [](const plain& t) { return -std::exp(t.logp) * t.logp; },
      [](const plain& t) { return -std::exp(t.logp); });
}

TEST_CASE("PPO's clip and its variants") {
  check("clip", mean_of(rlhf::ppo_clip{}),
        [](const plain& t) { return -std::min(t.ratio() * t.advantage, clip(t.ratio(), 0.8, 1.2) * t.advantage); });
  check("clip higher", mean_of(rlhf::ppo_clip{.low = 0.1, .high = 0.28}),
        [](const plain& t) { return -std::min(t.ratio() * t.advantage, clip(t.ratio(), 0.9, 1.28) * t.advantage); });
  check("dual clip", mean_of(rlhf::ppo_clip{.dual_clip = 1.1}), [](const plain& t) {
    const double gain = std::min(t.ratio() * t.advantage, clip(t.ratio(), 0.8, 1.2) * t.advantage);
    return -(t.advantage < 0 ? std::max(gain, 1.1 * t.advantage) : gain);
  });
  check("ratio bound", mean_of(rlhf::ppo_clip{.ratio_bound = 1.25}), [](const plain& t) {
    return -std::min(std::min(t.ratio(), 1.25) * t.advantage, clip(t.ratio(), 0.8, 1.2) * t.advantage);
  });
  check("log-ratio bound", mean_of(rlhf::ppo_clip{.log_ratio_bound = 0.15}), [](const plain& t) {
    const double r = std::exp(clip(t.logp - t.old, -0.15, 0.15));
    return -std::min(r * t.advantage, clip(r, 0.8, 1.2) * t.advantage);
  });
}

TEST_CASE("ratios that weigh the gradient") {
  const auto weighed = [](double w, const plain& t) { return -w * t.advantage * t.logp; };
  check(
      "cispo", mean_of(rlhf::cispo{.low = 0.8, .high = 1.1}),
      [&](const plain& t) { return weighed(clip(t.ratio(), 0.8, 1.1), t); },
      [](const plain& t) { return -clip(t.ratio(), 0.8, 1.1) * t.advantage; });
  check("cispo through", mean_of(rlhf::cispo{.low = 0.8, .high = 1.1, .through = true}),
        [](const plain& t) { return -clip(t.ratio(), 0.8, 1.1) * t.advantage; });
  const auto inside = [](const plain& t) { return t.ratio() > 0.9 && t.ratio() < 1.2 ? t.ratio() : 0; };
  check(
      "masked", mean_of(rlhf::masked_importance{.low = 0.1, .high = 0.2}),
      [&](const plain& t) { return weighed(inside(t), t); }, [&](const plain& t) { return -inside(t) * t.advantage; });
  check("importance sampling", mean_of(rlhf::importance_sampling{}),
        [](const plain& t) { return -t.ratio() * t.advantage; });
  check("sapo", mean_of(rlhf::sapo{.temperature_positive = 1, .temperature_negative = 2}), [](const plain& t) {
    const double tau = t.advantage > 0 ? 1 : 2;
    return -4 / tau / (1 + std::exp(-tau * (t.ratio() - 1))) * t.advantage;
  });
  check("dro", mean_of(rlhf::direct_reward_optimisation{.beta = 0.3}),
        [](const plain& t) { return -(t.advantage * t.logp - 0.15 * (t.logp - t.old) * (t.logp - t.old)); });
  const auto kept = [](const plain& t) {
    const double moved = std::exp(t.logp) - std::exp(t.old);
    return t.advantage > 0 ? moved <= 0.05 : moved >= -0.04;
  };
  check(
      "dppo total variation", mean_of(rlhf::dppo_total_variation{.low = 0.04, .high = 0.05, .ratio_bound = 1.2}),
      [&](const plain& t) { return kept(t) ? weighed(std::min(t.ratio(), 1.2), t) : 0; },
      [&](const plain& t) { return kept(t) ? -std::min(t.ratio(), 1.2) * t.advantage : 0; });
  check("dppo through the ratio", mean_of(rlhf::dppo_total_variation{.low = 0.04, .high = 0.05, .through_ratio = true}),
        [&](const plain& t) { return kept(t) ? -t.ratio() * t.advantage : 0; });
  const auto kept_by_kl = [](const plain& t) {
    const double p = std::exp(t.logp), o = std::exp(t.old);
    const double kl = o * std::log(o / p) + (1 - o) * std::log((1 - o + 1e-8) / (1 - p + 1e-8));
    return !(t.advantage > 0 ? p > o && kl > 0.004 : p < o && kl > 0.003);
  };
  check(
      "dppo binary kl", mean_of(rlhf::dppo_binary_kl{.low = 0.003, .high = 0.004}),
      [&](const plain& t) { return kept_by_kl(t) ? weighed(t.ratio(), t) : 0; },
      [&](const plain& t) { return kept_by_kl(t) ? -t.ratio() * t.advantage : 0; });
  check("importance with pull", mean_of(rlhf::importance_with_pull{.bound = 0.05, .pull = 0.1}), [](const plain& t) {
    const double d = t.logp - t.old;
    return (std::abs(std::exp(t.logp) - std::exp(t.old)) > 0.05 ? 0 : -t.ratio() * t.advantage) + 0.1 * d * d;
  });
  const auto sequence = [](const plain& t) { return std::exp(std::min(t.mean, 10.0)); };
  check(
      "gspo token", mean_of(rlhf::gspo_token{.low = 0.05, .high = 0.06}),
      [&](const plain& t) { return -std::min(sequence(t) * t.advantage, clip(sequence(t), 0.95, 1.06) * t.advantage); },
      [&](const plain& t) {
        const double s = sequence(t);
        return s * t.advantage <= clip(s, 0.95, 1.06) * t.advantage ? -s * t.advantage : 0;
      });
  check("decoupled", mean_of(rlhf::decoupled_ppo{.cap = 1.05}), [](const plain& t) {
    const double w = std::exp(t.old - t.rollout);
    return w > 1.05 ? 0 : -w * std::min(t.ratio() * t.advantage, clip(t.ratio(), 0.8, 1.2) * t.advantage);
  });
}

TEST_CASE("estimators of the KL to the reference: value and gradient apart") {
  const auto d = [](const plain& t) { return t.logp - t.ref; };
  const auto third = [](double x) { return std::expm1(-x) + x; };
  check("k1", term_of(rlhf::k1{}), d);
  check("k1 bounded", term_of(rlhf::k1{.bound = 0.5}), [&](const plain& t) { return clip(d(t), -0.5, 0.5); });
  check("absolute", term_of(rlhf::absolute{}), [&](const plain& t) { return std::abs(d(t)); });
  check("k2", term_of(rlhf::k2{}), [&](const plain& t) { return d(t) * d(t) / 2; });
  check("k3", term_of(rlhf::k3{}), [&](const plain& t) { return third(d(t)); });
  check("k3 bounded", term_of(rlhf::k3{.log_ratio_bound = 1, .bound = 0.6}),
        [&](const plain& t) { return std::min(third(clip(d(t), -1, 1)), 0.6); });
  check(
      "k3 with the gradient of k2", term_of(rlhf::value_and_gradient{rlhf::k3{}, rlhf::k2{}}),
      [&](const plain& t) { return third(d(t)); }, d);
  check("k1 with the gradient of k2", term_of(rlhf::value_and_gradient{rlhf::k1{}}), d, d);
  check("weighed k3", term_of(rlhf::importance_weighted{rlhf::k3{}}),
        [&](const plain& t) { return t.ratio() * third(d(t)); });
  check(
      "weighed k3, its gradient", term_of(rlhf::importance_weighted{rlhf::k3{}}),
      [&](const plain& t) { return t.ratio() * third(d(t)); }, [&](const plain& t) { return t.ratio() * d(t); });
  check("penalty", term_of(rlhf::kl_penalty{rlhf::k3{}, 0.3}), [&](const plain& t) { return 0.3 * third(d(t)); });
  check("PPO with a penalty", rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k2{}, 0.1}},
        [&](const plain& t) {
          return -std::min(t.ratio() * t.advantage, clip(t.ratio(), 0.8, 1.2) * t.advantage) + 0.05 * d(t) * d(t);
        });
}

TEST_CASE("the gradient of k3 is exact where its value cancels") {
  for (const double x : {1e-12, -1e-9, 1e-6, -1e-3}) {
    const auto k = at(rlhf::k3{}, -1 + x, -1, 0, -1);
    const double d = -1 + x + 1;  // as rounded
    CHECK(k.partial[0] == Approx(-std::expm1(-d)).epsilon(1e-13));
    CHECK(k.value >= 0);
  }
}

TEST_CASE("the entropy bonus goes to the entropy, and what reads no entropy leaves it alone") {
  const token_batch b = test::padded_batch(3);
  const auto r = run(rlhf::policy_loss{rlhf::none{}, rlhf::entropy_bonus{.coefficient = 0.2}}, b);
  REQUIRE(r.status);
  double count = 0, sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (b.valid(i)) count += 1, sum += b.entropy[i];
  CHECK(r.loss == Approx(-0.2 * sum / count).epsilon(1e-13));
  for (std::size_t i = 0; i < b.size(); ++i) {
    CHECK(r.grad_logp[i] == 0);
    if (b.valid(i)) CHECK(r.grad_entropy[i] == Approx(-0.2 / count).epsilon(1e-13));
    if (!b.valid(i)) CHECK(test::is_plain_zero(r.grad_entropy[i]));
  }
  CHECK(r.stats["entropy"] == Approx(sum / count).epsilon(1e-13));
}

TEST_CASE("terms add up") {
  const token_batch b = test::padded_batch(4);
  const rlhf::kl_penalty<rlhf::k3> penalty{{}, 0.1};
  const rlhf::entropy_bonus bonus{0.05};
  const auto whole = run(rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::both{penalty, bonus}}, b);
  const auto ppo = run(rlhf::policy_loss{rlhf::ppo_clip{}}, b), kl = run(term_of(penalty), b),
             entropy = run(term_of(bonus), b);
  CHECK(whole.loss == Approx(ppo.loss + kl.loss + entropy.loss).epsilon(1e-13));
  for (std::size_t i = 0; i < b.size(); ++i) {
    CHECK(whole.grad_logp[i] == Approx(ppo.grad_logp[i] + kl.grad_logp[i]).epsilon(1e-13).margin(1e-17));
    CHECK(whole.grad_entropy[i] == Approx(entropy.grad_entropy[i]));
  }
}

TEST_CASE("a coefficient of 0 is no penalty: it reads no reference, and no estimate that overflows") {
  const std::vector<float> logp{-900, -1}, old_logp{-900, -1}, ref_logp{-1, -1}, advantage{1, 2};
  const auto whole = [&](const auto& loss, bool with_reference) {
    rlhf::reference_backend backend;
    std::vector<float> out(3, 99);
    rlhf::statistics stats;
    rlhf::token_inputs<float> in{.logp = logp, .old_logp = old_logp, .advantage = advantage};
    if (with_reference) in.ref_logp = ref_logp;
    CHECK(loss(backend, rlhf::padded(1, 2), in,
               rlhf::token_outputs<float>{.loss = {&out[2], 1}, .grad_logp = {out.data(), 2}, .stats = &stats}));
    return out;
  };
  const auto plain_ppo = whole(rlhf::policy_loss{rlhf::ppo_clip{}}, false);
  const rlhf::kl_penalty<rlhf::k3> none{{}, 0};
  CHECK(whole(rlhf::policy_loss{rlhf::ppo_clip{}, none}, true) == plain_ppo);
  CHECK(whole(rlhf::policy_loss{rlhf::ppo_clip{}, none}, false) == plain_ppo);
  CHECK(whole(rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::both{none, none}}, false) == plain_ppo);
  CHECK(std::isinf(whole(rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty<rlhf::k3>{{}, 1e-30}}, true)[2]));
}

TEST_CASE("a sequence ratio is the mean log-ratio's, and its gradient reaches every token") {
  const auto value = [](const plain& t) {
    const double s = std::exp(t.mean);
    return -std::min(s * t.advantage, clip(s, 0.97, 1.03) * t.advantage);
  };
  for (const unsigned seed : {5u, 6u}) {
    token_batch b = test::padded_batch(seed);
    for (std::int64_t s = 0; s < b.rows; ++s)  // one advantage a sequence, as GSPO has it
      for (std::int64_t j = 0; j < b.width; ++j)
        if (b.valid(static_cast<std::size_t>(s * b.width + j)))
          b.advantage[static_cast<std::size_t>(s * b.width + j)] = s % 2 ? -1 : 1.5;
    const auto check_with = [&](const auto& loss) {
      const auto r = run(loss, b);
      REQUIRE(r.status);
      for (std::size_t i = 0; i < b.size(); ++i) {
        CHECK(test::is_plain_zero(r.grad_entropy[i]));
        if (!b.valid(i)) {
          CHECK(test::is_plain_zero(r.grad_logp[i]));
          continue;
        }
        CHECK(r.per_token[i] == Approx(value(token_at(b, i))).epsilon(1e-12));
        const auto f = [&](const std::vector<double>& logp) {
          token_batch moved = b;
          moved.logp = logp;
          return run(loss, moved).loss;
        };
        CHECK(r.grad_logp[i] == Approx(test::central_difference(f, b.logp, i)).epsilon(1e-6).margin(1e-9));
      }
    };
    const rlhf::sequence_ratio gspo{rlhf::ppo_clip{.low = 0.03, .high = 0.03}};
    check_with(rlhf::policy_loss{gspo, rlhf::none{}, rlhf::row_mean{}});
    check_with(rlhf::policy_loss{gspo, rlhf::none{}, rlhf::token_mean{}});
  }
}

TEST_CASE("a sequence ratio with a penalty, and one that weighs the penalty") {
  const token_batch b = test::padded_batch(7);
  const auto check_with = [&](const auto& loss) {
    const auto r = run(loss, b);
    REQUIRE(r.status);
    for (std::size_t i = 0; i < b.size(); ++i) {
      const auto f = [&](const std::vector<double>& logp) {
        token_batch moved = b;
        moved.logp = logp;
        return run(loss, moved).loss;
      };
      if (b.valid(i))
        CHECK(r.grad_logp[i] == Approx(test::central_difference(f, b.logp, i)).epsilon(1e-6).margin(1e-9));
    }
  };
  const rlhf::sequence_ratio gspo{rlhf::ppo_clip{}};
  check_with(rlhf::policy_loss{gspo, rlhf::kl_penalty{rlhf::k3{}, 0.2}, rlhf::row_mean{}});
  check_with(rlhf::policy_loss{gspo, rlhf::kl_penalty{rlhf::sequence_weighted{rlhf::k3{}}, 0.2}, rlhf::row_mean{}});
}

TEST_CASE("on policy PPO is the plain policy gradient, exactly on its kinks the slopes are shared") {
  const rlhf::ppo_clip ppo;
  for (const double advantage : {-2.0, -0.5, 0.7, 3.0}) {
    CAPTURE(advantage);
    CHECK(at(ppo, -1, -1, advantage).value == -advantage);
    CHECK(at(ppo, -1, -1, advantage).partial[0] == Approx(-advantage).epsilon(1e-15));
    CHECK(at(rlhf::cispo{}, -1, -1, advantage).partial[0] == -advantage);
    CHECK(at(rlhf::sapo{}, -1, -1, advantage).partial[0] == Approx(-advantage).epsilon(1e-15));
  }
  CHECK(at(ppo, -1, -1, 0).partial[0] == 0);
  // Clipped for A > 0 above, for A < 0 below, and nowhere else.
  CHECK(at(ppo, -0.5, -1, 1).partial[0] == 0);
  CHECK(at(ppo, -0.5, -1, -1).partial[0] == Approx(std::exp(0.5)));
  CHECK(at(ppo, -1.5, -1, 1).partial[0] == Approx(-std::exp(-0.5)));
  CHECK(at(ppo, -1.5, -1, -1).partial[0] == 0);
  // Dual clip bounds the loss of negative advantages only.
  const rlhf::ppo_clip dual{.dual_clip = 3};
  CHECK(at(dual, 2, 0, -1).value == 3);
  CHECK(at(dual, 2, 0, -1).partial[0] == 0);
  CHECK(at(dual, 2, 0, 1).value == at(ppo, 2, 0, 1).value);
}

TEST_CASE("formulas at the limits of log-ratios: defined, and NaN only where infinities meet") {
  for (const double d : {-745.0, -700.0, -88.0, 88.0, 700.0}) {
    for (const double advantage : {-1.0, 1.0}) {
      CAPTURE(d, advantage);
      const double old = std::min(0.0, -d), logp = old + d;
      const auto all = [&](const auto& f) {
        const auto y = at(f, logp, old, advantage, old);
        CHECK_FALSE(std::isnan(y.value));
        CHECK_FALSE(std::isnan(y.partial[0]));
      };
      all(rlhf::ppo_clip{});
      all(rlhf::ppo_clip{.dual_clip = 3, .log_ratio_bound = 20});
      all(rlhf::cispo{});
      all(rlhf::masked_importance{});
      all(rlhf::importance_sampling{});
      all(rlhf::sapo{});
      all(rlhf::dppo_total_variation{});
      all(rlhf::dppo_binary_kl{});
      all(rlhf::importance_with_pull{});
      all(rlhf::decoupled_ppo{});
      all(rlhf::k1{});
      all(rlhf::k2{});
      all(rlhf::k3{.log_ratio_bound = 20, .bound = 10});
    }
  }
  // The ratio overflows: the loss of a negative advantage too, of a positive one not.
  CHECK(at(rlhf::ppo_clip{}, 0, -800, 1).value == -1.2);
  CHECK(at(rlhf::ppo_clip{}, 0, -800, 1).partial[0] == 0);
  CHECK(at(rlhf::ppo_clip{}, 0, -800, -1).value == infinity);
  CHECK(at(rlhf::ppo_clip{.dual_clip = 3}, 0, -800, -1).value == 3);
  CHECK(at(rlhf::ppo_clip{.dual_clip = 3}, 0, -800, -1).partial[0] == 0);
  CHECK(at(rlhf::ppo_clip{.log_ratio_bound = 20}, 0, -800, -1).value == Approx(std::exp(20.0)));
  CHECK(at(rlhf::k3{.log_ratio_bound = 20, .bound = 10}, -800, 0, 0, 0).value == 10);
  // An impossible token (log-probability minus infinity) that the policy has left: ratio 0.
  CHECK(at(rlhf::ppo_clip{}, -infinity, -1, 1).value == 0);
  CHECK(at(rlhf::ppo_clip{}, -infinity, -1, -1).value == 0.8);
}

TEST_CASE("statistics are masked means under their names") {
  const token_batch b = test::padded_batch(8);
  const auto r = run(rlhf::policy_loss{rlhf::ppo_clip{.low = 0.1, .high = 0.2}, rlhf::kl_penalty{rlhf::k3{}, 0.1}}, b);
  double n = 0, first = 0, second = 0, third = 0, ratio = 0, ratio_max = 0, log_ratio_max = 0, clipped = 0, low = 0,
         high = 0, kl = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!b.valid(i)) continue;
    const plain t = token_at(b, i);
    const double d = t.logp - t.old, rho = t.ratio();
    n += 1;
    first -= d;
    second += d * d / 2;
    third += rho - 1 - d;
    ratio += rho;
    ratio_max = std::max(ratio_max, rho);
    log_ratio_max = std::max(log_ratio_max, std::abs(d));
    clipped += -clip(rho, 0.9, 1.2) * t.advantage > -rho * t.advantage;
    low += rho < 0.9 && t.advantage < 0;
    high += rho > 1.2 && t.advantage > 0;
    kl += std::expm1(t.ref - t.logp) - (t.ref - t.logp);
  }
  CHECK(r.stats["approx_kl_k1"] == Approx(first / n));
  CHECK(r.stats["approx_kl_k2"] == Approx(second / n));
  CHECK(r.stats["approx_kl_k3"] == Approx(third / n));
  CHECK(r.stats["ratio_mean"] == Approx(ratio / n));
  CHECK(r.stats["ratio_max"] == Approx(ratio_max));
  CHECK(r.stats["log_ratio_abs_max"] == Approx(log_ratio_max));
  CHECK(r.stats["clip_fraction"] == Approx(clipped / n));
  CHECK(r.stats["clip_fraction_low"] == Approx(low / n));
  CHECK(r.stats["clip_fraction_high"] == Approx(high / n));
  CHECK(r.stats["kl_mean"] == Approx(kl / n));
  CHECK(r.stats["clip_fraction"] == Approx(r.stats["clip_fraction_low"] + r.stats["clip_fraction_high"]));
}

TEST_CASE("losses that are not finite are counted and come through") {
  token_batch b = test::padded_batch(9);
  std::size_t bad = 0;
  while (!b.valid(bad)) ++bad;
  b.logp[bad] = not_a_number;
  const auto r = run(rlhf::policy_loss{rlhf::ppo_clip{}}, b);
  CHECK(std::isnan(r.loss));
  CHECK(r.stats["nonfinite"] == 1);
  for (std::size_t i = 0; i < b.size(); ++i)
    if (i != bad) CHECK_FALSE(std::isnan(r.grad_logp[i]));
}
