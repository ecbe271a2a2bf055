// The accumulators give one answer for every way to split the work.

#include "rlhf/math/monoids.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "rlhf/math/memory.hpp"
#include "support/catch.hpp"

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<double> values(std::size_t n, double center, double spread, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<double> x(n);
  for (auto& v : x) v = center + spread * (static_cast<double>(random()) / 2147483648.0 - 1);
  return x;
}

/// Folds [begin, end) as a random binary tree over single elements.
template <class M, class Leaf>
M fold(const Leaf& leaf, std::size_t begin, std::size_t end, std::mt19937& random) {
  if (begin == end) return {};
  if (end - begin == 1) return leaf(begin);
  const std::size_t middle = begin + random() % (end - begin + 1);
  if (middle == begin || middle == end) {  // an empty side is no trouble
    M left = fold<M>(leaf, begin, (begin + end) / 2, random), empty;
    empty.merge(left);
    empty.merge(fold<M>(leaf, (begin + end) / 2, end, random));
    empty.merge(M{});
    return empty;
  }
  M left = fold<M>(leaf, begin, middle, random);
  left.merge(fold<M>(leaf, middle, end, random));
  return left;
}

}  // namespace

TEST_CASE("moments merge to count, mean and deviations, far from 0 too") {
  for (const double center : {0.0, 1.0, 1e8}) {
    const auto x = values(1237, center, 1, 5);
    long double sum = 0, m2 = 0;
    for (const double v : x) sum += v;
    const long double mean = sum / static_cast<long double>(x.size());
    for (const double v : x) m2 += (v - mean) * (v - mean);
    std::mt19937 random(7);
    for (int tree = 0; tree < 30; ++tree) {
      CAPTURE(center, tree);
      const auto m = fold<rlhf::moments>([&](std::size_t i) { return rlhf::moments{1, x[i], 0}; }, 0, x.size(), random);
      CHECK(m.count == 1237);
      CHECK(m.mean == Approx(static_cast<double>(mean)).epsilon(1e-14).margin(1e-14));
      CHECK(m.m2 == Approx(static_cast<double>(m2)).epsilon(center > 1 ? 1e-7 : 1e-13));
      CHECK(m.variance() == Approx(static_cast<double>(m2) / 1236).epsilon(1e-7));
      CHECK(m.variance(true) == Approx(static_cast<double>(m2) / 1237).epsilon(1e-7));
    }
  }
}

TEST_CASE("a number added to moments gives the bits of a merge with its own") {
  for (const double center : {0.0, 1e6, -3e-9}) {
    rlhf::moments added, merged;
    auto x = values(50, center, 2, 11);
    x.insert(x.end(), {0.0, -0.0, x[0], infinity, 1.0});
    for (const double v : x) {
      added.add(v);
      merged.merge({1, v, 0});
      CHECK(added.count == merged.count);
      CHECK(std::memcmp(&added.mean, &merged.mean, sizeof(double)) == 0);
      CHECK((std::memcmp(&added.m2, &merged.m2, sizeof(double)) == 0 || std::isnan(added.m2)));
      CHECK(std::isnan(added.m2) == std::isnan(merged.m2));
    }
  }
}

TEST_CASE("moments of nothing, of one, of equals") {
  rlhf::moments none;
  CHECK(none.variance() == 0);
  CHECK(none.variance(true) == 0);
  none.merge({});
  CHECK(none.count == 0);
  CHECK(none.mean == 0);
  rlhf::moments one{1, 5, 0};
  CHECK(one.variance() == 0);
  CHECK(one.variance(true) == 0);
  one.merge({1, 5, 0});
  CHECK(one.mean == 5);
  CHECK(one.m2 == 0);
}

TEST_CASE("affine maps compose associatively, and composed they are the recurrence") {
  const auto a = values(50, 0.5, 0.6, 1), b = values(50, 0, 1, 2);
  for (std::size_t i = 0; i + 2 < a.size(); ++i) {
    const rlhf::affine<double> f{a[i], b[i]}, g{a[i + 1], b[i + 1]}, h{a[i + 2], b[i + 2]};
    const auto left = f.after(g).after(h), right = f.after(g.after(h));
    CHECK(left.a == Approx(right.a).epsilon(1e-14).margin(1e-14));
    CHECK(left.b == Approx(right.b).epsilon(1e-14).margin(1e-14));
    CHECK(f.after(g)(0.3) == Approx(f(g(0.3))).epsilon(1e-14).margin(1e-14));
  }
  rlhf::affine<double> all{1, 0};
  double y = 2.5;
  for (std::size_t i = 0; i < a.size(); ++i) {
    all = rlhf::affine<double>{a[i], b[i]}.after(all);
    y = b[i] + a[i] * y;
  }
  CHECK(all(2.5) == Approx(y).epsilon(1e-12));
}

TEST_CASE("totals start from nothing and keep sums and maxima") {
  rlhf::totals<2, 1> t;
  CHECK(t.sum[0] == 0);
  CHECK(t.max[0] == -infinity);
  rlhf::accumulator<float, 2, 1> one;
  CHECK(one.sum[1] == 0);
  CHECK(one.max[0] == -std::numeric_limits<float>::infinity());
  one.sum[0] = 1.5f;
  one.max[0] = -3;
  t.add(one);
  t.add(one);
  rlhf::totals<2, 1> other;
  other.sum[1] = 7;
  other.merge(t);
  CHECK(other.sum[0] == 3);
  CHECK(other.sum[1] == 7);
  CHECK(other.max[0] == -3);
  other.merge({});
  CHECK(other.max[0] == -3);
}

TEMPLATE_TEST_CASE("online softmax is the same for every split of a row", "", float, double) {
  using T = TestType;
  using state = rlhf::online_softmax<T, true, true>;
  const double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
  for (const double reach : {1.0, 30.0, 1e4})
    for (const bool holes : {false, true}) {
      auto z = values(173, 0, reach, 11);
      for (std::size_t i = 0; i < z.size(); ++i) {
        z[i] = static_cast<double>(static_cast<T>(z[i]));
        if (holes && i % 3 != 1) z[i] = -infinity;
      }
      long double top = -infinity, sum = 0, weighted = 0, squares = 0;
      for (const double v : z) top = std::max(top, static_cast<long double>(v));
      for (const double v : z) {
        const long double e = std::exp(v - top);
        sum += e;
        squares += e * e;
        if (e > 0) weighted += e * (v - top);
      }
      std::mt19937 random(3);
      for (int tree = 0; tree < 30; ++tree) {
        CAPTURE(reach, holes, tree);
        const auto leaf = [&](std::size_t i) {
          state s;
          s.add(static_cast<T>(z[i]));
          return s;
        };
        const state s = fold<state>(leaf, 0, z.size(), random);
        CHECK(static_cast<double>(s.log_sum_exp()) ==
              Approx(static_cast<double>(top + std::log(sum))).epsilon(tolerance).margin(tolerance));
        CHECK(static_cast<double>(s.entropy()) ==
              Approx(static_cast<double>(std::log(sum) - weighted / sum)).epsilon(tolerance).margin(tolerance));
        CHECK(static_cast<double>(s.square_sum()) ==
              Approx(static_cast<double>(squares / (sum * sum))).epsilon(tolerance));
      }
    }
}

TEMPLATE_TEST_CASE("online softmax: rows of nothing, of impossible tokens, NaN", "", float, double) {
  using T = TestType;
  using state = rlhf::online_softmax<T, true, true>;
  const T inf = std::numeric_limits<T>::infinity();
  state empty;
  CHECK(empty.log_sum_exp() == -inf);
  state impossible;
  for (int i = 0; i < 5; ++i) impossible.add(-inf);
  CHECK(impossible.log_sum_exp() == -inf);
  impossible.merge(empty);
  CHECK(impossible.log_sum_exp() == -inf);
  impossible.add(T(3));  // a possible token after all
  CHECK(impossible.log_sum_exp() == 3);
  CHECK(impossible.entropy() == 0);
  CHECK(impossible.square_sum() == 1);
  state spoilt;
  spoilt.add(T(1));
  spoilt.add(std::numeric_limits<T>::quiet_NaN());
  spoilt.add(T(2));
  CHECK(std::isnan(spoilt.log_sum_exp()));
}

TEST_CASE("numbers come from arrays and go back; absent views read a fallback and take nothing") {
  const std::vector<rlhf::bfloat16> half = {rlhf::bfloat16(1.5f), rlhf::bfloat16(-2.0f), rlhf::bfloat16(0.25f)};
  const rlhf::view<const rlhf::bfloat16> every_second(half.data(), 2, 2);
  CHECK(rlhf::load<float>(every_second, 1) == 0.25f);
  CHECK(rlhf::load<double>(every_second, 0) == 1.5);
  CHECK(rlhf::load_or<double>(rlhf::view<const float>{}, 7, 42) == 42);
  CHECK(rlhf::load_or<double>(every_second, 1, 42) == 0.25);
  std::vector<rlhf::bfloat16> out(2);
  rlhf::store(rlhf::view<rlhf::bfloat16>(out), 1, 3.0f);
  CHECK(static_cast<float>(out[1]) == 3);
  rlhf::store(rlhf::view<float>{}, 3, 1.0f);
  const std::vector<std::uint8_t> mask = {0, 1, 255};
  CHECK_FALSE(rlhf::load_mask<float>(rlhf::view<const std::uint8_t>(mask), 0));
  CHECK(rlhf::load_mask<float>(rlhf::view<const std::uint8_t>(mask), 2));
  CHECK(rlhf::load_mask<float>(rlhf::mask_view<>{}, 9));
  CHECK(rlhf::unit_stride(rlhf::view<const float>{}));
  CHECK_FALSE(rlhf::unit_stride(every_second));
}
