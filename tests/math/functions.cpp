// Stable functions against their definitions in long double, at the ends of their domains, and their derivatives.

#include "rlhf/math/functions.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rlhf/math/dual.hpp"
#include "support/catch.hpp"

namespace {

template <class T>
constexpr double epsilon = std::numeric_limits<T>::epsilon();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// The largest relative errors of value and derivative over a grid, in epsilons of T. Below the smallest normal number
/// errors count as absolute.
struct errors {
  double value = 0, slope = 0;
};
template <class T, class F, class Exact, class Slope>
errors worst(F f, Exact exact, Slope slope, double low, double high, int steps = 20001) {
  errors e;
  for (int i = 0; i < steps; ++i) {
    const T x = static_cast<T>(low + (high - low) * i / (steps - 1));
    const auto y = f(rlhf::dual<T>::variable(x, 0));
    const auto relative = [](T got, long double want) {
      const long double floor = std::numeric_limits<T>::min();
      return static_cast<double>(std::abs(static_cast<long double>(got) - want) / std::max(std::abs(want), floor)) /
             epsilon<T>;
    };
    const auto at = static_cast<long double>(x);
    e.value = std::max(e.value, relative(y.value, exact(at)));
    e.slope = std::max(e.slope, relative(y.partial[0], slope(at)));
    if (f(x) != y.value) e.value = infinity;  // plain and dual agree to the last bit
  }
  return e;
}

long double sigmoid(long double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
long double log_sigmoid(long double x) { return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)); }
long double log1mexp(long double x) { return x > -0.6931L ? std::log(-std::expm1(x)) : std::log1p(-std::exp(x)); }

struct call_sigmoid {
  template <rlhf::number V>
  V operator()(const V& x) const {
    return rlhf::sigmoid(x);
  }
};
struct call_log_sigmoid {
  template <rlhf::number V>
  V operator()(const V& x) const {
    return rlhf::log_sigmoid(x);
  }
};
struct call_softplus {
  template <rlhf::number V>
  V operator()(const V& x) const {
    return rlhf::softplus(x);
  }
};
struct call_log1mexp {
  template <rlhf::number V>
  V operator()(const V& x) const {
    return rlhf::log1mexp(x);
  }
};

template <class T>
rlhf::dual<T> at(double x) {
  return rlhf::dual<T>::variable(static_cast<T>(x), 0);
}

}  // namespace

TEMPLATE_TEST_CASE("sigmoid, log_sigmoid and softplus keep their relative precision in both tails", "", float, double) {
  using T = TestType;
  const double far = std::is_same_v<T, float> ? 87 : 700;
  for (const double reach : {1e-3, 3.0, 40.0, far}) {
    CAPTURE(reach);
    const auto s = worst<T>(
        call_sigmoid{}, sigmoid, [](long double x) { return sigmoid(x) * sigmoid(-x); }, -reach, reach);
    CHECK(s.value <= 3);
    CHECK(s.slope <= 5);
    const auto l = worst<T>(
        call_log_sigmoid{}, log_sigmoid, [](long double x) { return sigmoid(-x); }, -reach, reach);
    CHECK(l.value <= 3);
    CHECK(l.slope <= 3);
    const auto p = worst<T>(
        call_softplus{}, [](long double x) { return -log_sigmoid(-x); }, sigmoid, -reach, reach);
    CHECK(p.value <= 3);
    CHECK(p.slope <= 3);
  }
}

TEMPLATE_TEST_CASE("log1mexp is exact near 0, around -log 2 and far below", "", float, double) {
  using T = TestType;
  const auto slope = [](long double x) { return -1 / std::expm1(-x); };
  for (const auto& [low, high] :
       {std::pair{-1e-10, -1e-16}, {-1e-3, -1e-8}, {-0.6932, -0.6930}, {-2.0, -0.1}, {-80.0, -2.0}}) {
    CAPTURE(low, high);
    const auto e = worst<T>(call_log1mexp{}, log1mexp, slope, low, high);
    CHECK(e.value <= 3);
    CHECK(e.slope <= 3);
  }
  for (const double zero : {0.0, -0.0}) {
    CHECK(static_cast<double>(rlhf::log1mexp(at<T>(zero)).value) == -infinity);
    CHECK(static_cast<double>(rlhf::log1mexp(at<T>(zero)).partial[0]) == -infinity);
  }
  CHECK(std::isnan(rlhf::log1mexp(T(1))));
  CHECK(rlhf::log1mexp(static_cast<T>(-infinity)) == 0);
  CHECK(rlhf::log1mexp(at<T>(-1e4)).partial[0] == 0);
}

TEMPLATE_TEST_CASE("no function overflows or loses its slope at the limits of the type", "", float, double) {
  using T = TestType;
  for (const double x : {88.0, 89.0, 700.0, 710.0, 1e4, 1e30}) {
    CAPTURE(x);
    CHECK(static_cast<double>(rlhf::log_sigmoid(at<T>(-x)).value) == static_cast<double>(static_cast<T>(-x)));
    CHECK(rlhf::log_sigmoid(at<T>(-x)).partial[0] == 1);
    CHECK(std::abs(rlhf::log_sigmoid(at<T>(x)).value) < 1e-37);
    CHECK(std::abs(rlhf::log_sigmoid(at<T>(x)).partial[0]) < 1e-37);
    CHECK(rlhf::sigmoid(at<T>(x)).value == 1);
    CHECK(std::abs(rlhf::sigmoid(at<T>(-x)).value) < 1e-37);
    CHECK(static_cast<double>(rlhf::softplus(at<T>(x)).value) == static_cast<double>(static_cast<T>(x)));
    CHECK(rlhf::softplus(at<T>(x)).partial[0] == 1);
  }
  const T inf = static_cast<T>(infinity);
  CHECK(rlhf::log_sigmoid(inf) == 0);
  CHECK(rlhf::log_sigmoid(-inf) == -inf);
  CHECK(rlhf::log_sigmoid(rlhf::dual<T>::variable(-inf, 0)).partial[0] == 1);
  CHECK(rlhf::sigmoid(-inf) == 0);
  CHECK(rlhf::softplus(inf) == inf);
  CHECK(rlhf::softplus(-inf) == 0);
}

TEMPLATE_TEST_CASE("NaN in, NaN out, of every function and on either side", "", float, double) {
  using T = TestType;
  const T n = static_cast<T>(not_a_number), one = 1;
  CHECK(std::isnan(rlhf::sigmoid(n)));
  CHECK(std::isnan(rlhf::log_sigmoid(n)));
  CHECK(std::isnan(rlhf::softplus(n)));
  CHECK(std::isnan(rlhf::log1mexp(n)));
  CHECK(std::isnan(rlhf::clamp(n, -one, one)));
  CHECK(std::isnan(rlhf::relu(n)));
  CHECK(std::isnan(rlhf::square(n)));
  CHECK(std::isnan(rlhf::abs(n)));
  CHECK(std::isnan(rlhf::min(n, one)));
  CHECK(std::isnan(rlhf::min(one, n)));
  CHECK(std::isnan(rlhf::max(n, one)));
  CHECK(std::isnan(rlhf::max(one, n)));
  CHECK(std::isnan(rlhf::soft_min(n, one, 4)));
  CHECK(std::isnan(rlhf::soft_min(one, n, 4)));
  CHECK(std::isnan(rlhf::safe_ratio(n, one)));
  CHECK(rlhf::safe_ratio(one, n) == 0);  // no positive count
  CHECK(rlhf::select(true, one, n) == one);
  CHECK(rlhf::select(false, n, one) == one);
  CHECK_FALSE(rlhf::is_finite(n));
}

TEMPLATE_TEST_CASE("ties and bounds follow the rules of the golden vectors", "", float, double) {
  using T = TestType;
  using D = rlhf::dual<T, 2>;
  const D x = D::variable(T(1.5), 0), y = D::variable(T(1.5), 1);
  for (const D& tie : {rlhf::min(x, y), rlhf::max(x, y), rlhf::min(y, x), rlhf::max(y, x)}) {
    CHECK(tie.value == T(1.5));
    CHECK(tie.partial[0] == T(0.5));
    CHECK(tie.partial[1] == T(0.5));
  }
  CHECK(rlhf::max(x, T(1.5)).partial[0] == T(0.5));  // a tie with a constant: half is lost
  CHECK(rlhf::min(T(1.5), x).partial[0] == T(0.5));
  CHECK(rlhf::max(x, x).partial[0] == 1);
  // A clamp passes on both closed bounds.
  const auto slope = [](double v) { return rlhf::clamp(at<T>(v), T(-1), T(2)).partial[0]; };
  CHECK(slope(-1) == 1);
  CHECK(slope(2) == 1);
  CHECK(slope(0) == 1);
  CHECK(slope(-1.0001) == 0);
  CHECK(slope(2.0001) == 0);
  CHECK(rlhf::clamp(T(5), T(-1), T(2)) == 2);
  CHECK(rlhf::clamp(static_cast<T>(-infinity), T(-1), T(2)) == -1);
  // abs and relu have slope 0 at 0.
  CHECK(rlhf::abs(at<T>(0)).partial[0] == 0);
  CHECK(rlhf::abs(at<T>(-0.0)).partial[0] == 0);
  CHECK(rlhf::abs(at<T>(-3)).partial[0] == -1);
  CHECK_FALSE(std::signbit(rlhf::abs(T(-0.0))));
  CHECK(rlhf::relu(at<T>(0)).partial[0] == 0);
  CHECK(rlhf::relu(at<T>(1e-30)).partial[0] == 1);
  CHECK(rlhf::relu(at<T>(-2)).value == 0);
}

TEMPLATE_TEST_CASE("safe_ratio is the mean of an empty set too", "", float, double) {
  using T = TestType;
  CHECK(rlhf::safe_ratio(T(6), T(4)) == T(1.5));
  CHECK(rlhf::safe_ratio(T(6), T(0)) == 0);
  CHECK(rlhf::safe_ratio(T(6), T(-1)) == 0);
  CHECK(rlhf::safe_ratio(at<T>(6), T(4)).partial[0] == T(0.25));
  CHECK(rlhf::safe_ratio(at<T>(6), T(0)).partial[0] == 0);
  // The numerator of an empty set may be anything.
  CHECK(rlhf::safe_ratio(static_cast<T>(not_a_number), T(0)) == 0);
}

TEST_CASE("soft_min lies below the smaller side, by at most log 2 over the sharpness") {
  for (const double k : {0.5, 4.0, 50.0})
    for (const double a : {-3.0, 0.0, 0.7, 900.0})
      for (const double b : {-3.0, 0.1, 0.7, -900.0}) {
        CAPTURE(k, a, b);
        const double low = std::min(a, b), got = rlhf::soft_min(a, b, k);
        CHECK(got <= low + 1e-12);
        CHECK(got >= low - std::log(2.0) / k - 1e-12);
        CHECK(got == Approx(low - std::log1p(std::exp(-k * std::abs(a - b))) / k).epsilon(1e-13));
        using D = rlhf::dual<double, 2>;
        const D y = rlhf::soft_min(D::variable(a, 0), D::variable(b, 1), k);
        CHECK(y.partial[0] == Approx(1 / (1 + std::exp(k * (a - b)))).margin(1e-300));
        CHECK(y.partial[0] + y.partial[1] == Approx(1));
      }
  CHECK(rlhf::soft_min(infinity, 2.0, 4) == 2);
  CHECK(rlhf::soft_min(-2.0, infinity, 4) == -2);
}

TEST_CASE("is_finite looks at the value") {
  CHECK(rlhf::is_finite(1e300));
  CHECK(rlhf::is_finite(-3.4e38f));
  CHECK_FALSE(rlhf::is_finite(infinity));
  CHECK_FALSE(rlhf::is_finite(-infinity));
  rlhf::dual<double> d(1.0);
  d.partial[0] = infinity;
  CHECK(rlhf::is_finite(d));
}
