// Davidson's and Rao-Kupper's number of ties is learned beside the scores: the loop ends at the maximum of the likelihood.

#include "rlhf/reward/ties.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "rlhf/train/ensemble.hpp"
#include "rlhf/train/preference.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr std::size_t answers = 6, unknowns = answers;  // the gaps to the first answer, and x
constexpr float points[] = {1, 0, 0.5f};                // of the three outcomes: won, lost, tied
using vector = std::array<double, unknowns>;

/// What a law says of a gap: the probabilities of the outcomes, and the slopes of their logarithms in the gap and in x.
struct outcomes {
  double p[3], in_gap[3], in_x[3];
};

/// Written down from the papers, apart from the library's formulas.
outcomes davidson_law(double gap, double x) {
  const double up = std::exp(gap / 2), down = 1 / up, nu = std::exp(x), all = up + down + nu;
  const double won = up / all, lost = down / all, tied = nu / all, m = (won - lost) / 2;
  return {{won, lost, tied}, {0.5 - m, -0.5 - m, -m}, {-tied, -tied, 1 - tied}};
}
outcomes rao_kupper_law(double gap, double x) {
  const double theta = 1 + std::exp(x), slope = std::exp(x) / theta;  // d log theta / dx
  const double up = std::exp(gap), won = up / (up + theta), lost = 1 / (1 + theta * up), tied = 1 - won - lost;
  return {{won, lost, tied},
          {1 - won, -(1 - lost), lost - won},
          {-(1 - won) * slope, -(1 - lost) * slope, (won * (1 - won) + lost * (1 - lost)) / tied * slope}};
}

/// How often each outcome came to each two answers, the second of which has the smaller number.
struct counted {
  std::size_t i, j;
  double count[3];
};

/// `games` between every two.
template <class Law>
std::vector<counted> play(Law law, const vector& truth, int games) {
  const random_numbers draw({5, 3});
  std::vector<counted> out;
  for (std::size_t i = 1; i < answers; ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const outcomes o = law(truth[i - 1] - (j > 0 ? truth[j - 1] : 0), truth.back());
      counted c{i, j, {}};
      for (int k = 0; k < games; ++k) {
        const double u = draw.uniform({static_cast<std::uint32_t>(out.size()), static_cast<std::uint32_t>(k)});
        ++c.count[u < o.p[0] ? 0 : u < o.p[0] + o.p[1] ? 1 : 2];
      }
      out.push_back(c);
    }
  return out;
}

/// Fisher's scoring: where the likelihood is greatest, and the standard errors there, those of the inverse information.
struct fitted {
  vector at{}, error{};
};
template <class Law>
fitted most_likely(Law law, const std::vector<counted>& games) {
  fitted out;
  for (int round = 0; round < 50; ++round) {
    std::array<std::array<double, 2 * unknowns>, unknowns> rows{};  // the information, and the unit matrix beside it
    vector score{};
    for (const counted& c : games) {
      const double total = c.count[0] + c.count[1] + c.count[2];
      const outcomes o = law(out.at[c.i - 1] - (c.j > 0 ? out.at[c.j - 1] : 0), out.at.back());
      for (int k = 0; k < 3; ++k) {
        vector slope{};
        slope[c.i - 1] += o.in_gap[k];
        if (c.j > 0) slope[c.j - 1] -= o.in_gap[k];
        slope.back() = o.in_x[k];
        for (std::size_t a = 0; a < unknowns; ++a) {
          score[a] += c.count[k] * slope[a];
          for (std::size_t b = 0; b < unknowns; ++b) rows[a][b] += total * o.p[k] * slope[a] * slope[b];
        }
      }
    }
    for (std::size_t a = 0; a < unknowns; ++a) rows[a][unknowns + a] = 1;
    for (std::size_t a = 0; a < unknowns; ++a) {  // positive definite: no pivots
      const double pivot = rows[a][a];
      for (double& x : rows[a]) x /= pivot;
      for (std::size_t b = 0; b < unknowns; ++b)
        if (const double factor = rows[b][a]; b != a)
          for (std::size_t k = 0; k < 2 * unknowns; ++k) rows[b][k] -= factor * rows[a][k];
    }
    for (std::size_t a = 0; a < unknowns; ++a) {
      for (std::size_t b = 0; b < unknowns; ++b) out.at[a] += rows[a][unknowns + b] * score[b];
      out.error[a] = std::sqrt(rows[a][unknowns + a]);
    }
  }
  return out;
}

/// A pair for each outcome that came, with the number of times as its weight.
preference_pairs pairs_of(const std::vector<counted>& games) {
  const responses all = all_responses(static_cast<std::int64_t>(answers), 1);
  preference_pairs out;
  for (const counted& c : games)
    for (std::size_t k = 0; k < 3; ++k) {
      if (c.count[k] == 0) continue;
      out.chosen.add(all, static_cast<std::int64_t>(c.i));
      out.rejected.add(all, static_cast<std::int64_t>(c.j));
      out.probability.push_back(points[k]);
      out.weight.push_back(static_cast<float>(c.count[k] / 100));
    }
  return out;
}

/// Two pairs of the first two answers, as they ended.
preference_pairs two_games(float first, float second) {
  const responses all = all_responses(static_cast<std::int64_t>(answers), 1);
  preference_pairs out;
  for (const float p : {first, second}) {
    out.chosen.add(all, 0);
    out.rejected.add(all, 1);
    out.probability.push_back(p);
  }
  return out;
}

using cosine_tie = learned_tie<cosine_schedule>;

/// All pairs in every step, steps that get smaller and smaller: where this ends nothing pulls any more.
struct descent {
  std::int64_t steps;
  reference_backend cpu{};
  tabular_reward model{static_cast<std::int64_t>(answers), 1};
  parameter_update<cosine_schedule> update{{.rate = 0.05, .total = steps}, {{.weight_decay = 0}}, 1e9};
  cosine_tie tie{.rate = {.rate = 0.05, .total = steps}};
  statistics seen{};

  template <class Loss>
  void learn(const preference_pairs& pairs, const Loss& loss) {
    const loop_options options{.batch = pairs.chosen.size(), .epochs = steps, .key = {1, 1}};
    const auto watch = [this](const progress& p) { seen = *p.metrics; };
    if constexpr (std::same_as<Loss, reward_model>)
      train_reward_model(cpu, model, update, pairs, options, watch, loss);
    else
      train_reward_model(cpu, model, update, pairs, options, watch, loss, tie);
  }
  [[nodiscard]] double gap(std::size_t i) const { return model.at(i) - model.at(0); }
};

constexpr vector strengths{0.4, -0.7, 1.1, 0.2, 1.6, -0.3};  // the last is x

/// A loss of a program's own that says what it reads.
struct own_loss {
  static constexpr unsigned reads = field::probability | field::tie;
  float* read;
  status operator()(reference_backend& be, const score_inputs<float>& in, const score_outputs<float>& out) const {
    *read = in.tie.data[0];
    return reward_loss{davidson{}}(be, in, out);
  }
};

/// What both formulas have to do; f(loss, law).
template <class F>
void for_both(F&& f) {
  SECTION("Davidson") { f(reward_loss{davidson{}}, davidson_law); }
  SECTION("Rao and Kupper") { f(reward_loss{rao_kupper{}}, rao_kupper_law); }
}

}  // namespace

TEST_CASE(
    "scores and the number of ties go to the maximum of the likelihood, near the law that the games were played by") {
  for_both([](const auto& loss, auto law) {
    const std::vector<counted> games = play(law, strengths, 400);
    const fitted exact = most_likely(law, games);
    descent d{3000};
    d.learn(pairs_of(games), loss);
    // Slopes are exact to some 1e-7 of the largest, curvatures a tenth of it or more, and a step of Adam at its end is below
    // 1e-6: ten times that.
    for (std::size_t i = 1; i < answers; ++i) {
      CHECK(d.gap(i) == Approx(exact.at[i - 1]).margin(1e-4));
      CHECK(std::abs(d.gap(i) - strengths[i - 1]) < 4 * exact.error[i - 1]);
      CHECK(exact.error[i - 1] < 0.12);
    }
    CHECK(static_cast<double>(d.tie.parameter) == Approx(exact.at.back()).margin(1e-4));
    CHECK(std::abs(static_cast<double>(d.tie.parameter) - strengths.back()) < 4 * exact.error.back());
    CHECK(exact.error.back() < 0.06);
    CHECK(d.tie.between_equals() == Approx(law(0, static_cast<double>(d.tie.parameter)).p[2]).epsilon(1e-9));
    // The number as the loss reads it.
    const bool softened = tie_detail::positive_tie<std::remove_cvref_t<decltype(loss)>>();
    const double x = static_cast<double>(d.tie.parameter);
    CHECK(d.seen["tie"] == Approx(softened ? std::log1p(std::exp(x)) : x).epsilon(1e-4));
  });
}

TEST_CASE("the number is learned by its own slope") {
  for_both([](const auto& loss, auto law) {
    descent d{1};
    d.tie.parameter = -0.8f;
    d.model.parameters()[0] = 0.5f;
    d.learn(two_games(1, 0.5f), loss);
    const outcomes o = law(0.5, -0.8);
    // The first moment of Adam after one step is a tenth of the slope of the mean loss.
    CHECK(static_cast<double>(d.tie.optimiser.first_moment[0]) ==
          Approx(-0.1 * (o.in_x[0] + o.in_x[2]) / 2).epsilon(1e-5));
    CHECK(d.seen["loss"] == Approx(-(std::log(o.p[0]) + std::log(o.p[2])) / 2).epsilon(1e-6));
  });
}

TEST_CASE("without ties their number goes away, and the scores are Bradley and Terry's") {
  for_both([](const auto& loss, auto law) {
    std::vector<counted> games = play(law, strengths, 400);
    for (counted& c : games) c.count[2] = 0;
    preference_pairs pairs = pairs_of(games);
    descent d{3000}, plain{3000};
    d.learn(pairs, loss);
    // Bradley and Terry have no outcome but the first: those that lost change sides.
    preference_pairs won;
    won.weight = pairs.weight;
    for (std::int64_t i = 0; i < pairs.chosen.size(); ++i) {
      const bool as_is = pairs.probability[static_cast<std::size_t>(i)] == 1;
      won.chosen.add(as_is ? pairs.chosen : pairs.rejected, i);
      won.rejected.add(as_is ? pairs.rejected : pairs.chosen, i);
    }
    plain.learn(won, reward_model{});
    // What nu and theta - 1, which are e^x, leave of the slopes is as small as they are.
    CHECK(d.tie.parameter < -6);
    for (std::size_t i = 1; i < answers; ++i) CHECK(d.gap(i) == Approx(plain.gap(i)).margin(1e-3));
    CHECK(d.seen["tie_share"] == 0);
    CHECK(d.seen["accuracy"] == plain.seen["accuracy"]);
  });
}

TEST_CASE("nothing but ties teaches no scores, and stays finite") {
  for_both([](const auto& loss, auto) {
    descent d{2000};
    d.tie.rate.rate = 1;
    d.learn(two_games(0.5f, 0.5f), loss);
    CHECK(d.gap(1) == 0);
    CHECK((d.tie.parameter > 8 && d.tie.parameter <= cosine_tie::highest));
    CHECK(d.seen["loss"] < 1e-4);
    CHECK(d.seen["tie_share"] == 1);
    CHECK(d.seen.find("accuracy")->count == 0);
    CHECK(d.tie.between_equals() > 0.999);
  });
}

TEST_CASE("from either end of its range the number comes back, and no end is passed") {
  for_both([](const auto& loss, auto) {
    const float end = GENERATE(cosine_tie::lowest, cosine_tie::highest);
    CAPTURE(end);
    descent back{400};
    back.tie.parameter = end;
    back.tie.rate.rate = 1;
    back.learn(two_games(end < 0 ? 0.5f : 1.0f, 0), loss);
    CHECK(std::isfinite(back.seen["loss"]));
    CHECK(std::abs(back.tie.parameter) < 50);
    descent on{50};
    on.tie.parameter = end;
    on.tie.rate.rate = 1;
    on.learn(end < 0 ? two_games(1, 0) : two_games(0.5f, 0.5f), loss);
    CHECK(on.tie.parameter * end > 0);
    CHECK(std::abs(on.tie.parameter) <= cosine_tie::highest);
  });
}

TEST_CASE("scores that are no numbers change neither the model nor the number of ties") {
  for_both([](const auto& loss, auto) {
    descent d{1};
    d.tie.parameter = 0.25f;
    d.model.parameters()[0] = std::numeric_limits<float>::quiet_NaN();
    d.learn(two_games(1, 0.5f), loss);
    CHECK_FALSE(std::isfinite(d.seen["loss"]));
    CHECK_FALSE(std::isfinite(d.seen["grad_norm"]));
    CHECK(d.tie.parameter == 0.25f);
    CHECK(d.tie.optimiser.steps == 0);
    CHECK(d.model.parameters()[1] == 0);
  });
}

TEST_CASE("scores without end make the loss infinite, and leave finite what was finite") {
  for_both([](const auto& loss, auto) {
    descent d{5};
    d.model.parameters()[0] = -std::numeric_limits<float>::infinity();
    d.learn(two_games(1, 0.5f), loss);
    CHECK_FALSE(std::isfinite(d.seen["loss"]));
    CHECK(std::isfinite(d.tie.parameter));
    CHECK(std::isfinite(d.model.parameters()[1]));
  });
}

TEST_CASE("runs with ties that go on from what they saved end with the same bits") {
  for_both([](const auto& loss, auto law) {
    world w;
    const preference_pairs pairs = pairs_of(play(law, strengths, 60));
    loop_options options{.batch = 7, .epochs = 3, .key = {1, 1}};
    const std::int64_t half = minibatches(pairs.chosen.size(), options) / 2;
    tabular_reward whole(static_cast<std::int64_t>(answers), 1), parts = whole;
    auto update = steps_of(0.05), other = update;
    learned_tie<> tie{.parameter = tie_start(pairs), .rate = {0.05}}, part_tie = tie;
    train_reward_model(w.cpu, whole, update, pairs, options, ignore_progress{}, loss, tie);
    const auto stop = [half](const progress& p) { return p.step < half; };
    train_reward_model(w.cpu, parts, other, pairs, options, stop, loss, part_tie);
    // What a program saves of the number: itself and its optimiser's state.
    learned_tie<> again{.parameter = part_tie.parameter, .rate = {0.05}, .optimiser = part_tie.optimiser};
    options.done = half;
    train_reward_model(w.cpu, parts, other, pairs, options, ignore_progress{}, loss, again);
    CHECK(bits(whole.parameters()) == bits(parts.parameters()));
    CHECK(tie.parameter == again.parameter);
    CHECK(tie.parameter != tie_start(pairs));
    CHECK(bits(tie.optimiser.second_moment) == bits(again.optimiser.second_moment));
  });
}

TEST_CASE("each member of an ensemble learns the number of ties of the games that it drew") {
  for_both([](const auto& loss, auto law) {
    constexpr std::size_t members = 6;
    constexpr std::int64_t steps = 1500;
    const std::vector<counted> games = play(law, strengths, 100);
    // As many games as there were, drawn from them with replacement.
    std::vector<counted> tickets;
    for (const counted& c : games)
      for (std::size_t k = 0; k < 3; ++k)
        for (int n = 0; n < static_cast<int>(c.count[k]); ++n) {
          tickets.push_back({c.i, c.j, {}});
          tickets.back().count[k] = 1;
        }
    std::vector<fitted> exact;
    std::vector<preference_pairs> drawn;
    for (std::uint32_t m = 0; m < members; ++m) {
      const random_numbers draw({6, m});
      std::vector<counted> own;
      for (std::uint32_t g = 0; g < tickets.size(); ++g) {
        const counted& one = tickets[draw.integer(static_cast<std::uint32_t>(tickets.size()), {.prompt = g})];
        auto at = std::find_if(own.begin(), own.end(), [&](const counted& c) { return c.i == one.i && c.j == one.j; });
        if (at == own.end()) at = own.insert(own.end(), {one.i, one.j, {}});
        for (std::size_t k = 0; k < 3; ++k) at->count[k] += one.count[k];
      }
      exact.push_back(most_likely(law, own));
      drawn.push_back(pairs_of(own));
    }
    reference_backend cpu;
    std::vector<tabular_reward> models(members, tabular_reward(static_cast<std::int64_t>(answers), 1));
    const cosine_schedule schedule{.rate = 0.05, .total = steps};
    std::vector<parameter_update<cosine_schedule>> updates(members, {schedule, {{.weight_decay = 0}}, 1e9});
    std::vector<cosine_tie> ties(members, {.rate = schedule});
    std::int64_t updates_made = 0;
    train_reward_ensemble(
        cpu, std::span(models), std::span(updates), drawn, {.batch = 45, .epochs = steps, .key = {1, 1}},
        [&](const progress& p) {
          CHECK(p.step == ++updates_made);
          CHECK(p.steps == static_cast<std::int64_t>(members) * steps);
        },
        loss, ties);
    double mean = 0, spread = 0;
    for (std::size_t m = 0; m < members; ++m) {
      const double x = static_cast<double>(ties[m].parameter);
      CHECK(x == Approx(exact[m].at.back()).margin(1e-3));
      CHECK(models[m].at(1) - models[m].at(0) == Approx(exact[m].at[0]).margin(1e-3));
      mean += x / members;
    }
    // What the draws differ by is what the games leave open.
    for (const cosine_tie& t : ties) spread += square(static_cast<double>(t.parameter) - mean) / (members - 1);
    CHECK(std::sqrt(spread) / exact[0].error.back() == Approx(1).margin(0.6));
  });
}

TEST_CASE("an ensemble with ties goes on to the same bits, and wants a number for every member") {
  for_both([](const auto& loss, auto law) {
    world w;
    const preference_pairs pairs = pairs_of(play(law, strengths, 60));
    loop_options options{.batch = 7, .epochs = 2, .key = {1, 1}};
    const std::int64_t each = minibatches(pairs.chosen.size(), options), half = each + each / 2;
    std::vector<tabular_reward> whole(2, tabular_reward(static_cast<std::int64_t>(answers), 1)), parts = whole;
    std::vector<parameter_update<>> own(2, steps_of(0.05)), part_own = own;
    std::vector<learned_tie<>> ties(2, {.parameter = tie_start(pairs), .rate = {0.05}}), part_ties = ties;
    const auto train = [&](auto& models, auto& by, auto& numbers, std::int64_t last) {
      train_reward_ensemble(
          w.cpu, std::span(models), std::span(by), pairs, options, [&](const progress& p) { return p.step < last; },
          loss, numbers);
    };
    train(whole, own, ties, 2 * each);
    train(parts, part_own, part_ties, half);
    options.done = half;
    train(parts, part_own, part_ties, 2 * each);
    for (std::size_t k = 0; k < 2; ++k) {
      CHECK(bits(whole[k].parameters()) == bits(parts[k].parameters()));
      CHECK(ties[k].parameter == part_ties[k].parameter);
      CHECK(ties[k].optimiser.steps == each);
    }
    CHECK(ties[0].parameter != ties[1].parameter);  // the orders are their own
    part_ties.pop_back();
    CHECK_THROWS_WITH(train(parts, part_own, part_ties, 0), "train_reward_ensemble: ties has 1 elements, wants 2");
    const std::vector<preference_pairs> of_one{pairs};
    CHECK_THROWS_WITH(train_reward_ensemble(w.cpu, std::span(parts), std::span(part_own), of_one, options,
                                            ignore_progress{}, loss, ties),
                      "train_reward_ensemble: pairs has 1 elements, wants 2");
  });
}

TEST_CASE("a rate of 0 keeps the number, and a loss of one's own reads it") {
  descent d{3};
  d.tie = {.parameter = 0.5f, .rate = {.rate = 0}};
  float read = 0;
  d.learn(two_games(1, 0.5f), own_loss{&read});
  CHECK(read == 0.5f);
  CHECK(d.tie.parameter == 0.5f);
  CHECK(d.gap(1) < 0);
  CHECK(d.seen["tie"] == 0.5);
  CHECK(d.seen["tie_share"] == 0.5);
  CHECK(d.seen["accuracy"] == 1);
}

TEST_CASE("the number begins where a tie of equals is as likely as ties are") {
  CHECK(static_cast<double>(tie_start(two_games(1, 0.5f))) == Approx(std::log(2.0)));
  CHECK(static_cast<double>(tie_start(two_games(1, 0))) == Approx(std::log(2 * 0.5 / 2.5)));
  CHECK(static_cast<double>(tie_start(two_games(0.5f, 0.5f))) == Approx(std::log(2 * 2.5 / 0.5)));
  CHECK(learned_tie<>{.parameter = tie_start(two_games(1, 0.5f))}.between_equals() == Approx(0.5));
}

TEST_CASE("what cannot be learned from is refused") {
  descent d{1};
  preference_pairs pairs = two_games(1, 0.5f);
  const auto refuse = [&](const char* message) { CHECK_THROWS_WITH(d.learn(pairs, reward_loss{davidson{}}), message); };
  SECTION("shares of votes") {
    pairs.probability[1] = 0.75f;
    refuse("train_reward_model: pairs.probability is 0.75, wants 1 (won), 0 (lost) or 1/2 (a tie)");
  }
  SECTION("NaN") {
    pairs.probability[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_AS(d.learn(pairs, reward_loss{davidson{}}), error);
  }
  SECTION("nobody says how they ended") {
    pairs.probability.clear();
    refuse("train_reward_model: pairs.probability has 0 elements, wants 2");
  }
  SECTION("a number outside its range") {
    d.tie.parameter = -60.5f;
    refuse("train_reward_model: tie.parameter is -60.5, wants -60 to 60");
  }
  SECTION("a number that is none") {
    d.tie.parameter = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_AS(d.learn(pairs, reward_loss{davidson{}}), error);
  }
}
