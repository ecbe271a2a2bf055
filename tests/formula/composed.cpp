// Methods composed of drivers: optimal transport over a batch, WPO's weights, token-level DPO from logits, BNF and Nash-MD by
// token.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/advantage/optimal_value.hpp"
#include "rlhf/algorithm/aot.hpp"
#include "rlhf/algorithm/dpo.hpp"
#include "rlhf/algorithm/kto_pair.hpp"
#include "rlhf/algorithm/tdpo.hpp"
#include "rlhf/algorithm/wpo.hpp"
#include "rlhf/driver/grouped.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/negative_feedback.hpp"

namespace {

using test::infinity;
using test::not_a_number;

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

struct pair_sums {
  std::vector<double> chosen, rejected, ref_chosen, ref_rejected;
  std::vector<std::uint8_t> mask;

  pair_sums(unsigned seed, std::size_t n) : mask(n, 1) {
    std::mt19937 random(seed);
    for (auto* v : {&chosen, &rejected, &ref_chosen, &ref_rejected}) *v = test::uniform(random, n, -20, -3);
  }
  [[nodiscard]] rlhf::pair_inputs<double> inputs() const {
    rlhf::pair_inputs<double> in;
    in.chosen = chosen;
    in.rejected = rejected;
    in.ref_chosen = ref_chosen;
    in.ref_rejected = ref_rejected;
    in.mask = mask;
    return in;
  }
};

struct aot_result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> grad_chosen, grad_rejected, per_rank, reward;
};
template <class Aot>
aot_result run(const Aot& aot, const rlhf::pair_inputs<double>& in) {
  rlhf::reference_backend backend;
  aot_result r;
  const auto n = static_cast<std::size_t>(in.chosen.extent);
  for (auto* v : {&r.grad_chosen, &r.grad_rejected, &r.per_rank, &r.reward}) v->assign(n, not_a_number);
  rlhf::pair_outputs<double> out;
  out.loss = {&r.loss, 1};
  out.grad_chosen = r.grad_chosen;
  out.grad_rejected = r.grad_rejected;
  out.per_pair = r.per_rank;
  out.reward_chosen = r.reward;
  r.status = aot(backend, in, out);
  return r;
}

double aot_by_hand(const pair_sums& b, double beta, bool paired) {
  std::vector<double> u, v;
  for (std::size_t i = 0; i < b.chosen.size(); ++i) {
    if (b.mask[i] == 0) continue;
    u.push_back(paired ? b.chosen[i] - b.rejected[i] : b.chosen[i] - b.ref_chosen[i]);
    v.push_back(paired ? b.ref_chosen[i] - b.ref_rejected[i] : b.rejected[i] - b.ref_rejected[i]);
  }
  std::sort(u.begin(), u.end());
  std::sort(v.begin(), v.end());
  double loss = 0;
  for (std::size_t k = 0; k < u.size(); ++k) loss += softplus(-beta * (u[k] - v[k]));
  return loss / static_cast<double>(u.size());
}

}  // namespace

TEST_CASE("AOT compares sorted rewards, and its gradient finds the way back") {
  for (const bool paired : {true, false})
    for (const std::size_t n : {1u, 2u, 17u}) {
      CAPTURE(paired, n);
      pair_sums b(7, n);
      if (n == 17)
        for (const std::size_t i : {3u, 4u, 16u}) {
          b.mask[i] = 0;
          b.chosen[i] = not_a_number;
          b.ref_rejected[i] = infinity;
        }
      const rlhf::aot<rlhf::dpo_sigmoid> aot{{.beta = 0.3}, paired};
      const auto r = run(aot, b.inputs());
      REQUIRE(r.status);
      CHECK(r.loss == Approx(aot_by_hand(b, 0.3, paired)).epsilon(1e-12));
      for (std::size_t i = 0; i < n; ++i) {
        CAPTURE(i);
        if (b.mask[i] == 0) {
          CHECK((test::is_plain_zero(r.grad_chosen[i]) && test::is_plain_zero(r.grad_rejected[i]) &&
                 test::is_plain_zero(r.reward[i])));
          continue;
        }
        CHECK(r.reward[i] == Approx(0.3 * (b.chosen[i] - b.ref_chosen[i])));
        for (const bool chosen : {true, false}) {
          const auto f = [&](const std::vector<double>& x) {
            pair_sums moved = b;
            (chosen ? moved.chosen : moved.rejected) = x;
            return aot_by_hand(moved, 0.3, paired);
          };
          CHECK((chosen ? r.grad_chosen : r.grad_rejected)[i] ==
                Approx(test::central_difference(f, chosen ? b.chosen : b.rejected, i)).epsilon(1e-6).margin(1e-9));
        }
      }
    }
}

TEST_CASE("AOT: one pair is DPO, order is nothing, weights are refused") {
  pair_sums one(3, 1);
  const rlhf::aot<rlhf::dpo_sigmoid> aot{{.beta = 0.3}, true};
  const double margin = one.chosen[0] - one.rejected[0] - one.ref_chosen[0] + one.ref_rejected[0];
  CHECK(run(aot, one.inputs()).loss == Approx(softplus(-0.3 * margin)).epsilon(1e-14));

  pair_sums b(5, 12);
  const auto before = run(aot, b.inputs());
  for (auto* v : {&b.chosen, &b.rejected, &b.ref_chosen, &b.ref_rejected})
    std::rotate(v->begin(), v->begin() + 5, v->end());
  const auto after = run(aot, b.inputs());
  CHECK(after.loss == Approx(before.loss).epsilon(1e-14));
  CHECK(after.per_rank == before.per_rank);
  for (std::size_t i = 0; i < 12; ++i) CHECK(after.grad_chosen[i] == before.grad_chosen[(i + 5) % 12]);

  auto in = b.inputs();
  in.weight = b.chosen;
  CHECK(test::text(run(aot, in).status).find("weight") != std::string::npos);
  in.weight = {};
  in.ref_chosen = {};
  CHECK(test::text(run(aot, in).status).find("ref_chosen") != std::string::npos);
  CHECK(run(rlhf::aot<rlhf::dpo_sigmoid>{{.beta = 0}, true}, b.inputs()).status.code == rlhf::errc::argument);
  std::fill(b.mask.begin(), b.mask.end(), std::uint8_t{0});
  const auto none = run(aot, b.inputs());
  CHECK(none.status.code == rlhf::errc::empty_mask);
  CHECK(none.loss == 0);
}

TEST_CASE("WPO weighs a pair by the policy's probability of both responses") {
  rlhf::reference_backend backend;
  const auto c = test::padded_batch(1, 8, 6), r = test::padded_batch(2, 8, 9);
  // padded_batch's entropy stands in for any second stream of numbers.
  rlhf::response_tokens<double> chosen{c.layout(), c.logp, {}, c.mask}, rejected{r.layout(), r.logp, {}, r.mask};
  std::vector<double> weight(8, not_a_number);
  REQUIRE(rlhf::wpo_weights(backend, chosen, c.entropy, rejected, r.entropy, weight));
  const auto side = [](const test::token_batch& b, std::size_t row) {
    double sum = 0, n = 0;
    const auto w = static_cast<std::size_t>(b.width);
    for (std::size_t t = row * w; t < (row + 1) * w; ++t)
      if (b.mask[t] != 0) sum += b.logp[t] - b.entropy[t], n += 1;
    return n > 0 ? std::exp(sum / n) : 1.0;
  };
  for (std::size_t i = 0; i < 8; ++i) CHECK(weight[i] == Approx(side(c, i) * side(r, i)).epsilon(1e-12));
  CHECK(side(c, 1) == 1);  // a row without tokens
  std::vector<double> few(7);
  CHECK_FALSE(rlhf::wpo_weights(backend, chosen, c.entropy, rejected, r.entropy, few));
  CHECK_FALSE(rlhf::wpo_weights(backend, chosen, r.entropy, rejected, r.entropy, weight));
}

namespace {

constexpr std::int64_t vocabulary = 5;

struct logits_of_pairs {
  std::vector<double> logits[2], ref[2];
  std::vector<std::int32_t> target[2];
  std::vector<std::uint8_t> mask[2];
  std::int64_t pairs, width[2] = {3, 4};

  explicit logits_of_pairs(unsigned seed, std::int64_t n = 3) : pairs(n) {
    std::mt19937 random(seed);
    for (int s = 0; s < 2; ++s) {
      const auto tokens = static_cast<std::size_t>(n * width[s]);
      logits[s] = test::uniform(random, tokens * vocabulary, -3, 3);
      ref[s] = test::uniform(random, tokens * vocabulary, -3, 3);
      for (std::size_t t = 0; t < tokens; ++t) {
        target[s].push_back(static_cast<std::int32_t>(random() % vocabulary));
        mask[s].push_back(t % 5 == 2 ? 0 : 1);
        if (mask[s].back() == 0)
          for (std::size_t k = 0; k < vocabulary; ++k) logits[s][t * vocabulary + k] = k == 1 ? infinity : not_a_number;
      }
    }
  }
};

struct tdpo_result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> gradient[2], kl[2], per_pair;
};
tdpo_result run(const rlhf::tdpo& loss, const logits_of_pairs& b, bool in_place = false) {
  rlhf::reference_backend backend;
  tdpo_result r;
  rlhf::tdpo_side<double> side[2];
  for (int s = 0; s < 2; ++s) {
    const std::int64_t n = b.pairs * b.width[s];
    r.gradient[s] = in_place ? b.logits[s] : std::vector<double>(b.logits[s].size(), not_a_number);
    r.kl[s].assign(static_cast<std::size_t>(n), not_a_number);
    side[s].sequences = rlhf::padded(b.pairs, b.width[s]);
    side[s].logits = {in_place ? r.gradient[s].data() : b.logits[s].data(), n, vocabulary};
    side[s].ref_logits = {b.ref[s].data(), n, vocabulary};
    side[s].target = b.target[s];
    side[s].mask = b.mask[s];
    side[s].grad_logits = {r.gradient[s].data(), n, vocabulary};
    side[s].kl = r.kl[s];
  }
  r.per_pair.assign(static_cast<std::size_t>(b.pairs), not_a_number);
  rlhf::pair_outputs<double> out;
  out.loss = {&r.loss, 1};
  out.per_pair = r.per_pair;
  r.status = loss(backend, side[0], side[1], out);
  return r;
}

std::vector<double> log_softmax(const double* z) {
  double top = -infinity, sum = 0;
  for (std::int64_t k = 0; k < vocabulary; ++k) top = std::max(top, z[k]);
  for (std::int64_t k = 0; k < vocabulary; ++k) sum += std::exp(z[k] - top);
  std::vector<double> out;
  for (std::int64_t k = 0; k < vocabulary; ++k) out.push_back(z[k] - top - std::log(sum));
  return out;
}

/// The loss by its definition; the chosen side's KL from `frozen` where nothing flows through it.
double tdpo_by_hand(const rlhf::tdpo& loss, const logits_of_pairs& b, const logits_of_pairs& frozen) {
  const bool first = loss.version == rlhf::tdpo_version::tdpo1;
  double total = 0;
  for (std::int64_t pair = 0; pair < b.pairs; ++pair) {
    double m[2] = {}, k[2] = {};
    for (int s = 0; s < 2; ++s)
      for (std::int64_t t = pair * b.width[s]; t < (pair + 1) * b.width[s]; ++t) {
        const auto i = static_cast<std::size_t>(t);
        if (b.mask[s][i] == 0) continue;
        const auto p = log_softmax(b.logits[s].data() + t * vocabulary),
                   q = log_softmax(b.ref[s].data() + t * vocabulary);
        const auto held = log_softmax(frozen.logits[s].data() + t * vocabulary);
        const auto y = static_cast<std::size_t>(b.target[s][i]);
        m[s] += p[y] - q[y];
        for (std::size_t v = 0; v < vocabulary; ++v)
          k[s] += std::exp(q[v]) * (q[v] - (first || s == 1 ? p[v] : held[v]));
      }
    const double alpha = first ? 1 : loss.alpha;
    total += softplus(-loss.beta * (m[0] + alpha * k[0] - m[1] - alpha * k[1]));
  }
  return total / static_cast<double>(b.pairs);
}

}  // namespace

TEST_CASE("token-level DPO from logits: value, gradient, in place") {
  for (const auto version : {rlhf::tdpo_version::tdpo1, rlhf::tdpo_version::tdpo2}) {
    const rlhf::tdpo loss{.beta = 0.4, .alpha = 0.7, .version = version};
    const logits_of_pairs b(11);
    const auto r = run(loss, b), same = run(loss, b, true);
    REQUIRE(r.status);
    REQUIRE(same.status);
    CHECK(r.loss == Approx(tdpo_by_hand(loss, b, b)).epsilon(1e-12));
    CHECK(same.loss == r.loss);
    for (int s = 0; s < 2; ++s) {
      CHECK(same.gradient[s] == r.gradient[s]);
      for (std::size_t i = 0; i < b.logits[s].size(); ++i) {
        if (b.mask[s][i / vocabulary] == 0) {
          CHECK(test::is_plain_zero(r.gradient[s][i]));
          continue;
        }
        const auto f = [&](const std::vector<double>& x) {
          logits_of_pairs moved = b;
          moved.logits[s] = x;
          return tdpo_by_hand(loss, moved, b);
        };
        CHECK(r.gradient[s][i] == Approx(test::central_difference(f, b.logits[s], i)).epsilon(1e-6).margin(1e-9));
      }
    }
  }
}

TEST_CASE("token-level DPO: identities") {
  logits_of_pairs b(13);
  const rlhf::tdpo one{.beta = 0.4, .version = rlhf::tdpo_version::tdpo1}, two{.beta = 0.4, .alpha = 1},
      none{.beta = 0.4, .alpha = 0};
  CHECK(run(one, b).loss == Approx(run(two, b).loss).epsilon(1e-14));  // the same value, another gradient
  CHECK(run(one, b).gradient[1] == run(two, b).gradient[1]);
  CHECK(run(one, b).gradient[0] != run(two, b).gradient[0]);
  for (const double k : run(one, b).kl[0]) CHECK(k >= 0);
  // At the reference the loss is log 2 and the KL vanishes.
  for (int s = 0; s < 2; ++s) {
    std::fill(b.mask[s].begin(), b.mask[s].end(), std::uint8_t{1});
    b.logits[s] = b.ref[s];
  }
  const auto r = run(one, b);
  CHECK(r.loss == Approx(std::log(2.0)).epsilon(1e-14));
  for (int s = 0; s < 2; ++s)
    for (const double k : r.kl[s]) CHECK(std::abs(k) < 1e-14);
  // alpha 0 is DPO: the gradient of a token is its slope times (1{y} - p).
  const auto plain = run(none, b);
  for (std::int64_t pair = 0; pair < b.pairs; ++pair) {
    const auto p = log_softmax(b.logits[0].data() + pair * 3 * vocabulary);
    const auto y = static_cast<std::size_t>(b.target[0][static_cast<std::size_t>(pair * 3)]);
    for (std::size_t v = 0; v < vocabulary; ++v)
      CHECK(plain.gradient[0][static_cast<std::size_t>(pair * 3) * vocabulary + v] ==
            Approx(-0.2 / 3 * ((v == y ? 1 : 0) - std::exp(p[v]))).epsilon(1e-12).margin(1e-15));
  }
  CHECK(run(rlhf::tdpo{.beta = -1}, b).status.code == rlhf::errc::argument);
  CHECK(run(rlhf::tdpo{.alpha = -1}, b).status.code == rlhf::errc::argument);
}

TEST_CASE("BNF and Nash-MD by token") {
  using dual = rlhf::dual<double, 2>;
  rlhf::token<dual> t;
  const double logp = -1.2, ref = -0.9, entropy = 0.7, guard = 1e-6;
  t.logp = dual::variable(logp, 0);
  t.entropy = dual::variable(entropy, 1);
  t.ref_logp = ref;
  t.advantage = -0.25;
  const dual bnf = rlhf::bidirectional_negative_feedback{}(t);
  const double p = std::exp(logp), target = p / (std::exp(ref) + guard),
               others = (1 - target + guard) / (1 - p + guard);
  CHECK(bnf.value == Approx(0.25 * (target * logp + others * entropy)).epsilon(1e-14));
  CHECK(bnf.partial[0] == Approx(0.25 * target).epsilon(1e-14));
  CHECK(bnf.partial[1] == Approx(0.25 * others).epsilon(1e-14));
  t.ref_logp = -3;  // the policy is above: the target is 1 and nothing is left for the others
  CHECK(rlhf::bidirectional_negative_feedback{}(t).partial[0] == 0.25);
  CHECK(rlhf::bidirectional_negative_feedback{}(t).partial[1] == Approx(0.25 * guard / (1 - p + guard)));
  const dual nash = rlhf::nash_md_token{.beta = 0.2}(t);
  CHECK(nash.value == Approx(logp * (0.2 * (logp + 3) + 0.25)));
  CHECK(nash.partial[0] == Approx(0.2 * (logp + 3) + 0.25));
  CHECK_FALSE(rlhf::nash_md_token{.beta = -1}.check());
  CHECK_FALSE(rlhf::bidirectional_negative_feedback{.guard = 0}.check());
}

namespace {

template <class Objective>
rlhf::dual<double, 1> of_response(const Objective& o, double logp, double ref, double label, double point) {
  rlhf::labelled_response<rlhf::dual<double, 1>> r;
  r.logp = rlhf::dual<double, 1>::variable(logp, 0);
  r.ref_logp = ref;
  r.label = label;
  r.reference_point = point;
  return o(r);
}

double kto_by_hand(const pair_sums& b, double beta) {
  double kl[2] = {}, loss = 0;
  const std::size_t n = b.chosen.size();
  for (std::size_t i = 0; i < n; ++i) {
    kl[0] += (b.chosen[i] - b.ref_chosen[i]) / static_cast<double>(n);
    kl[1] += (b.rejected[i] - b.ref_rejected[i]) / static_cast<double>(n);
  }
  for (double& k : kl) k = std::max(k, 0.0);
  for (std::size_t i = 0; i < n; ++i)
    loss += 2 - 1 / (1 + std::exp(-beta * (b.chosen[i] - b.ref_chosen[i] - kl[1]))) -
            1 / (1 + std::exp(-beta * (kl[0] - b.rejected[i] + b.ref_rejected[i])));
  return loss / static_cast<double>(2 * n);
}

}  // namespace

TEST_CASE("optimism, Nash-MD and A*-PO on whole responses") {
  const auto up = of_response(rlhf::optimism{0.03}, -7, -9, 0, 0);
  CHECK(up.value == Approx(0.06));
  CHECK(up.partial[0] == 0.03);
  CHECK_FALSE(rlhf::optimism{infinity}.check());
  const auto nash = of_response(rlhf::nash_md{.beta = 0.1}, -7, -9, 0.8, 0);
  CHECK(nash.value == Approx(-7 * (0.2 - 0.3)));
  CHECK(nash.partial[0] == Approx(0.2 - 0.3));  // the pull is a constant of the loss
  CHECK_FALSE(rlhf::nash_md{.beta = -1}.check());
  const auto star = of_response(rlhf::optimal_advantage_regression{.beta = 0.5}, -7, -9, 0.8, 0.6);
  CHECK(star.value == Approx(0.64));
  CHECK(star.partial[0] == Approx(2 * 0.8 * 0.5));
  CHECK(of_response(rlhf::optimal_advantage_regression{.beta = 0.5}, -8.6, -9, 0.8, 0.6).value ==
        Approx(0).margin(1e-30));
  CHECK_FALSE(rlhf::optimal_advantage_regression{.beta = 0}.check());
}

TEST_CASE("the optimal value lies between the mean and the maximum of the rewards") {
  rlhf::reference_backend backend;
  const std::vector<double> reward = {0.3, -1, 2, 0.5, not_a_number, 700, not_a_number, 699, 1};
  const std::vector<std::int64_t> offsets = {0, 5, 6, 7, 9};
  rlhf::group_inputs<double> in;
  in.groups.groups = rlhf::packed(offsets);
  in.reward = reward;
  const auto values = [&](double beta) {
    std::vector<double> out(reward.size(), not_a_number);
    REQUIRE(rlhf::grouped<rlhf::optimal_value>{{beta}}(backend, in, out));
    return out;
  };
  const auto v = values(0.5);
  CHECK(v[0] == Approx(0.5 * std::log((std::exp(0.6) + std::exp(-2.0) + std::exp(4.0) + std::exp(1.0)) / 4)));
  for (int j = 1; j < 5; ++j) CHECK(v[static_cast<std::size_t>(j)] == v[0]);
  CHECK(v[5] == 700);
  CHECK(v[6] == 0);  // no reward at all
  CHECK(v[7] == Approx(699 - 0.5 * std::log(2.0)));
  CHECK(values(1e-3)[0] == Approx(2 - 1e-3 * std::log(4.0)));
  CHECK(values(1e6)[0] == Approx(0.45).epsilon(1e-4));
  CHECK_FALSE(rlhf::optimal_value{0}.check());
}

TEST_CASE("KTO on pairs: the gradient goes through the means of the batch") {
  rlhf::reference_backend backend;
  for (const double shift : {0.0, 9.0, -9.0})  // both means clamped or not
    for (const std::size_t n : {1u, 6u}) {
      CAPTURE(shift, n);
      pair_sums b(3, n);
      for (double& x : b.ref_chosen) x -= shift;
      for (double& x : b.ref_rejected) x -= shift / 2;
      std::vector<double> gradient[2] = {std::vector<double>(n), std::vector<double>(n)}, items(2 * n);
      double loss = 0;
      rlhf::pair_outputs<double> out;
      out.loss = {&loss, 1};
      out.grad_chosen = gradient[0];
      out.grad_rejected = gradient[1];
      out.per_pair = items;
      auto in = b.inputs();
      in.mask = {};
      REQUIRE(rlhf::kto_pair{.beta = 0.2}(backend, in, out));
      CHECK(loss == Approx(kto_by_hand(b, 0.2)).epsilon(1e-12));
      CHECK(std::accumulate(items.begin(), items.end(), 0.0) / static_cast<double>(2 * n) == Approx(loss));
      for (int side = 0; side < 2; ++side)
        for (std::size_t i = 0; i < n; ++i) {
          const auto f = [&](const std::vector<double>& x) {
            pair_sums moved = b;
            (side == 0 ? moved.chosen : moved.rejected) = x;
            return kto_by_hand(moved, 0.2);
          };
          CHECK(gradient[side][i] ==
                Approx(test::central_difference(f, side == 0 ? b.chosen : b.rejected, i)).epsilon(1e-6).margin(1e-9));
        }
      in.mask = b.mask;
      CHECK(test::text(rlhf::kto_pair{}(backend, in, out)).find("mask") != std::string::npos);

      // Every second element: what lies between stays.
      in.mask = {};
      std::vector<double> apart(4 * n, 7);
      out.per_pair = {apart.data(), 2 * n, 2};
      REQUIRE(rlhf::kto_pair{.beta = 0.2}(backend, in, out));
      for (std::size_t k = 0; k < 2 * n; ++k) {
        CHECK(apart[2 * k] == items[k]);
        CHECK(apart[2 * k + 1] == 7);
      }
    }

  // A refused call has written nothing.
  pair_sums b(3, 2);
  auto in = b.inputs();
  in.mask = {};
  std::vector<double> to(8, 7);
  const auto refusal = [&](std::int64_t pairs, std::int64_t loss, std::int64_t chosen, std::int64_t rejected) {
    in.chosen.extent = in.rejected.extent = in.ref_chosen.extent = in.ref_rejected.extent = pairs;
    rlhf::pair_outputs<double> out;
    out.loss = {to.data(), loss};
    out.grad_chosen = {to.data() + 1, chosen};
    out.grad_rejected = {to.data() + 3, rejected};
    const std::string said = test::text(rlhf::kto_pair{}(backend, in, out));
    CHECK(to == std::vector<double>(8, 7));
    return said;
  };
  CHECK(refusal(2, 2, 2, 2) == "kto_pair: loss has 2 elements, wants 1");
  CHECK(refusal(2, 1, 1, 2) == "kto_pair: grad_chosen has 1 elements, wants 2");
  CHECK(refusal(2, 1, 2, 3) == "kto_pair: grad_rejected has 3 elements, wants 2");
  CHECK(refusal(-2, 1, -2, -2) == "kto_pair: chosen has elements: -2, wants 0 or more");
}
