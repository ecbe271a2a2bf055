// Learning-rate schedules at the points where their formulas can be read off.

#include "rlhf/train/schedule.hpp"

#include <cmath>

#include "support/catch.hpp"

TEST_CASE("constant_schedule is constant") {
  const rlhf::constant_schedule schedule{.rate = 0.5};
  CHECK(schedule(0) == 0.5);
  CHECK(schedule(1000000) == 0.5);
}

TEST_CASE("linear_schedule warms up and goes down in straight lines") {
  const rlhf::linear_schedule schedule{.rate = 2, .warmup = 10, .total = 110};
  CHECK(schedule(0) == 0);
  CHECK(schedule(5) == Approx(1).epsilon(0).margin(1e-12));
  CHECK(schedule(10) == Approx(2).epsilon(0).margin(1e-12));
  CHECK(schedule(60) == Approx(1).epsilon(0).margin(1e-12));
  CHECK(schedule(85) == Approx(0.5).epsilon(0).margin(1e-12));
  CHECK(schedule(110) == 0);
  CHECK(schedule(1000) == 0);
}

TEST_CASE("cosine_schedule warms up and follows half a wave") {
  const rlhf::cosine_schedule schedule{.rate = 2, .warmup = 10, .total = 110, .final_rate = 0.2};
  CHECK(schedule(5) == Approx(1).epsilon(0).margin(1e-12));
  CHECK(schedule(10) == Approx(2).epsilon(0).margin(1e-12));
  CHECK(schedule(60) == Approx(1.1).epsilon(0).margin(1e-12));
  CHECK(schedule(35) == Approx(0.2 + 1.8 * 0.5 * (1 + std::sqrt(0.5))).epsilon(0).margin(1e-12));
  CHECK(schedule(110) == Approx(0.2).epsilon(0).margin(1e-12));
  CHECK(schedule(1000) == Approx(0.2).epsilon(0).margin(1e-12));
}

TEST_CASE("schedules without warm-up start at their rate; a run no longer than its warm-up ends at the final rate") {
  CHECK(rlhf::linear_schedule{.rate = 3, .total = 4}(0) == 3);
  CHECK((rlhf::cosine_schedule{.rate = 3, .total = 4}(0)) == Approx(3).epsilon(0).margin(1e-12));
  const rlhf::linear_schedule brief{.rate = 3, .warmup = 4, .total = 4, .final_rate = 1};
  CHECK(brief(3) == Approx(2.25).epsilon(0).margin(1e-12));
  CHECK(brief(4) == 1);
  CHECK((rlhf::cosine_schedule{.rate = 3, .warmup = 8, .total = 4, .final_rate = 1}(8)) ==
        Approx(1).epsilon(0).margin(1e-12));
}
