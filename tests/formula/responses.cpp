// Pairs given as tokens: how tokens add up to responses, the NLL term, and the way back of the gradient.

#include "rlhf/objective/response.hpp"

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

namespace {

using test::not_a_number;
using test::token_batch;

struct token_pairs {
  token_batch chosen, rejected;
  std::vector<std::uint8_t> mask;  // of pairs

  [[nodiscard]] rlhf::token_pair_inputs<double> inputs() const {
    rlhf::token_pair_inputs<double> in;
    in.chosen = {chosen.layout(), chosen.logp, chosen.ref_logp, {}};
    in.rejected = {rejected.layout(), rejected.logp, rejected.ref_logp, {}};
    if (!chosen.mask.empty()) in.chosen.mask = chosen.mask;
    if (!rejected.mask.empty()) in.rejected.mask = rejected.mask;
    if (!mask.empty()) in.mask = mask;
    return in;
  }
};
/// Nine pairs; responses of 0, 1 and more tokens on both sides; the pair in the middle is masked out.
token_pairs pairs_of(unsigned seed) {
  token_pairs p{test::padded_batch(seed, 9, 11), test::padded_batch(seed + 100, 9, 7), std::vector<std::uint8_t>(9, 1)};
  p.mask[4] = 0;
  for (std::size_t i = 4 * 11; i < 5 * 11; ++i) p.chosen.logp[i] = not_a_number;
  return p;
}

struct result {
  rlhf::status status;
  double loss = not_a_number, nll = not_a_number;
  std::vector<double> chosen, rejected, per_pair;
  rlhf::statistics stats;
};
template <class Loss>
result run(const Loss& loss, const token_pairs& p) {
  rlhf::reference_backend backend;
  result r;
  r.chosen.assign(p.chosen.size(), not_a_number);
  r.rejected.assign(p.rejected.size(), not_a_number);
  r.per_pair.assign(static_cast<std::size_t>(p.chosen.layout().sequences), not_a_number);
  rlhf::pair_outputs<double> out;
  out.loss = {&r.loss, 1};
  out.nll = {&r.nll, 1};
  out.grad_chosen = r.chosen;
  out.grad_rejected = r.rejected;
  out.per_pair = r.per_pair;
  out.stats = &r.stats;
  r.status = loss(backend, p.inputs(), out);
  return r;
}

/// The valid tokens of row s.
std::vector<std::size_t> tokens_of(const token_batch& b, std::int64_t s) {
  std::vector<std::size_t> out;
  for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i)
    if (b.valid(static_cast<std::size_t>(i))) out.push_back(static_cast<std::size_t>(i));
  return out;
}
/// A sum over a response with weights by position.
template <class Term>
double sum_of(const token_batch& b, std::int64_t s, Term term) {
  double sum = 0;
  std::size_t position = 0;
  for (const auto i : tokens_of(b, s)) sum += term(i, ++position);
  return sum;
}

template <class Loss>
void check_gradient(const char* name, const Loss& loss, const token_pairs& p) {
  CAPTURE(name);
  const auto r = run(loss, p);
  REQUIRE(r.status);
  for (const bool side : {true, false}) {
    const token_batch& b = side ? p.chosen : p.rejected;
    const auto& gradient = side ? r.chosen : r.rejected;
    for (std::size_t i = 0; i < b.size(); ++i) {
      CAPTURE(side, i);
      const bool out = !b.valid(i) || (i / static_cast<std::size_t>(b.width) == 4);
      if (out) {
        CHECK(test::is_plain_zero(gradient[i]));
        continue;
      }
      const auto f = [&](const std::vector<double>& x) {
        token_pairs moved = p;
        (side ? moved.chosen : moved.rejected).logp = x;
        return run(loss, moved).loss;
      };
      CHECK(gradient[i] == Approx(test::central_difference(f, b.logp, i)).epsilon(1e-6).margin(1e-9));
    }
  }
}

double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

}  // namespace

TEST_CASE("tokens add up to responses, gradients go back to tokens") {
  const token_pairs p = pairs_of(51);
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{.beta = 0.3}};
  const auto r = run(loss, p);
  REQUIRE(r.status);
  double sum = 0;
  for (std::int64_t s = 0; s < 9; ++s) {
    const auto ratio = [&](const token_batch& b) {
      return sum_of(b, s, [&](std::size_t i, std::size_t) { return b.logp[i] - b.ref_logp[i]; });
    };
    if (s == 4) {
      CHECK(test::is_plain_zero(r.per_pair[4]));
      continue;
    }
    const double want = -log_sigmoid(0.3 * (ratio(p.chosen) - ratio(p.rejected)));
    CHECK(r.per_pair[static_cast<std::size_t>(s)] == Approx(want).epsilon(1e-12));
    sum += want;
  }
  CHECK(r.loss == Approx(sum / 8).epsilon(1e-12));
  double nll = 0, tokens = 0;  // asked for without a term: it is a statistic
  for (std::int64_t s = 0; s < 9; ++s)
    if (s != 4) {
      nll += sum_of(p.chosen, s, [&](std::size_t i, std::size_t) { return -p.chosen.logp[i]; });
      tokens += static_cast<double>(tokens_of(p.chosen, s).size());
    }
  CHECK(r.nll == Approx(nll / tokens).epsilon(1e-12));
  check_gradient("dpo", loss, p);
  check_gradient("ipo", rlhf::preference_loss{rlhf::ipo{}}, p);
}

TEST_CASE("length-desensitised: tokens beyond the shorter response count less") {
  const token_pairs p = pairs_of(52);
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{.beta = 0.3}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                   rlhf::length_desensitised{.alpha = 0.4}};
  const auto r = run(loss, p);
  REQUIRE(r.status);
  for (std::int64_t s = 0; s < 9; ++s) {
    if (s == 4) continue;
    const std::size_t shorter = std::min(tokens_of(p.chosen, s).size(), tokens_of(p.rejected, s).size());
    const auto ratio = [&](const token_batch& b) {
      return sum_of(
          b, s, [&](std::size_t i, std::size_t k) { return (k > shorter ? 0.4 : 1) * (b.logp[i] - b.ref_logp[i]); });
    };
    CHECK(r.per_pair[static_cast<std::size_t>(s)] ==
          Approx(-log_sigmoid(0.3 * (ratio(p.chosen) - ratio(p.rejected)))).epsilon(1e-12));
  }
  check_gradient("length-desensitised", loss, p);
  // alpha 1 is the plain sum; responses of one length do not notice.
  const rlhf::preference_loss neutral{rlhf::dpo_sigmoid{}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                      rlhf::length_desensitised{.alpha = 1}};
  CHECK(run(neutral, p).loss == Approx(run(rlhf::preference_loss{rlhf::dpo_sigmoid{}}, p).loss).epsilon(1e-13));
}

TEST_CASE("clamped log-ratios") {
  const token_pairs p = pairs_of(53);
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{.beta = 0.3}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                   rlhf::clamped_log_ratio{.low = -0.5, .high = 0.7}};
  const auto r = run(loss, p);
  REQUIRE(r.status);
  for (std::int64_t s = 0; s < 9; ++s) {
    if (s == 4) continue;
    const auto ratio = [&](const token_batch& b) {
      return sum_of(b, s, [&](std::size_t i, std::size_t) { return std::clamp(b.logp[i] - b.ref_logp[i], -0.5, 0.7); });
    };
    CHECK(r.per_pair[static_cast<std::size_t>(s)] ==
          Approx(-log_sigmoid(0.3 * (ratio(p.chosen) - ratio(p.rejected)))).epsilon(1e-12));
  }
  check_gradient("clamped", loss, p);
}

TEST_CASE("the NLL term on chosen responses, per token and per response") {
  const token_pairs p = pairs_of(54);
  for (const auto reduction : {rlhf::nll_reduction::token_mean, rlhf::nll_reduction::sequence_mean}) {
    const bool by_token = reduction == rlhf::nll_reduction::token_mean;
    CAPTURE(by_token);
    const rlhf::preference_loss loss{rlhf::dpo_sigmoid{.beta = 0.3}, rlhf::batch_mean{},
                                     rlhf::chosen_nll{.weight = 0.7, .reduction = reduction}};
    const auto r = run(loss, p), plain = run(rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.3}}, p);
    REQUIRE(r.status);
    double tokens = 0, sum = 0, mean = 0;
    for (std::int64_t s = 0; s < 9; ++s) {
      if (s == 4) continue;
      const double n = static_cast<double>(tokens_of(p.chosen, s).size());
      const double nll = sum_of(p.chosen, s, [&](std::size_t i, std::size_t) { return -p.chosen.logp[i]; });
      tokens += n;
      sum += nll;
      mean += n > 0 ? nll / n / 8 : 0;
    }
    const double want = by_token ? sum / tokens : mean;
    CHECK(r.nll == Approx(want).epsilon(1e-12));
    CHECK(r.loss == Approx(plain.loss + 0.7 * want).epsilon(1e-12));
    check_gradient("nll", loss, p);
    // Alone, and of the plain sum whatever the reduction of the objective.
    const rlhf::preference_loss alone{rlhf::none{}, rlhf::batch_mean{},
                                      rlhf::chosen_nll{.weight = 1, .reduction = reduction}};
    CHECK(run(alone, p).loss == Approx(want).epsilon(1e-12));
    const rlhf::preference_loss desensitised{rlhf::dpo_sigmoid{.beta = 0.3}, rlhf::batch_mean{},
                                             rlhf::chosen_nll{.weight = 0.7, .reduction = reduction},
                                             rlhf::length_desensitised{.alpha = 0.4}};
    CHECK(run(desensitised, p).nll == Approx(want).epsilon(1e-12));
    check_gradient("nll beside length-desensitised", desensitised, p);
  }
}

TEST_CASE("pairs as packed tokens, as padded tokens and as sums are the same") {
  token_pairs padded = pairs_of(55);
  const token_pairs packed{test::packed_of(padded.chosen), test::packed_of(padded.rejected), padded.mask};
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{.beta = 0.3}, rlhf::batch_mean{}, rlhf::chosen_nll{.weight = 0.5}};
  const auto a = run(loss, padded), b = run(loss, packed);
  CHECK(a.loss == b.loss);
  CHECK(a.per_pair == b.per_pair);
  const auto dense = [](const token_batch& batch, const std::vector<double>& x) {
    std::vector<double> out;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (batch.valid(i)) out.push_back(x[i]);
    return out;
  };
  CHECK(dense(padded.chosen, a.chosen) == b.chosen);
  CHECK(dense(padded.rejected, a.rejected) == b.rejected);

  std::vector<double> sums[6];
  for (std::int64_t s = 0; s < 9; ++s) {
    const auto put = [&](const token_batch& batch, int k) {
      sums[k].push_back(sum_of(batch, s, [&](std::size_t i, std::size_t) { return batch.logp[i]; }));
      sums[k + 1].push_back(sum_of(batch, s, [&](std::size_t i, std::size_t) { return batch.ref_logp[i]; }));
      sums[k + 2].push_back(static_cast<double>(tokens_of(batch, s).size()));
    };
    put(padded.chosen, 0);
    put(padded.rejected, 3);
  }
  rlhf::reference_backend backend;
  double total = 0;
  std::vector<double> gradient(9);
  rlhf::pair_inputs<double> in;
  in.chosen = sums[0];
  in.ref_chosen = sums[1];
  in.chosen_length = sums[2];
  in.rejected = sums[3];
  in.ref_rejected = sums[4];
  in.mask = padded.mask;
  rlhf::pair_outputs<double> out;
  out.loss = {&total, 1};
  out.grad_chosen = gradient;
  REQUIRE(loss(backend, in, out));
  CHECK(total == Approx(a.loss).epsilon(1e-13));
  for (std::int64_t s = 0; s < 9; ++s)
    for (const auto i : tokens_of(padded.chosen, s))
      CHECK(a.chosen[i] == Approx(gradient[static_cast<std::size_t>(s)]).epsilon(1e-12).margin(1e-18));
}

TEST_CASE("pairs cut into calls add up, with denominators of the whole") {
  const token_pairs p = pairs_of(56);
  double tokens = 0;
  for (std::int64_t s = 0; s < 9; ++s)
    if (s != 4) tokens += static_cast<double>(tokens_of(p.chosen, s).size());
  for (const auto reduction : {rlhf::nll_reduction::token_mean, rlhf::nll_reduction::sequence_mean}) {
    const bool by_token = reduction == rlhf::nll_reduction::token_mean;
    const rlhf::preference_loss whole{rlhf::dpo_sigmoid{}, rlhf::batch_mean{},
                                      rlhf::chosen_nll{.weight = 0.5, .reduction = reduction}};
    const rlhf::preference_loss parts{
        rlhf::dpo_sigmoid{}, rlhf::batch_mean{.items = 8},
        rlhf::chosen_nll{.weight = 0.5, .reduction = reduction, .count = by_token ? tokens : 8}};
    const auto all = run(whole, p);
    double loss = 0;
    std::vector<double> gradient;
    rlhf::statistics stats;
    for (const auto& [first, last] : {std::pair{0, 2}, {2, 3}, {3, 7}, {7, 9}}) {
      const auto cut = [&](const token_batch& b) {
        token_batch c = b;
        c.rows = last - first;
        for (auto* stream : c.streams())
          *stream = std::vector<double>(stream->begin() + first * b.width, stream->begin() + last * b.width);
        c.mask = std::vector<std::uint8_t>(b.mask.begin() + first * b.width, b.mask.begin() + last * b.width);
        return c;
      };
      const token_pairs micro{cut(p.chosen), cut(p.rejected),
                              std::vector<std::uint8_t>(p.mask.begin() + first, p.mask.begin() + last)};
      const auto r = run(parts, micro);
      REQUIRE(test::worked(r.status));
      loss += r.loss;
      gradient.insert(gradient.end(), r.chosen.begin(), r.chosen.end());
      stats.merge(r.stats);
    }
    CHECK(loss == Approx(all.loss).epsilon(1e-13));
    for (std::size_t i = 0; i < gradient.size(); ++i)
      CHECK(gradient[i] == Approx(all.chosen[i]).epsilon(1e-13).margin(1e-18));
    CHECK(stats["rewards/margins"] == Approx(all.stats["rewards/margins"]).epsilon(1e-12));
    CHECK(stats["items"] == 8);
  }
}

TEST_CASE("no pair at all, and all pairs masked") {
  token_pairs p = pairs_of(57);
  p.mask.assign(9, 0);
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{}, rlhf::batch_mean{}, rlhf::chosen_nll{.weight = 0.5}};
  const auto r = run(loss, p);
  CHECK(test::text(r.status) == "preference_loss: mask selects no element; all outputs are 0");
  CHECK(test::is_plain_zero(r.loss));
  CHECK(test::is_plain_zero(r.nll));
  for (const auto& v : {r.chosen, r.rejected, r.per_pair})
    for (const double x : v) CHECK(test::is_plain_zero(x));
  token_pairs none;
  none.chosen.offsets = none.rejected.offsets = {0};
  const auto empty = run(loss, none);
  CHECK(empty.status.code == rlhf::errc::empty_mask);
  CHECK(empty.loss == 0);
}
