// Formulas of reward models, values, single responses, rewards and weights, one by one.

#include "curves.hpp"
#include "rlhf/advantage/gae.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/expectile.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/future.hpp"
#include "rlhf/objective/importance.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/kl_controller.hpp"
#include "rlhf/reward/length_shaping.hpp"
#include "rlhf/reward/outcome.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/shaping.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"

namespace plots {
namespace {

/// Desirable and undesirable.
template <class Objective>
drawing labels(const char* name, const axis& along, const Objective& o) {
  return {name, along, {response("desirable", o, 1), response("undesirable", o, 0)}};
}

/// The weight of a sequence of one token whose ratio to the old policy is x.
curve of_sequence(const char* name, const rlhf::vespo_weight& o, double advantage) {
  return {name, [o, advantage](double x) {
            const rlhf::mismatch<double> t{std::log(x), advantage, 1, 1};
            double sum[rlhf::vespo_weight::sums];
            o.add(t, sum);
            return point{o.weigh(t, 1, sum), 0, 0};
          }};
}

/// The coefficient after ten thousand episodes at an observed KL of x.
double controlled(double x) {
  rlhf::adaptive_kl_controller c;
  c.update(x, c.horizon);
  return c.coefficient;
}

}  // namespace

std::vector<drawing> scores() {
  using namespace rlhf;
  const std::vector<std::string> in_score{"in the chosen score"}, with_tie{"in the first score", "in the tie"};
  const std::vector<std::string> in_logp{"in log π"}, in_value{"in the value"}, in_ratio{"in the log-ratio"}, none;
  const axis gap{"r(chosen) − r(rejected)", -6, 6, {-4, -1, 0, 1, 4}, in_score};
  const axis tied{"r(first) − r(second)", -6, 6, {-4, -1, 0, 1, 4}, with_tie};
  const axis ratio{"log-ratio h, nats", -40, 40, {-20, -5, 0, 5, 20}, in_logp};
  const axis wide{"log-ratio h, nats", -150, 150, {-100, -20, 0, 20, 100}, in_logp};
  const axis critic{"value V; old value 0, return 1", -1.5, 2.5, {-1, 0, 0.1, 0.5, 2}, in_value};
  const axis logit{"score r", -6, 6, {-4, -1, 0, 1, 4}, {"in the score"}};
  const axis divergence{"log-ratio a, nats", -2, 4, {-1, 0, 1, 3}, in_ratio};
  const axis weight{"log-ratio to the sampler, nats", -2, 2, {-1, 0, 0.5, 1, 2}, none};
  const auto of_log_ratio = [](const importance_weight& o) { return [o](double x) { return o(x, x, 1); }; };
  return {
      {"bradley_terry",
       gap,
       {scores("defaults", bradley_terry{}), scores("margin 2", bradley_terry{.use_margin = true}),
        scores("label_smoothing 0.2", bradley_terry{.label_smoothing = 0.2})}},
      {"thurstone", gap, {scores("defaults", thurstone{}), scores("deviation 2", thurstone{2})}},
      {"prior_constrained", gap, {scores("cap 2", prior_constrained{})}},
      {"davidson",
       tied,
       {scores("the first won", davidson{}, 0, 1), scores("a tie", davidson{}, 0, 0.5),
        scores("the second won", davidson{}, 0, 0)}},
      {"rao_kupper",
       tied,
       {scores("the first won", rao_kupper{}, 0.5, 1), scores("a tie", rao_kupper{}, 0.5, 0.5),
        scores("the second won", rao_kupper{}, 0.5, 0)}},
      {"binary_outcome", logit, {value("outcome 1", binary_outcome{})}},
      {"squared_value", critic, {value("defaults", squared_value{})}},
      {"clipped_value",
       critic,
       {value("defaults", clipped_value{}), value("clip 0.5, bounds", clipped_value{0.5, 0.5, value_clip::bounds})}},
      {"huber_value", critic, {value("defaults", huber_value{}), value("delta 0.5", huber_value{.delta = 0.5})}},
      {"expectile_value", critic, {value("defaults", expectile_value{}), value("tau 0.9", expectile_value{0.9})}},
      labels("kto", ratio, kto{}),
      labels("apo_zero_unpaired", ratio, apo_zero_unpaired{}),
      labels("bco", ratio, bco{}),
      {"una_rating", wide, {response("rating 1", una_rating{}, 1), response("rating 0.3", una_rating{}, 0.3)}},
      labels("una_binary", wide, una_binary{}),
      {"una_reward", wide, {response("reward 1", una_reward{}, 1), response("reward −1", una_reward{}, -1)}},
      {"negative_preference", ratio, {response("defaults", negative_preference{}, 0)}},
      {"optimism", ratio, {response("defaults", optimism{}, 0)}},
      {"nash_md", ratio, {response("wins with 0.9", nash_md{}, 0.9), response("wins with 0.1", nash_md{}, 0.1)}},
      {"optimal_advantage_regression",
       {"log-ratio h, nats; V* = 1/2", -1000, 1000, {-500, 0, 500}, in_logp},
       {response("reward 1", optimal_advantage_regression{}, 1, 0.5),
        response("reward 0", optimal_advantage_regression{}, 0, 0.5)}},
      {"forward_kl", divergence, {score("defaults", forward_kl{})}},
      {"jensen_shannon", divergence, {score("defaults", jensen_shannon{})}},
      {"alpha_divergence",
       divergence,
       {score("defaults", alpha_divergence{}), score("alpha 1: reverse KL", alpha_divergence{.alpha = 1})}},
      {"similarity_cap", {"similarity s", 0.2, 1, {0.25, 0.5, 1}, {"in s"}}, {score("defaults", similarity_cap{})}},
      {"prompt_match_weight",
       {"probability p of the prompt's being a desirable one's", 0, 1, {0.1, 0.3, 0.5, 0.8, 0.95}, none},
       {function("defaults", prompt_match_weight{})}},
      {"importance_weight",
       weight,
       {function("defaults", of_log_ratio({})), function("between 0.5 and 2", of_log_ratio({.low = 0.5, .high = 2}))}},
      {"vespo_weight",
       {"ratio w of the sequence", 0.02, 4, {0.1, 0.5, 1, 2, 4}, none},
       {of_sequence("A = 1", {}, 1), of_sequence("A = −1", {}, -1)}},
      {"future_weight",
       {"discounted sum of the log-ratios from here on, nats", -0.5, 0.5, {-0.3, 0, 0.1, 0.3}, none},
       {function("A = 1", [](double x) { return future_weight{}(x, 0.0, 1.0); })}},
      {"length_adaptive_lambda",
       {"tokens n", 0, 2000, {10, 100, 500, 2000}, none},
       {function("defaults", length_adaptive_lambda{})}},
      {"adaptive_kl_controller",
       {"observed KL, nats; one horizon later", 0, 12, {0, 5, 6, 7, 12}, none},
       {function("coefficient, from 0.2", controlled)}},
      {"score_clip", {"score", -15, 15, {-12, 0, 12}, none}, {function("between −10 and 10", score_clip{-10, 10})}},
      {"soft_overlong",
       {"tokens n", 60, 130, {70, 85, 90, 100, 120}, none},
       {function("max_length 100, buffer 20", soft_overlong{100, 20}),
        function("unbounded", soft_overlong{100, 20, 1, soft_overlong::beyond::unbounded})}},
      {"missing_eos",
       {"reward", -2, 2, {-1, 0, 1}, none},
       {function("with an end", [](double x) { return missing_eos{}(x, true); }),
        function("without", [](double x) { return missing_eos{}(x, false); }),
        function("without, replaced by −1",
                 [](double x) {
                   return missing_eos{-1, true}(x, false);
                 })}},
      {"stop_properly",
       {"reward", -2, 2, {-1, 0, 1}, none},
       {function("cut off", [](double x) { return stop_properly{}(x, true); }),
        function("coefficient 0.5", [](double x) { return stop_properly{0.5}(x, true); }),
        function("coefficient −1", [](double x) { return stop_properly{-1}(x, true); })}},
      {"cosine_length",
       {"tokens n; max_length 1000", 0, 1200, {0, 250, 500, 1000}, none},
       {function("right", [](double x) { return cosine_length{1000}(x, true); }),
        function("wrong", [](double x) { return cosine_length{1000}(x, false); })}},
  };
}

}  // namespace plots
