// What is said of scores, on cases with a closed form.

#include "align/data/judgement.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "align/data.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/math/random.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using numbers = std::vector<double>;
using lengths = std::vector<std::int64_t>;

namespace {

double logit(double p) { return std::log(p / (1 - p)); }

/// Margins as a Bradley-Terry model with these scores would label them, then scaled.
numbers drawn(std::uint32_t n, double scale) {
  const rlhf::random_numbers random({.seed = 3});
  numbers margins;
  for (std::uint32_t i = 0; i < n; ++i) {
    const double d = 2 * random.normal({.prompt = i});
    const bool first = random.uniform({.prompt = i, .draw = 1}) < rlhf::sigmoid(d);
    margins.push_back(scale * (first ? d : -d));
  }
  return margins;
}

/// Laws to draw from, by their name.
struct random_law {
  std::string name;
  [[nodiscard]] double won(double d) const {
    return name == "rao_kupper" ? 1 / (1 + 4 * std::exp(-d)) : std::erfc(-d / 2) / 2;
  }
  [[nodiscard]] align::win_law odds() const {
    if (name == "thurstone") return align::thurstone_log_odds;
    return [](double d) { return align::rao_kupper_log_odds(d, std::log(4.0)); };
  }
};

}  // namespace

TEST_CASE("accuracy counts ties half and has Wilson's interval") {
  // 6 right, 3 wrong, 1 tie of 10.
  const numbers chosen{1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, rejected{0, 0, 0, 0, 0, 0, 1, 1, 1, 0};
  const lengths same(10, 5);
  const align::judgement found = align::judge(chosen, rejected, same, same);
  CHECK(found.accuracy.share == Approx(0.65));
  CHECK((found.accuracy.pairs == 10 && found.accuracy.ties == 1));
  // The ends of the interval solve (p - 0.65)^2 = z^2 p (1 - p) / n.
  const double z = 1.959963984540054;
  for (const double p : {found.accuracy.low, found.accuracy.high})
    CHECK((p - 0.65) * (p - 0.65) == Approx(z * z * p * (1 - p) / 10));
  CHECK((found.accuracy.low < 0.65 && found.accuracy.high > 0.65));
  CHECK((found.longer_wins.share == 0.5 && found.longer_wins.ties == 10));
  CHECK((found.longer_chosen.pairs == 0 && std::isnan(found.longer_chosen.share)));
  CHECK((found.longer_chosen.low == 0 && found.longer_chosen.high == 1));
  CHECK(std::isnan(found.length_correlation));
}

TEST_CASE("all right: the interval ends at 1") {
  const align::judgement found = align::judge(numbers{1, 2}, numbers{0, 0}, lengths{1, 1}, lengths{2, 2});
  CHECK((found.accuracy.share == 1 && found.accuracy.high == 1));
  const double z = 1.959963984540054;
  CHECK(found.accuracy.low == Approx(2 / (2 + z * z)));
  CHECK((found.calibration.temperature == 0 && std::isnan(found.calibration.scaled_ece)));
}

TEST_CASE("a judge of length is found out") {
  const lengths chosen{10, 20, 5, 7}, rejected{4, 30, 1, 7};
  const numbers score_chosen(chosen.begin(), chosen.end()), score_rejected(rejected.begin(), rejected.end());
  const align::judgement found = align::judge(score_chosen, score_rejected, chosen, rejected);
  CHECK(found.accuracy.share == Approx(2.5 / 4));
  CHECK(found.longer_wins.share == found.accuracy.share);
  CHECK((found.longer_chosen.pairs == 2 && found.longer_chosen.share == 1));
  CHECK((found.shorter_chosen.pairs == 1 && found.shorter_chosen.share == 0));
  CHECK(found.length_correlation == Approx(1));
  // Which one is called chosen does not matter.
  const align::judgement other =
      align::judge(numbers{10, 30, 5, 7}, numbers{4, 20, 1, 7}, lengths{10, 30, 5, 7}, lengths{4, 20, 1, 7});
  CHECK(other.length_correlation == Approx(found.length_correlation));
  const align::judgement against = align::judge(score_rejected, score_chosen, chosen, rejected);
  CHECK(against.length_correlation == Approx(-1));
}

TEST_CASE("the correlation in closed form") {
  // Margins 1, 2; lengths 3, -1: (3 - 2) / sqrt(5 * 10).
  const align::judgement found = align::judge(numbers{1, 2}, numbers{0, 0}, lengths{4, 1}, lengths{1, 2});
  CHECK(found.length_correlation == Approx(1 / std::sqrt(50.0)));
}

TEST_CASE("calibration in closed form") {
  // Confidence 0.8 four times, right three times: ECE 0.05; T brings the confidence to 0.75.
  const double d = logit(0.8);
  const align::calibration found = align::calibrate(numbers{d, d, d, -d});
  CHECK(found.ece == Approx(0.05));
  CHECK(found.adaptive_ece == Approx((0.8 + 0.2 + 0.2 + 0.2) / 4));  // four bins of one pair
  CHECK(found.brier == Approx((3 * 0.04 + 0.64) / 4));
  CHECK(found.nll == Approx(-(3 * std::log(0.8) + std::log(0.2)) / 4));
  CHECK(found.temperature == Approx(d / logit(0.75)));
  CHECK(found.scaled_ece == Approx(0).margin(1e-12));
  CHECK(found.scaled_nll == Approx(-(3 * std::log(0.75) + std::log(0.25)) / 4));
  REQUIRE(found.bins.size() == 15);
  const align::reliability_bin& bin = found.bins[9];  // 0.8 to 0.8333
  CHECK((bin.count == 4 && bin.confidence == Approx(0.8) && bin.accuracy == Approx(0.75)));
  CHECK((bin.low == Approx(0.8) && bin.high == Approx(0.5 + 10 / 30.0)));
}

TEST_CASE("a temperature is found at any scale, and is 0 or infinite where it must be") {
  for (const double scale : {1e-300, 1e-9, 1.0, 1e9, 1e300}) {
    const align::calibration found = align::calibrate(numbers{scale, scale, scale, -scale});
    CHECK(found.temperature / scale == Approx(1 / logit(0.75)));
  }
  CHECK(align::calibrate(numbers{1, -1}).temperature == std::numeric_limits<double>::infinity());
  CHECK(align::calibrate(numbers{0, 0}).temperature == std::numeric_limits<double>::infinity());
  CHECK(align::calibrate(numbers{1, 0}).temperature == 0);
  CHECK(align::calibrate(numbers{700, -1e-6, -1e-6}).temperature > 0);
  const align::calibration tie = align::calibrate(numbers{0});
  CHECK((tie.ece == 0 && tie.nll == Approx(std::log(2))));
}

TEST_CASE("scores of the law itself are calibrated, doubled ones are too sure by a factor of two") {
  const align::calibration fair = align::calibrate(drawn(200'000, 1)), sure = align::calibrate(drawn(200'000, 2));
  CHECK(fair.ece < 0.006);
  CHECK(fair.adaptive_ece < 0.006);
  CHECK(fair.temperature == Approx(1).margin(0.02));
  CHECK(sure.temperature == Approx(2 * fair.temperature).epsilon(1e-9));
  CHECK(sure.ece > 0.05);
  CHECK(sure.scaled_nll == Approx(fair.scaled_nll));
  CHECK(sure.scaled_nll < sure.nll);
}

TEST_CASE("laws of comparisons as log-odds of winning where there is a winner") {
  for (const double d : {-30.0, -2.0, -0.1, 0.0, 0.7, 5.0, 40.0}) {
    CAPTURE(d);
    // The shares of winning and losing, from the papers: theta scales the other one's strength.
    const double theta = 1.8, up = std::exp(d / 2), down = std::exp(-d / 2);
    const double won = up / (up + theta * down), lost = down / (down + theta * up);
    CHECK(align::rao_kupper_log_odds(d, std::log(theta)) == Approx(std::log(won / lost)));
    CHECK(align::rao_kupper_log_odds(d, 0) == Approx(d));
    CHECK(align::rao_kupper_log_odds(-d, 0.4) == -align::rao_kupper_log_odds(d, 0.4));
    CHECK(align::thurstone_log_odds(-d) == -align::thurstone_log_odds(d));
    if (std::abs(d) < 10) CHECK(align::thurstone_log_odds(d) == Approx(std::log(std::erfc(-d / 2) / std::erfc(d / 2))));
  }
  const double h = 1e-5, theta = 1.8;
  CHECK(align::rao_kupper_log_odds(h, std::log(theta)) / h == Approx(2 * theta / (1 + theta)));
  CHECK(align::thurstone_log_odds(h) / h == Approx(2 / std::sqrt(std::acos(-1.0))));
  for (const double d : {1e3, 1e30}) {
    CHECK(align::rao_kupper_log_odds(d, std::log(theta)) == Approx(d + std::log(theta)));
    CHECK(align::thurstone_log_odds(d) == Approx(d * d / 4).epsilon(1e-4));
  }
}

TEST_CASE("scores that another law made are calibrated by that law, and by no other") {
  // Comparisons of Rao and Kupper with theta 4 and of Thurstone, those that end in a tie left out.
  const random_law law = GENERATE(random_law{"rao_kupper"}, random_law{"thurstone"});
  CAPTURE(law.name);
  const rlhf::random_numbers random({.seed = 8});
  numbers chosen, rejected;
  for (std::uint32_t i = 0; i < 200'000; ++i) {
    const double d = 2 * random.normal({.prompt = i}), u = random.uniform({.prompt = i, .draw = 1});
    const double won = law.won(d), lost = law.won(-d);
    if (u >= won + lost) continue;
    chosen.push_back(u < won ? d : 0);
    rejected.push_back(u < won ? 0 : d);
  }
  const lengths same(chosen.size(), 1);
  const align::judgement right = align::judge(chosen, rejected, same, same, law.odds()),
                         wrong = align::judge(chosen, rejected, same, same);
  CHECK(right.calibration.ece < 0.007);
  CHECK(right.calibration.temperature == Approx(1).margin(0.02));
  CHECK(wrong.calibration.ece > 0.02);
  CHECK(wrong.calibration.temperature < 0.9);
  CHECK(right.calibration.nll < wrong.calibration.nll);
  // Who is ranked first is the same.
  CHECK(right.accuracy.share == wrong.accuracy.share);
}

TEST_CASE("what cannot be judged is refused") {
  const numbers one{1}, none{}, bad{std::numeric_limits<double>::quiet_NaN()};
  const lengths l{1}, two{1, 2};
  CHECK(refusal([&] { (void)align::judge(none, none, {}, {}); }) == "judge: there are no pairs");
  CHECK(refusal([&] { (void)align::judge(one, one, l, two); }) ==
        "judge: got 1 and 1 scores, 1 and 2 lengths, wants as many of each");
  CHECK(refusal([&] { (void)align::judge(one, bad, l, l); }) == "judge: the scores of pair 0 are not finite");
  CHECK(refusal([&] { (void)align::calibrate(none); }) == "calibrate: there are no margins");
  CHECK(refusal([&] { (void)align::calibrate(bad); }) == "calibrate: a margin is not finite");
  CHECK(refusal([&] { (void)align::calibrate(one, 0); }) == "calibrate: bins is 0, wants 1 or more");
}

TEST_CASE("a table for people, JSON for programs") {
  const align::judgement found = align::judge(numbers{1, 2}, numbers{0, 0}, lengths{1, 1}, lengths{2, 2});
  const std::string table = to_table(found);
  CHECK(table.find("accuracy                             1.000  [0.342, 1.000]  2 pairs, 0 ties\n") == 0);
  CHECK(table.find("accuracy, longer one chosen              -  [0.000, 1.000]  0 pairs, 0 ties\n") !=
        std::string::npos);
  const nlohmann::ordered_json json = to_json(found);
  CHECK(json["accuracy"]["share"] == 1.0);
  CHECK(json["longer_wins"]["share"] == 0.0);
  CHECK(json["longer_chosen"]["share"].is_null());
  CHECK(json["calibration"]["temperature"] == 0.0);
  CHECK(json["calibration"]["scaled_ece"].is_null());
  CHECK(json["calibration"]["bins"].size() == 15);
}
