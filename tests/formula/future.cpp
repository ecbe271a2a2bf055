// FIPO's weights, tokens of high entropy, expectiles.

#include "rlhf/objective/future.hpp"

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/driver/future_weights.hpp"
#include "rlhf/driver/token_selection.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/expectile.hpp"

using test::infinity;
using test::token_batch;

namespace {

std::vector<double> weights(const rlhf::future_weight& how, const token_batch& b,
                            const std::vector<double>& advantage) {
  rlhf::reference_backend backend;
  std::vector<double> out(b.size(), 99);
  rlhf::mask_view<> mask;
  if (!b.mask.empty()) mask = b.mask;
  REQUIRE(rlhf::future_weights(backend, b.layout(), how, rlhf::view<const double>(b.logp),
                               rlhf::view<const double>(b.old_logp), rlhf::view<const double>(advantage), mask,
                               rlhf::view<double>(out)));
  return out;
}

}  // namespace

TEST_CASE("FIPO weighs a token by its future") {
  for (const token_batch& b : {test::padded_batch(51), test::packed_of(test::padded_batch(51))}) {
    const rlhf::future_weight how{.decay = 2, .low = 0.7, .high = 1.3, .ratio_bound = 1.35, .safety = 1.1};
    const auto found = weights(how, b, b.advantage);
    const double gamma = std::exp2(-0.5);
    int risky = 0, left_out = 0;
    for (std::int64_t s = 0; s < b.layout().sequences; ++s) {
      double sum = 0;
      for (std::int64_t i = b.layout()[s].end - 1; i >= b.layout()[s].begin; --i) {
        const auto at = static_cast<std::size_t>(i);
        if (!b.valid(at)) {
          CHECK(test::is_plain_zero(found[at]));
          continue;
        }
        const double d = b.logp[at] - b.old_logp[at], ratio = std::exp(d);
        left_out += ratio > 1.35;
        sum = (ratio > 1.35 ? 0 : d) + gamma * sum;
        double want = std::min(std::max(std::exp(sum), 0.7), 1.3);
        if (b.advantage[at] < 0 && ratio > 1.1) {
          want = std::min(std::max(want, 0.8), 1.0);
          ++risky;
        }
        CHECK(found[at] == Approx(want).epsilon(1e-12));
      }
    }
    CHECK(risky > 0);
    CHECK(left_out > 0);
  }
  // On policy every weight is 1; an infinite decay adds the whole future up; one advantage for a sequence is spread.
  token_batch b = test::padded_batch(52);
  b.logp = b.old_logp;
  for (const double w : weights({}, b, std::vector<double>(9, -1.0))) CHECK((w == 1 || test::is_plain_zero(w)));
  token_batch line;
  line.rows = 1;
  line.width = 3;
  line.logp = {0.1, 0.2, -0.05};
  line.old_logp = {0, 0, 0};
  const auto all = weights({.decay = infinity, .low = 0, .high = 10}, line, {1.0});
  CHECK(all[0] == Approx(std::exp(0.25)));
  CHECK(all[2] == Approx(std::exp(-0.05)));
  CHECK(test::text(rlhf::future_weight{.decay = 0}.check()) == "future_weight: decay is 0, wants more than 0");
  CHECK(test::text(rlhf::future_weight{.low = 2}.check()) == "future_weight: low is 2, wants 0 <= low <= high");
}

TEST_CASE("tokens of high entropy") {
  rlhf::reference_backend backend;
  const auto keep = [&](double fraction, const std::vector<double>& entropy, const std::vector<std::uint8_t>& mask) {
    std::vector<std::uint8_t> out(entropy.size(), 99);
    rlhf::selection_inputs<double> in;
    in.entropy = entropy;
    in.mask = mask;
    REQUIRE(rlhf::select_tokens(backend, rlhf::padded(1, static_cast<std::int64_t>(entropy.size())),
                                rlhf::high_entropy{fraction}, in, rlhf::view<std::uint8_t>(out)));
    return out;
  };
  std::mt19937 random(53);
  const auto entropy = test::uniform(random, 83, 0, 3);
  std::vector<std::uint8_t> mask(83);
  for (auto& m : mask) m = random() % 3 != 0;
  std::vector<double> sorted;
  for (std::size_t i = 0; i < 83; ++i)
    if (mask[i] != 0) sorted.push_back(entropy[i]);
  std::sort(sorted.begin(), sorted.end());
  for (const double fraction : {0.05, 0.2, 0.5, 1.0}) {
    const double at = (1 - fraction) * static_cast<double>(sorted.size() - 1), low = std::floor(at);
    const auto k = static_cast<std::size_t>(low);
    const double next = sorted[std::min(k + 1, sorted.size() - 1)];
    const double threshold = sorted[k] + (at - low) * (next - sorted[k]);
    const auto kept = keep(fraction, entropy, mask);
    for (std::size_t i = 0; i < 83; ++i) CHECK(kept[i] == (mask[i] != 0 && entropy[i] >= threshold ? 1 : 0));
  }
  CHECK(keep(0.25, {1, 2, 2, 2, 0}, {1, 1, 1, 1, 1}) == std::vector<std::uint8_t>{0, 1, 1, 1, 0});  // ties
  CHECK(keep(0.2, {1, 2}, {0, 0}) == std::vector<std::uint8_t>{0, 0});
  CHECK(keep(0.2, {1, 2}, {1, 0}) == std::vector<std::uint8_t>{1, 0});
  CHECK(test::text(rlhf::high_entropy{0}.check()) == "high_entropy: fraction is 0, wants 0 < fraction <= 1");
}

TEST_CASE("expectiles") {
  const auto at = [](double tau, double v, double q) {
    rlhf::value_item<rlhf::dual<double>> item;
    item.value = rlhf::dual<double>::variable(v, 0);
    item.returns = q;
    return rlhf::expectile_value{.tau = tau}(item);
  };
  for (const double tau : {0.5, 0.7, 0.9})
    for (const double q : {-1.0, 0.3, 2.0}) {
      const double weight = q < 0.5 ? 1 - tau : tau;
      CHECK(at(tau, 0.5, q).value == Approx(weight * (q - 0.5) * (q - 0.5)));
      CHECK(at(tau, 0.5, q).partial[0] == Approx(2 * weight * (0.5 - q)));
    }
  // Its minimum over a two-point target is the expectile: tau of the weight above.
  double v = 0;
  for (int i = 0; i < 4000; ++i) v -= 0.01 * (at(0.9, v, 0).partial[0] + at(0.9, v, 1).partial[0]);
  CHECK(v == Approx(0.9));
  CHECK(test::text(rlhf::expectile_value{.tau = 1}.check()) == "expectile_value: tau is 1, wants 0 < tau < 1");
}
