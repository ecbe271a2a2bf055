// Dual numbers against central differences, operation by operation, with constants on either side, and nested.

#include "rlhf/math/dual.hpp"

#include <cmath>
#include <limits>
#include <type_traits>

#include "rlhf/math/functions.hpp"
#include "support/catch.hpp"

namespace {

using rlhf::constant;
using rlhf::dual;
using rlhf::number;
using rlhf::value_t;

/// Formulas of two variables and a constant; `pick` chooses one.
struct formula {
  int pick;
  static constexpr int count = 34;

  template <number V>
  V operator()(const V& x, const V& y, const value_t<V>& c) const {
    switch (pick) {
      case 0:
        return x + y;
      case 1:
        return x - y;
      case 2:
        return x * y;
      case 3:
        return x / y;
      case 4:
        return -x * y;
      case 5:
        return x + c;
      case 6:
        return c + x;
      case 7:
        return x - c;
      case 8:
        return c - x;
      case 9:
        return x * c;
      case 10:
        return c * x;
      case 11:
        return x / c;
      case 12:
        return c / x;
      case 13:
        return rlhf::exp(x * y);
      case 14:
        return rlhf::log(x * x + constant<V>(0.1));
      case 15:
        return rlhf::log1p(x * x);
      case 16:
        return rlhf::expm1(x);
      case 17:
        return rlhf::tanh(x * y);
      case 18:
        return rlhf::sqrt(x * x + y * y);
      case 19:
        return rlhf::abs(x) * y;
      case 20:
        return rlhf::min(x, y) * y;
      case 21:
        return rlhf::max(x, y) + x;
      case 22:
        return rlhf::min(x, c) + rlhf::max(c, y);
      case 23:
        return rlhf::select(x < y, x * y, y);
      case 24:
        return rlhf::select(x > c, x * y, c);
      case 25:
        return rlhf::clamp(x * y, constant<V>(-0.5), constant<V>(0.5)) + x;
      case 26:
        return rlhf::sigmoid(x) * y;
      case 27:
        return rlhf::log_sigmoid(x * c - y);
      case 28:
        return rlhf::softplus(x + y * y);
      case 29:
        return rlhf::log1mexp(-rlhf::abs(x) - constant<V>(0.01));
      case 30:
        return rlhf::square(x) / (constant<V>(1) + rlhf::exp(-y));
      case 31:
        return rlhf::soft_min(x * y, c * x, 3);
      case 32:
        return rlhf::safe_ratio(x * y, c);
      case 33:
        return rlhf::stop_gradient(x) * y + rlhf::relu(x);
      default:
        return x;
    }
  }
};

/// What a derivative must be: central differences of the plain formula. stop_gradient hides its argument from duals only.
double difference(const formula& f, double x, double y, double c, int variable) {
  const double h = 1e-6;
  const auto at = [&](double d) {
    if (f.pick == 33) return variable == 0 ? rlhf::relu(x + d) : x * (y + d) + rlhf::relu(x);
    return variable == 0 ? f(x + d, y, c) : f(x, y + d, c);
  };
  return (at(h) - at(-h)) / (2 * h);
}

}  // namespace

TEST_CASE("every operation's derivatives are those of central differences") {
  using D = dual<double, 2>;
  for (int pick = 0; pick < formula::count; ++pick)
    for (const double x : {-1.7, -0.4, 0.3, 1.1, 2.6})
      for (const double y : {-2.2, -0.6, 0.45, 1.3})
        for (const double c : {-0.8, 0.7, 2.5}) {
          CAPTURE(pick, x, y, c);
          const formula f{pick};
          const D z = f(D::variable(x, 0), D::variable(y, 1), c);
          CHECK(z.value == Approx(f(x, y, c)).epsilon(1e-14).margin(1e-14));
          CHECK(z.partial[0] == Approx(difference(f, x, y, c, 0)).epsilon(2e-8).margin(1e-8));
          CHECK(z.partial[1] == Approx(difference(f, x, y, c, 1)).epsilon(2e-8).margin(1e-8));
        }
}

TEST_CASE("a dual of duals has the second derivatives") {
  using D = dual<double>;
  using DD = dual<D>;
  for (int pick = 0; pick < formula::count; ++pick)
    for (const double x : {-1.7, 0.3, 2.6})
      for (const double y : {-0.6, 1.3}) {
        CAPTURE(pick, x, y);
        const formula f{pick};
        const double c = 0.7, h = 1e-5;
        const auto slope = [&](double at) { return f(D::variable(at, 0), D(y), c).partial[0]; };
        const DD z = f(DD::variable(D::variable(x, 0), 0), DD(D(y)), D(c));
        CHECK(z.value.value == Approx(f(x, y, c)).epsilon(1e-14).margin(1e-14));
        CHECK(z.partial[0].value == Approx(slope(x)).epsilon(1e-13).margin(1e-13));
        CHECK(z.partial[0].partial[0] == Approx((slope(x + h) - slope(x - h)) / (2 * h)).epsilon(1e-7).margin(1e-6));
      }
}

TEST_CASE("float duals agree with double duals") {
  for (int pick = 0; pick < formula::count; ++pick) {
    CAPTURE(pick);
    const formula f{pick};
    const auto wide = f(dual<double, 2>::variable(0.75, 0), dual<double, 2>::variable(-1.25, 1), 0.5);
    const auto narrow = f(dual<float, 2>::variable(0.75f, 0), dual<float, 2>::variable(-1.25f, 1), 0.5f);
    CHECK(static_cast<double>(narrow.value) == Approx(wide.value).epsilon(1e-6).margin(1e-6));
    for (int i = 0; i < 2; ++i)
      CHECK(static_cast<double>(narrow.partial[i]) == Approx(wide.partial[i]).epsilon(1e-6).margin(1e-6));
  }
}

TEST_CASE("constants carry no derivative, variables only their own") {
  const dual<double, 3> c(2.0), v = dual<double, 3>::variable(2.0, 1);
  for (int i = 0; i < 3; ++i) CHECK(c.partial[i] == 0);
  CHECK(v.partial[0] == 0);
  CHECK(v.partial[1] == 1);
  CHECK(v.partial[2] == 0);
  CHECK(rlhf::derivative(v, 1) == 1);
  CHECK(std::is_same_v<value_t<dual<float>>, float>);
  CHECK(std::is_same_v<rlhf::scalar_t<dual<dual<float>, 3>>, float>);
  CHECK(std::is_same_v<decltype(rlhf::min(dual<float>(1.0f), 2.0f)), dual<float>>);
  CHECK(std::is_same_v<decltype(rlhf::stop_gradient(v)), double>);
  CHECK(number<dual<dual<float, 2>, 3>>);
}

TEST_CASE("comparisons look at values, from either side") {
  const dual<double> a = dual<double>::variable(1, 0), b(2.0);
  CHECK(a < b);
  CHECK(b > a);
  CHECK(a <= 1.0);
  CHECK(a >= 1.0);
  CHECK_FALSE(a > 1.0);
  CHECK_FALSE(a < 1.0);
}

TEST_CASE("a branch that is not taken leaves no trace, whatever it holds") {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const auto x = dual<double>::variable(0.0, 0);
  const auto bad = rlhf::log(x) * none;
  const auto y = rlhf::select(x > 1.0, bad, x * 3.0);
  CHECK(y.value == 0);
  CHECK(y.partial[0] == 3);
}

TEST_CASE("slopes at the edges of functions are their limits") {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto at = [](double x) { return dual<double>::variable(x, 0); };
  CHECK(rlhf::exp(at(-infinity)).partial[0] == 0);
  CHECK(rlhf::log(at(0)).partial[0] == infinity);
  CHECK(rlhf::log1p(at(-1)).partial[0] == infinity);
  CHECK(rlhf::sqrt(at(0)).partial[0] == infinity);
  CHECK(rlhf::tanh(at(700)).partial[0] == 0);
  CHECK(rlhf::expm1(at(-800)).partial[0] == 0);
}
