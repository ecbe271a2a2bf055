// Hyperparameters out of their range are refused with the name of the formula, of the member and of what it wants.

#include <limits>
#include <string>

#include "formula/support.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/response.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/reward/kl_controller.hpp"
#include "rlhf/reward/shaping.hpp"

namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
constexpr double unbounded = std::numeric_limits<double>::infinity();

template <class Formula>
void refused(const Formula& formula, const char* function, const char* argument) {
  const rlhf::status s = formula.check();
  CAPTURE(function, argument);
  REQUIRE_FALSE(s);
  CHECK(s.code == rlhf::errc::argument);
  CHECK(std::string(s.function) == function);
  CHECK(std::string(s.argument) == argument);
}

}  // namespace

TEST_CASE("formulas refuse what is out of range") {
  CHECK(rlhf::entropy_bonus{}.check());
  CHECK(rlhf::entropy_bonus{-0.01}.check());  // a negative one punishes entropy
  refused(rlhf::entropy_bonus{undefined}, "entropy_bonus", "coefficient");
  refused(rlhf::entropy_bonus{unbounded}, "entropy_bonus", "coefficient");
  CHECK(rlhf::squared_value{}.check());
  refused(rlhf::squared_value{0}, "squared_value", "scale");
  refused(rlhf::squared_value{undefined}, "squared_value", "scale");
  CHECK(rlhf::alpha_divergence{}.check());
  refused(rlhf::alpha_divergence{.alpha = undefined}, "alpha_divergence", "alpha");
  refused(rlhf::alpha_divergence{.exponent_bound = 0}, "alpha_divergence", "exponent_bound");
  refused(rlhf::with_divergence<rlhf::dpo_sigmoid, rlhf::alpha_divergence>{{}, {.alpha = unbounded}},
          "alpha_divergence", "alpha");
  CHECK(rlhf::length_desensitised{.alpha = 1}.check());
  refused(rlhf::length_desensitised{.alpha = 1.1}, "length_desensitised", "alpha");
  refused(rlhf::length_desensitised{.alpha = undefined}, "length_desensitised", "alpha");
  CHECK(rlhf::clamped_log_ratio{}.check());
  refused(rlhf::clamped_log_ratio{.low = 2, .high = 1}, "clamped_log_ratio", "low");
  CHECK(rlhf::adaptive_kl_controller{}.check());
  refused(rlhf::adaptive_kl_controller{.target = 0}, "adaptive_kl_controller", "target");
  refused(rlhf::adaptive_kl_controller{.horizon = -1}, "adaptive_kl_controller", "horizon");
}

TEST_CASE("a soft overlong penalty without a buffer is a step") {
  using rlhf::soft_overlong;
  for (const auto ending : {soft_overlong::beyond::floor, soft_overlong::beyond::capped}) {
    const soft_overlong step{.max_length = 100, .buffer = 0, .factor = 2, .ending = ending};
    CHECK(step(100) == 0);
    CHECK(step(100.5) == -2);
    CHECK(step(101) == -2);
  }
}
