// Lanes as numbers: accuracy of their functions, edges, memory formats, scans and teams.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "rlhf/backend/eigen/lane_scan.hpp"
#include "rlhf/backend/eigen/lane_team.hpp"
#include "rlhf/backend/serial.hpp"
#include "support/catch.hpp"

namespace {

template <class T>
using pack = rlhf::lane<T, 2>;
template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T quiet_nan = std::numeric_limits<T>::quiet_NaN();
constexpr bool avx512 = sizeof(pack<float>) == 128;

static_assert(!std::is_same_v<rlhf::lane<float, 2, 0>, rlhf::lane<float, 2, rlhf::instruction_set>>,
              "units with other instruction sets have other lanes");

/// Distance from the true value in units of the last place of T.
template <class T>
double ulps(T got, long double want) {
  const T rounded = static_cast<T>(want);
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) == std::isnan(got) ? 0 : 1e30;
  if (std::isinf(rounded) || std::isinf(got)) return got == rounded ? 0 : 1e30;
  int exponent = 0;
  std::frexp(std::fmax(std::fabs(rounded), std::numeric_limits<T>::min()), &exponent);
  return static_cast<double>(std::fabs(got - want) / std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits));
}

/// Every 211th float; random doubles of all exponents and of moderate size.
template <class F>
void each_argument(float, F f) {
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 211)
    f(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
}
template <class F>
void each_argument(double, F f) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 1000000; ++i) {
    f(std::bit_cast<double>(random()));
    f(std::ldexp(static_cast<double>(static_cast<std::int64_t>(random())), i % 2 == 0 ? -58 : -63));
  }
}

/// The largest error of f over the arguments that `counts` admits.
template <class T, class F, class True, class Counts>
double worst(F f, True truth, Counts counts) {
  constexpr std::size_t size = pack<T>::size;
  T in[size] = {}, out[size];
  double largest = 0;
  std::size_t filled = 0;
  each_argument(T{}, [&](T x) {
    if (!counts(x)) return;
    in[filled++] = x;
    if (filled < size) return;
    filled = 0;
    rlhf::memory_traits<pack<T>>::store(out, f(rlhf::memory_traits<pack<T>>::load(in)));
    for (std::size_t j = 0; j < size; ++j) {
      const double error = ulps<T>(out[j], static_cast<long double>(truth(in[j])));
      if (error > largest) largest = error;
    }
  });
  return largest;
}

/// The next wider type is exact enough for float, and quick.
template <class T>
using wider = std::conditional_t<sizeof(T) == 4, double, long double>;

template <class T>
T first(const pack<T>& x) {
  T out[pack<T>::size];
  rlhf::memory_traits<pack<T>>::store(out, x);
  for (const T& y : out) CHECK(std::memcmp(&y, &out[0], sizeof y) == 0);  // every lane alike
  return out[0];
}

bool same(double a, double b) { return std::isnan(a) ? std::isnan(b) : a == b; }

}  // namespace

TEMPLATE_TEST_CASE("functions of lanes are right to about a unit in the last place", "", float, double) {
  using T = TestType;
  using W = wider<T>;
  const auto all = [](T) { return true; };
  const T normal = sizeof(T) == 4 ? T(-86.98) : T(-708);  // from here on exp may flush to 0
  CHECK(worst<T>([](auto x) { return rlhf::exp(x); }, [](T x) { return std::exp(W(x)); },
                 [&](T x) { return avx512 || !(x < normal); }) < 1.2);
  CHECK(worst<T>([](auto x) { return rlhf::log(x); }, [](T x) { return std::log(W(x)); }, all) < 1.0);
  CHECK(worst<T>([](auto x) { return rlhf::log1p(x); }, [](T x) { return std::log1p(W(x)); }, all) < 1.5);
  CHECK(worst<T>([](auto x) { return rlhf::expm1(x); }, [](T x) { return std::expm1(W(x)); }, all) < 2.3);
  CHECK(worst<T>([](auto x) { return rlhf::tanh(x); }, [](T x) { return std::tanh(W(x)); }, all) < 2.8);
  CHECK(worst<T>([](auto x) { return rlhf::sqrt(x); }, [](T x) { return std::sqrt(W(x)); }, all) <= 0.501);
}

TEMPLATE_TEST_CASE("where exp does not give subnormal numbers it gives 0", "", float, double) {
  using T = TestType;
  const T from = sizeof(T) == 4 ? T(-104) : T(-746), to = sizeof(T) == 4 ? T(-86.98) : T(-708);
  for (int i = 0; i <= 1000; ++i) {
    const T x = from + (to - from) * static_cast<T>(i) / 1000;
    const T y = first<T>(rlhf::exp(pack<T>(x)));
    CHECK((y == 0 || ulps<T>(y, std::exp(static_cast<long double>(x))) <= 1.2));
  }
}

TEST_CASE("weights are right to a few roundings, up to 2^127") {
  double largest = 0, finite = 0;
  for (int i = -12690; i <= 12700; ++i) {
    const float x = static_cast<float>(i) / 100;
    const double want = std::exp2(static_cast<double>(x));
    if (i >= -12600)
      largest = std::fmax(largest, std::fabs(first<float>(rlhf::exp2_weight(pack<float>(x))) - want) / want);
    if (i >= -12600 && i <= 10000)
      finite = std::fmax(
          finite, std::fabs(first<float>(rlhf::number_traits<pack<float>>::exp2_finite(pack<float>(x))) - want) / want);
  }
  CHECK(largest < 6e-7);
  CHECK(finite < 6e-7);
  CHECK(first<float>(rlhf::exp2_weight(pack<float>(-infinity<float>))) == 0);
  CHECK(first<float>(rlhf::exp2_weight(pack<float>(-3e38f))) == 0);
  CHECK(first<float>(rlhf::exp2_weight(pack<float>(0.0f))) == 1);
  CHECK(std::isnan(first<float>(rlhf::exp2_weight(pack<float>(quiet_nan<float>)))));
  // Unseen logits: what is too large shows, and what is far below is nothing.
  for (const float x : {101.0f, 126.9f, 128.0f, 1000.0f, 1e6f, 3e38f})
    CHECK(first<float>(rlhf::number_traits<pack<float>>::exp2_finite(pack<float>(x))) > 1e30f);
  for (const float x : {-200.0f, -1e4f, -3e5f, -8e5f, -1e9f, -3e38f})
    CHECK(first<float>(rlhf::number_traits<pack<float>>::exp2_finite(pack<float>(x))) == 0);
}

TEMPLATE_TEST_CASE("functions of lanes at their edges", "", float, double) {
  using T = TestType;
  using V = pack<T>;
  const auto check = [](V y, T want) {
    CAPTURE(want);
    CHECK(same(first<T>(y), want));
  };
  const T inf = infinity<T>, tiny = std::numeric_limits<T>::denorm_min(), huge = std::numeric_limits<T>::max();
  check(rlhf::exp(V(-inf)), 0);
  check(rlhf::exp(V(inf)), inf);
  check(rlhf::exp(V(-huge)), 0);
  check(rlhf::exp(V(huge)), inf);
  check(rlhf::exp(V(0)), 1);
  check(rlhf::log(V(0)), -inf);
  check(rlhf::log(V(-T(0))), -inf);
  check(rlhf::log(V(-1)), quiet_nan<T>);
  check(rlhf::log(V(-inf)), quiet_nan<T>);
  check(rlhf::log(V(inf)), inf);
  check(rlhf::log(V(1)), 0);
  check(rlhf::log(V(tiny)), static_cast<T>(std::log(static_cast<long double>(tiny))));
  check(rlhf::log1p(V(-1)), -inf);
  check(rlhf::log1p(V(-2)), quiet_nan<T>);
  check(rlhf::log1p(V(inf)), inf);
  check(rlhf::log1p(V(-inf)), quiet_nan<T>);
  check(rlhf::log1p(V(0)), 0);
  check(rlhf::log1p(V(tiny)), tiny);
  check(rlhf::log1p(V(huge)), std::log1p(huge));
  check(rlhf::expm1(V(-inf)), -1);
  check(rlhf::expm1(V(inf)), inf);
  check(rlhf::expm1(V(0)), 0);
  check(rlhf::expm1(V(huge)), inf);
  check(rlhf::tanh(V(inf)), 1);
  check(rlhf::tanh(V(-inf)), -1);
  check(rlhf::tanh(V(0)), 0);
  check(rlhf::sqrt(V(-1)), quiet_nan<T>);
  check(rlhf::abs(V(-inf)), inf);
  check(rlhf::abs(V(-3)), 3);

  // NaN in, NaN out, whatever its payload.
  T all_ones;
  std::memset(&all_ones, 0xff, sizeof all_ones);
  for (const T bad : {quiet_nan<T>, -quiet_nan<T>, all_ones}) {
    const V x(bad), one(1);
    for (const V& y : {rlhf::exp(x), rlhf::log(x), rlhf::log1p(x), rlhf::expm1(x), rlhf::tanh(x), rlhf::sqrt(x),
                       rlhf::abs(x), rlhf::exp2_weight(x), rlhf::min(x, one), rlhf::min(one, x), rlhf::max(x, one),
                       rlhf::max(one, x), x + one, -x})
      CHECK(std::isnan(first<T>(y)));
  }
}

TEMPLATE_TEST_CASE("masks of lanes choose element by element", "", float, double) {
  using T = TestType;
  using V = rlhf::lane<T, 4>;
  constexpr int size = V::size;
  constexpr auto elements = static_cast<unsigned>(size);
  T a[elements], b[elements], out[elements];
  std::uint8_t bytes[elements];
  for (int j = 0; j < size; ++j) {
    a[j] = static_cast<T>(j % 5 - 2);
    b[j] = static_cast<T>(j % 3 - 1);
    bytes[j] = static_cast<std::uint8_t>(j % 4 == 0 ? 0 : j);
  }
  using memory = rlhf::memory_traits<V>;
  const V x = memory::load(a), y = memory::load(b);
  const auto in = memory::load_mask(bytes);
  const auto check = [&](const rlhf::mask_t<V>& m, auto expected) {
    memory::store(out, rlhf::select(m, x, y));
    for (int j = 0; j < size; ++j) CHECK(out[j] == (expected(j) ? a[j] : b[j]));
  };
  check(x < y, [&](int j) { return a[j] < b[j]; });
  check(x <= y, [&](int j) { return a[j] <= b[j]; });
  check(x > y, [&](int j) { return a[j] > b[j]; });
  check(x >= y, [&](int j) { return a[j] >= b[j]; });
  check(in, [&](int j) { return bytes[j] != 0; });
  check(in & (x > y), [&](int j) { return bytes[j] != 0 && a[j] > b[j]; });
  check(in | (x > y), [&](int j) { return bytes[j] != 0 || a[j] > b[j]; });
  check(!in, [&](int j) { return bytes[j] == 0; });
  check(rlhf::mask_t<V>(true), [](int) { return true; });
  check(rlhf::mask_t<V>(false), [](int) { return false; });
  CHECK(rlhf::number_traits<V>::exceeds(x, V(1)));
  CHECK_FALSE(rlhf::number_traits<V>::exceeds(x, V(2)));
  const V largest = rlhf::number_traits<V>::largest(x);
  for (int j = 0; j < size; ++j) CHECK(largest[j] == 2);
}

namespace {

/// Every stored value is widened, and every float near one rounded, as by the scalar conversions; K odd and even.
template <class S, int K>
void check_format() {
  using V = rlhf::lane<float, K>;
  using memory = rlhf::memory_traits<V>;
  std::vector<S> patterns(65536), stored(static_cast<std::size_t>(V::size));
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i].bits = static_cast<std::uint16_t>(i);
  int wrong_loads = 0, wrong_stores = 0;
  for (std::size_t i = 0; i + V::size <= patterns.size(); i += V::size) {
    float widened[V::size], near[V::size];
    memory::store(widened, memory::load(&patterns[i]));
    for (std::uint32_t step : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      for (int j = 0; j < V::size; ++j) {
        const float want = static_cast<float>(patterns[i + static_cast<std::size_t>(j)]);
        wrong_loads += !same(widened[j], want) || (want == 0 && std::signbit(want) != std::signbit(widened[j]));
        near[j] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(want) + step);
      }
      memory::store(stored.data(), memory::load(near));
      for (int j = 0; j < V::size; ++j) {
        const S want(near[j]), got = stored[static_cast<std::size_t>(j)];
        wrong_stores += std::isnan(near[j]) ? !std::isnan(static_cast<float>(got)) : got.bits != want.bits;
      }
    }
  }
  CHECK(wrong_loads == 0);
  CHECK(wrong_stores == 0);
}

}  // namespace

TEST_CASE("16-bit formats are widened and rounded as by the scalar conversions") {
  check_format<rlhf::bfloat16, 1>();
  check_format<rlhf::bfloat16, 2>();
  check_format<rlhf::bfloat16, 4>();
  check_format<rlhf::float16, 1>();
  check_format<rlhf::float16, 2>();
}

TEST_CASE("lanes convert between float and double arrays") {
  const auto check = []<class T, class S>(T, S) {
    using V = pack<T>;
    S in[V::size], out[V::size];
    for (int j = 0; j < V::size; ++j) in[j] = static_cast<S>(j) / 3;
    rlhf::memory_traits<V>::store(out, rlhf::memory_traits<V>::load(in));
    for (int j = 0; j < V::size; ++j) CHECK(out[j] == static_cast<S>(static_cast<T>(in[j])));
  };
  check(float{}, double{});
  check(double{}, float{});
  check(float{}, std::int32_t{});
}

TEMPLATE_TEST_CASE("a scan on lanes is the scan of its elements", "", float, double) {
  using T = TestType;
  const auto check = []<int K>(std::integral_constant<int, K>) {
    using V = rlhf::lane<T, K>;
    using memory = rlhf::memory_traits<V>;
    constexpr int size = V::size, n = 3 * size;
    constexpr auto elements = static_cast<unsigned>(n);
    T a[elements], b[elements], got[3][elements], want[3][elements];
    for (int i = 0; i < n; ++i) {
      a[i] = i % 7 == 3 ? 0 : T(1) - static_cast<T>(i % 5) / 8;
      b[i] = static_cast<T>(i % 11) - 5;
    }
    rlhf::serial_scan<T, 3> serial{{T(0.5), T(-2), T(7)}};
    rlhf::lane_scan<T, 3> lanes;
    for (int k = 0; k < 3; ++k) lanes.set_carry(k, serial.carry[k]);
    for (int i = n - 1; i >= 0; --i) {
      want[0][i] = serial.inclusive(0, a[i], b[i]);
      want[1][i] = serial.exclusive(1, a[i], b[i]);
      want[2][i] = serial.next(2, b[i]);
    }
    for (int i = n - size; i >= 0; i -= size) {
      const V x = memory::load(a + i), y = memory::load(b + i);
      memory::store(got[0] + i, lanes.inclusive(0, x, y));
      memory::store(got[1] + i, lanes.exclusive(1, x, y));
      memory::store(got[2] + i, lanes.next(2, y));
    }
    for (int k = 0; k < 3; ++k) {
      for (int i = 0; i < n; ++i) CHECK(got[k][i] == Approx(want[k][i]).epsilon(1e-5).margin(1e-5));
      CHECK(lanes.carry(k) == Approx(serial.carry[k]).epsilon(1e-5).margin(1e-5));
    }
  };
  check(std::integral_constant<int, 1>{});
  check(std::integral_constant<int, 2>{});
}

namespace {

template <class V>
struct sum_of {
  V sum = V(rlhf::number_traits<V>::constant(0));
  RLHF_INLINE void add(const V& x) { sum = sum + x; }
  RLHF_INLINE void merge(const sum_of& other) { sum = sum + other.sum; }
};
template <class V>
using softmax = rlhf::online_softmax<V, true, true>;

template <class T>
struct element {
  const T* data;
  template <class V>
  RLHF_INLINE V operator()(std::int64_t j) const {
    return rlhf::memory_traits<V>::load(data + j);
  }
};
template <class T>
struct halve {
  T* data;
  template <class V>
  RLHF_INLINE void operator()(std::int64_t j) const {
    rlhf::memory_traits<V>::store(data + j,
                                  rlhf::memory_traits<V>::load(data + j) * V(rlhf::number_traits<V>::constant(0.5)));
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a team walks rows of every length", "", float, double) {
  using T = TestType;
  const rlhf::lane_team<T> team;
  for (std::int64_t n = 0; n <= 300; ++n) {
    CAPTURE(n);
    std::vector<T> x(static_cast<std::size_t>(n + 1));
    double sum = 0, top = -1e300, total = 0, weighted = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double z = static_cast<double>((j * 37) % 101) / 4 - 12;
      x[static_cast<std::size_t>(j)] = static_cast<T>(z);
      sum += z;
      top = std::fmax(top, z);
    }
    for (std::int64_t j = 0; j < n; ++j) {
      const double d = static_cast<double>(x[static_cast<std::size_t>(j)]) - top;
      total += std::exp(d);
      weighted += std::exp(d) * d;
    }
    x.back() = 77;
    CHECK(team.template reduce<sum_of>(n, element<T>{x.data()}).sum == Approx(sum).margin(1e-3));
    const auto row = team.template reduce<softmax>(n, element<T>{x.data()});
    if (n > 0) {
      CHECK(row.log_sum_exp() == Approx(top + std::log(total)).epsilon(1e-6));
      CHECK(row.entropy() == Approx(std::log(total) - weighted / total).epsilon(1e-5).margin(1e-6));
    } else {
      CHECK(row.log_sum_exp() == -infinity<T>);
    }
    const std::vector<T> before = x;
    team.each(n, halve<T>{x.data()});
    for (std::size_t j = 0; j < static_cast<std::size_t>(n); ++j) CHECK(x[j] == before[j] / 2);
    CHECK(x.back() == 77);
  }
}

TEST_CASE("bfloat16 read in any order goes back to its places, and is the same numbers") {
  const auto check = [](auto pack) {
    using V = decltype(pack);
    using memory = rlhf::memory_traits<V>;
    std::vector<rlhf::bfloat16> x, y(static_cast<std::size_t>(V::size), rlhf::bfloat16(77.0f));
    double sum = 0, squares = 0, found = 0, found_squares = 0;
    for (int j = 0; j < V::size; ++j) {
      const float value = static_cast<float>(j * 37 % 101) / 4 - 12;
      x.push_back(rlhf::bfloat16(value));
      sum += static_cast<double>(value);
      squares += static_cast<double>(value) * static_cast<double>(value);
    }
    const V v = rlhf::load_in_any_order<V>(x.data());
    for (int j = 0; j < V::size; ++j) {
      found += static_cast<double>(v[j]);
      found_squares += static_cast<double>(v[j]) * static_cast<double>(v[j]);
    }
    CHECK(found == sum);
    CHECK(found_squares == squares);
    rlhf::store_in_any_order(y.data(), v + v);
    for (std::size_t j = 0; j < y.size(); ++j)
      CHECK(static_cast<float>(y[j]) == 2 * static_cast<float>(x[j]));  // each at its own place
    memory::store(y.data(), memory::load(x.data()));
    for (std::size_t j = 0; j < y.size(); ++j) CHECK(y[j].bits == x[j].bits);
  };
  check(rlhf::lane<float, 1>{});
  check(rlhf::lane<float, 2>{});
  check(rlhf::lane<float, 4>{});
}
