// What the methods of rlhf-align say and begin with, on a model that is made in no time.

#include "align/methods/methods.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "align/files/reward_safetensors.hpp"
#include "align/run/algorithms.hpp"
#include "align/run/rehearsal.hpp"
#include "support/catch.hpp"

using numbers = std::vector<double>;

namespace {

const align::transformer_options shape{
    .vocabulary = 8, .dimension = 8, .hidden = 16, .layers = 1, .heads = 2, .kv_heads = 2, .context = 12};

/// Responses of 1 to 8 tokens.
rlhf::responses ragged(int n, std::uint64_t seed) {
  const rlhf::random_numbers draw({.seed = seed});
  rlhf::responses out;
  for (int i = 0; i < n; ++i) {
    const auto at = static_cast<std::uint32_t>(i);
    std::vector<std::int32_t> response(1 + draw.integer(8, {.prompt = at}));
    for (std::size_t t = 0; t < response.size(); ++t)
      response[t] =
          static_cast<std::int32_t>(2 + draw.integer(6, {.prompt = at, .sample = static_cast<std::uint32_t>(t + 1)}));
    out.add(std::vector<std::int32_t>{0}, response);
  }
  return out;
}
rlhf::preference_pairs ragged_pairs(int n, std::uint64_t seed) { return {ragged(n, seed), ragged(n, seed + 1)}; }

/// What the held-out pairs were judged by.
struct judged {
  numbers chosen, rejected;
  align::win_law law = {};
};

/// A run that is over in a moment. The reward is learned from pairs, or with `rule` it is the share of a token.
struct small_run {
  judged seen;
  align::settings s;
  align::task t;
  align::passing_run place;

  explicit small_run(bool rule) {
    s.threads = 1;
    s.how.iterations = 2;
    s.how.prompts = 4;
    s.how.judged = 8;
    s.how.batch = 16;
    s.how.reward_rate = 0.02;
    s.how.dpo = {.beta = 0.3, .rate = 0.02, .batch = 16, .epochs = 4};
    s.how.ppo.minibatch = 8;
    t.shape = shape;
    t.start = align::language_model<float>(shape, rlhf::random_key{.seed = 5}).parameters;
    if (rule)
      t.rule = [](std::span<const std::int32_t> response) {
        return static_cast<double>(std::count(response.begin(), response.end(), 3)) /
               static_cast<double>(response.size());
      };
    t.preference = ragged_pairs(64, 1);
    t.reward.pairs = t.preference;
    t.reward.held_out = ragged_pairs(100, 3);
    t.prompts = t.judged_prompts = {{0}};
    t.new_tokens = 6;
    t.text = [](std::span<const std::int32_t> tokens) { return std::string(tokens.size(), 'x'); };
    t.judge_pairs = [this](std::span<const float> chosen, std::span<const float> rejected, const align::win_law& law) {
      seen = {numbers(chosen.begin(), chosen.end()), numbers(rejected.begin(), rejected.end()), law};
      return std::string("{}");
    };
  }
};

/// The log-probability of each response, and their lengths.
numbers summed(align::policy& model, const rlhf::responses& r) {
  std::vector<float> logp(static_cast<std::size_t>(r.response_tokens()));
  model.log_probs(r, logp);
  numbers out;
  std::size_t k = 0;
  for (std::int64_t i = 0; i < r.size(); ++i) {
    out.push_back(0);
    for (std::size_t t = 0; t < r.response(i).size(); ++t) out.back() += static_cast<double>(logp[k++]);
  }
  return out;
}

/// Pairs of scores that two ways to score put in different orders.
std::size_t disagreements(const judged& a, const judged& b) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < a.chosen.size(); ++i)
    n += (a.chosen[i] > a.rejected[i]) != (b.chosen[i] > b.rejected[i]) ? 1u : 0u;
  return n;
}

}  // namespace

TEST_CASE("each method of pairs ranks the held-out ones by the reward that its own loss takes the policy for") {
  small_run run(true);
  run.s.how.ipo_beta = 0.7;
  run.s.how.simpo_beta = 1.5;
  align::workshop w(run.s, run.t, run.place.folder(), true);
  // Of a response with the log-probability `logp`, `start` under the start, and so many tokens.
  using reward = double (*)(double logp, double start, double tokens);
  struct method {
    const char* name;
    void (*run)(align::workshop&);
    reward implicit;
    bool as_dpo;
  };
  const reward of_dpo = [](double logp, double start, double) { return 0.3 * (logp - start); };
  const auto m = GENERATE_COPY(
      method{"dpo", align::dpo, of_dpo, true}, method{"wpo", align::wpo, of_dpo, true},
      // Azar et al. 2023, eq. 17, on means over tokens: its regression reaches p = 1/2 + beta h, of slope 4 beta as a logit.
      method{"ipo", align::ipo, [](double logp, double start, double n) { return 4 * 0.7 * (logp / n - start / n); },
             false},
      // Meng et al. 2024, eq. 4: no reference.
      method{"simpo", align::simpo, [](double logp, double, double n) { return 1.5 / n * logp; }, false},
      // Hong et al. 2024, eq. 4: the odds of the mean probability.
      method{"orpo", align::orpo,
             [](double logp, double, double n) { return std::log(std::exp(logp / n) / (1 - std::exp(logp / n))); },
             false});
  CAPTURE(m.name);
  m.run(w);
  align::policy learned = w.loaded(m.name);
  const auto scores = [&](reward implicit) {
    const auto of = [&](const rlhf::responses& r) {
      const numbers logp = summed(learned, r), start = summed(w.start(), r);
      numbers out;
      for (std::size_t i = 0; i < logp.size(); ++i)
        out.push_back(
            implicit(logp[i], start[i], static_cast<double>(r.response(static_cast<std::int64_t>(i)).size())));
      return out;
    };
    return judged{of(run.t.reward.held_out.chosen), of(run.t.reward.held_out.rejected)};
  };
  const judged want = scores(m.implicit);
  REQUIRE(run.seen.chosen.size() == 100);
  for (std::size_t i = 0; i < want.chosen.size(); ++i) {
    CHECK(run.seen.chosen[i] == Approx(want.chosen[i]).margin(1e-4));
    CHECK(run.seen.rejected[i] == Approx(want.rejected[i]).margin(1e-4));
  }
  CHECK_FALSE(run.seen.law);  // a logit already
  CHECK(w.results().tables.at(m.name) == "{}");
  // DPO's reward would give another order.
  CHECK((disagreements(want, scores(of_dpo)) == 0) == m.as_dpo);
}

TEST_CASE("a reward model's calibration is of the law that it learned by") {
  const std::string loss = GENERATE("bradley_terry", "thurstone", "davidson", "rao_kupper");
  CAPTURE(loss);
  small_run run(false);
  run.s.reward_loss = loss;
  for (std::int64_t i = 0; i < run.t.reward.pairs.chosen.size(); ++i)
    run.t.reward.pairs.probability.push_back(i % 3 == 0 ? 0.5f : 1.0f);
  align::workshop w(run.s, run.t, run.place.folder(), true);
  (void)w.reward();
  REQUIRE(run.seen.chosen.size() == 100);
  if (loss == "rao_kupper") {
    // A third of the pairs are ties: theta is about 2, which it says in the results.
    const double log_theta = w.results().figures.at("reward_log_theta");
    CHECK(log_theta == Approx(std::log(2.0)).margin(0.3));
    CHECK(run.seen.law(0.8) == align::rao_kupper_log_odds(0.8, log_theta));
  } else if (loss == "thurstone") {
    CHECK(run.seen.law(0.8) == align::thurstone_log_odds(0.8));
  } else {
    CHECK_FALSE(run.seen.law);
  }
}

TEST_CASE("a rollout of VinePPO and what is before it are together no longer than a response") {
  small_run run(true);
  run.t.end_token = -1;
  run.s.how.vine = {.rollouts = 2, .step = 2};
  std::size_t longest = 0;
  run.t.rule = [&](std::span<const std::int32_t> response) {
    longest = std::max(longest, response.size());
    return static_cast<double>(response.front());
  };
  run.t.prompts = {{0}, {0, 3, 4}};
  const bool to_the_end = GENERATE(false, true);
  if (to_the_end) run.t.new_tokens = 0;
  align::workshop w(run.s, run.t, run.place.folder(), true);
  align::vineppo(w);
  // To the end of the context goes what begins with one token.
  CHECK(longest == (to_the_end ? 11 : 6));
}

TEST_CASE("PPO-max's critic begins as the reward model where there is one, every other critic with values of 0") {
  const bool rule = GENERATE(false, true);
  const std::string recipe = GENERATE("plain", "max");
  CAPTURE(rule, recipe);
  small_run run(rule);
  run.s.ppo_recipe = recipe;
  run.s.how.ppo.critic_rate = 0;  // it ends as it began
  align::workshop w(run.s, run.t, run.place.folder(), true);
  align::ppo(w);
  const auto read = [&](const char* name) {
    std::vector<float> out(w.new_critic().parameters().size());
    load_reward_model(run.place.folder().model(name), shape, out);
    return out;
  };
  const auto head = [](const std::vector<float>& parameters) {
    return std::vector<float>(parameters.end() - shape.dimension - 1, parameters.end());
  };
  const std::vector<float> critic = read("ppo_critic"), none(static_cast<std::size_t>(shape.dimension) + 1);
  if (recipe == "max" && !rule) {
    CHECK(critic == read("reward"));
    CHECK(head(critic) != none);
  } else {
    CHECK(std::equal(run.t.start.begin(), run.t.start.end(), critic.begin()));
    CHECK(head(critic) == none);
  }
  CHECK(run.t.start != w.loaded("ppo").model().parameters);
}

TEST_CASE("a run that names no algorithm takes those that its options are checked against") {
  align::settings s;
  s.how = align::names_recipe(true);
  const std::vector<std::string> taken = align::names_task(s).algorithms;
  CHECK(taken == align::default_algorithms(align::subject::names));
  const auto understood = [](const std::string& option) {
    std::string program = "rlhf-align", name = "--" + option, value = "1";
    char* line[] = {program.data(), name.data(), value.data(), nullptr};
    return align::read_command_line(3, line).exit < 0;
  };
  const auto [option, algorithm] = GENERATE(table<std::string, std::string>({{"dpo-batch", "dpo"},
                                                                             {"rebel-eta", "rebel"},
                                                                             {"ppo-ptx", "ppo"},
                                                                             {"rto-clip", "rto"},
                                                                             {"ipo-beta", "ipo"},
                                                                             {"group-kl", "grpo"},
                                                                             {"vine-step", "vineppo"}}));
  CAPTURE(option);
  CHECK(understood(option) == (std::find(taken.begin(), taken.end(), algorithm) != taken.end()));
}
