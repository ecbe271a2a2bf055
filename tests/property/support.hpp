#pragma once
// Property tests: what must hold for every formula of a list, on random inputs from rapidcheck.
//
// A case is one formula on one random input. In the ordinary run each property sees 100 inputs from a fixed seed, each of them
// through every formula of its list. With the environment variable RLHF_LONG set (`./dev test --long` sets it) each property
// sees as many inputs as make 10^6 cases, from a new seed every time; RLHF_LONG=5000000 makes that many. A failure is shrunk
// and printed with the formula, the input, the seed and rapidcheck's line to reproduce it (RC_PARAMS in the environment).
//
// rapidcheck draws the scalars that a property is about, and the shapes and seeds of batches; a batch is a pure function of
// these.

#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "support/catch.hpp"

namespace property {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Inputs of a property over so many formulas.
inline int inputs_for(std::size_t formulas) {
  const char* const asked = std::getenv("RLHF_LONG");
  if (asked == nullptr) return 100;
  const double cases = std::max(1e6, std::atof(asked));
  return std::max(100, static_cast<int>(std::ceil(cases / static_cast<double>(formulas))));
}

/// `holds()` draws an input and looks at all formulas; it fails by `expect`.
template <class Property>
void for_all(const char* what, std::size_t formulas, Property holds) {
  rc::detail::TestParams parameters = rc::detail::configuration().testParams;
  if (std::getenv("RLHF_LONG") == nullptr && std::getenv("RC_PARAMS") == nullptr) parameters.seed = 20260101;
  parameters.maxSuccess = inputs_for(formulas);
  const rc::detail::TestMetadata metadata{what, what};
  const auto result = rc::detail::checkTestable(holds, metadata, parameters);
  const bool held = result.template is<rc::detail::SuccessResult>();
  std::ostringstream report;
  if (!held) rc::detail::printResultMessage(result, report << "seed " << parameters.seed << '\n');
  INFO(what << ": " << report.str());
  CHECK(held);
}

/// Fails the property where it is false; the words are joined only then.
template <class... Words>
void expect(bool holds, const Words&... words) {
  if (holds) return;
  std::ostringstream text;
  text.precision(17);
  (text << ... << words);
  RC_FAIL(text.str());
}

/// An integer of [low, high], all of it from the first case on; shrinks towards low.
inline std::int64_t integer(std::int64_t low, std::int64_t high) {
  return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::int64_t>(low, high + 1));
}
/// A number of [low, high]: one in eight is an end of the range or next to one, the others are uniform.
inline double real(double low, double high) {
  constexpr std::int64_t steps = std::int64_t{1} << 40;
  const std::int64_t k = integer(0, steps);
  if (k % 8 == 0) {
    const double at[] = {low, high, low + 1e-12 * (high - low), high - 1e-12 * (high - low)};
    return at[(k / 8) % 4];
  }
  return low + (high - low) * (static_cast<double>(k) / static_cast<double>(steps));
}

/// The random numbers of a batch: splitmix64 from a drawn seed, so that the same seed is the same batch everywhere.
class numbers {
 public:
  explicit numbers(std::int64_t seed) : state_(static_cast<std::uint64_t>(seed)) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(next() >> 11) * 0x1p-53; }
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(double p) { return uniform(0, 1) < p; }
  /// What must never be looked at.
  double garbage() {
    const double of[] = {not_a_number, infinity, -infinity, 1e300, -1e300};
    return of[next() % 5];
  }
  /// A random order of 0 ... n-1.
  std::vector<std::size_t> order(std::size_t n) {
    std::vector<std::size_t> p(n);
    for (std::size_t i = 0; i < n; ++i) p[i] = i;
    for (std::size_t i = n; i > 1; --i) std::swap(p[i - 1], p[next() % i]);
    return p;
  }

 private:
  std::uint64_t state_;
};
inline std::int64_t seed() { return integer(0, std::int64_t{1} << 48); }

template <class T>
[[nodiscard]] bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}
/// Exactly +0.
template <class T>
[[nodiscard]] bool plain_zero(const T& x) {
  return same_bits(x, T(0));
}
/// Equal to a relative error, with an absolute one of `scale` times it.
[[nodiscard]] inline bool near(double a, double b, double error, double scale = 0) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return true;
  if (!std::isfinite(a) || !std::isfinite(b)) return false;
  return std::abs(a - b) <= error * (std::max(std::abs(a), std::abs(b)) + scale);
}
/// Failed for a reason: an empty mask is a remark.
inline void expect_done(const rlhf::status& s, const char* formula) {
  expect(s || s.code == rlhf::errc::empty_mask, formula, ": ", s.message().c_str());
}

/// What is known of a formula beside its type.
enum trait : unsigned {
  margin_only = 1,     ///< of the difference of the two sides alone: adding a number to both changes nothing
  stops_gradient = 2,  ///< a gradient that is not the derivative, on purpose
  exponential = 4      ///< grows like an exponential of the log-ratio: finite where that is
};

/// A line of a list. `domain` moves random numbers to where the formula is defined.
template <class Formula>
struct entry {
  const char* name;
  Formula formula;
  unsigned traits = 0;
  void (*domain)(double*) = nullptr;
};
template <class F>
entry(const char*, F) -> entry<F>;
template <class F>
entry(const char*, F, unsigned) -> entry<F>;
template <class F>
entry(const char*, F, unsigned, void (*)(double*)) -> entry<F>;

/// One formula of a list, chosen at run time: a driver is compiled once for all of them.
template <const auto& List>
struct any_of {
  std::size_t which = 0;

  static constexpr std::size_t count = std::tuple_size_v<std::remove_cvref_t<decltype(List)>>;

  /// f(entry) of the chosen one.
  template <class F>
  void visit(F&& f) const {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((which == I ? f(std::get<I>(List)) : void()), ...);
    }(std::make_index_sequence<count>{});
  }
  [[nodiscard]] const char* name() const {
    const char* found = "";
    visit([&](const auto& e) { found = e.name; });
    return found;
  }
  [[nodiscard]] bool has(unsigned t) const {
    bool found = false;
    visit([&](const auto& e) { found = (e.traits & t) != 0; });
    return found;
  }
  void place(double* x) const {
    visit([&](const auto& e) {
      if (e.domain != nullptr) e.domain(x);
    });
  }
  [[nodiscard]] rlhf::status check() const {
    rlhf::status s;
    visit([&](const auto& e) { s = rlhf::check_of(e.formula); });
    return s;
  }
  template <template <class> class Item, class V>
  V operator()(const Item<V>& item) const {
    V y{};
    visit([&](const auto& e) { y = e.formula(item); });
    return y;
  }
};

}  // namespace property
