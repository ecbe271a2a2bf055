// The model's kernels against plain loops, and the promise that a row's result does not depend on its neighbours.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "align/model/buffer.hpp"
#include "align/model/gemm.hpp"
#include "align/model/layers.hpp"
#include "rlhf/core/numeric.hpp"
#include "rlhf/math/random.hpp"
#include "support/catch.hpp"

namespace {

template <class Scalar>
std::vector<Scalar> normals(std::size_t n, std::uint32_t which) {
  const rlhf::random_numbers numbers{{.seed = 1}};
  std::vector<Scalar> out(n + 64 / sizeof(Scalar));  // a panel may be read past the end
  for (std::size_t i = 0; i < n; ++i)
    out[i] = static_cast<Scalar>(numbers.normal({.prompt = which, .position = static_cast<std::uint32_t>(i)}));
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("products equal plain loops for every shape", "", float, double) {
  const double tolerance = sizeof(TestType) == 4 ? 2e-5 : 1e-13;
  for (const std::ptrdiff_t rows : {1, 2, 5, 6, 7, 12, 13, 100})
    for (const std::ptrdiff_t depth : {1, 7, 32})
      for (const std::ptrdiff_t columns : {1, 3, 8, 15, 16, 17, 24, 29, 40}) {
        CAPTURE(rows, depth, columns);
        const auto a = normals<TestType>(static_cast<std::size_t>(rows * depth), 1);
        const auto b = normals<TestType>(static_cast<std::size_t>(depth * columns), 2);
        std::vector<TestType> c(static_cast<std::size_t>(rows * columns + 1), TestType{0.5});
        std::vector<TestType> in_place = c, transposed = c;
        align::packed_matrix<TestType> packed;
        packed.resize(depth, columns);
        packed.set(b.data(), depth, columns);
        align::multiply<true>(rows, a.data(), depth, packed, c.data(), columns);
        align::multiply(rows, depth, columns, a.data(), depth, b.data(), columns, in_place.data(), columns);

        // The same product as the transpose of a' [depth, rows].
        std::vector<TestType> flipped(a.size()), bt(b.size());
        for (std::ptrdiff_t i = 0; i < rows; ++i)
          for (std::ptrdiff_t k = 0; k < depth; ++k)
            flipped[static_cast<std::size_t>(k * rows + i)] = a[static_cast<std::size_t>(i * depth + k)];
        align::multiply_transposed(depth, rows, columns, flipped.data(), rows, b.data(), columns, transposed.data(),
                                   columns);

        double worst = 0;
        for (std::ptrdiff_t i = 0; i < rows; ++i)
          for (std::ptrdiff_t j = 0; j < columns; ++j) {
            double sum = 0;
            for (std::ptrdiff_t k = 0; k < depth; ++k)
              sum += static_cast<double>(a[static_cast<std::size_t>(i * depth + k)]) *
                     static_cast<double>(b[static_cast<std::size_t>(k * columns + j)]);
            const auto cell = static_cast<std::size_t>(i * columns + j);
            worst = std::max(worst, std::abs(static_cast<double>(c[cell]) - sum - 0.5));
            worst = std::max(worst, std::abs(static_cast<double>(in_place[cell]) - sum));
            worst = std::max(worst, std::abs(static_cast<double>(transposed[cell]) - sum - 0.5));
          }
        CHECK(worst < tolerance);
        CHECK(c.back() == TestType{0.5});  // nothing written behind the last row
        CHECK(in_place.back() == TestType{0.5});
        CHECK(transposed.back() == TestType{0.5});
      }
}

TEST_CASE("a transposed weight is packed where it is told") {
  const auto w = normals<float>(5 * 3, 3);  // [5, 3]
  align::packed_matrix<float> packed;
  packed.resize(4, 40);
  packed.set_transposed(w.data(), 5, 3, 1, 20);
  double other = 0;
  for (std::ptrdiff_t k = 0; k < 4; ++k)
    for (std::ptrdiff_t j = 0; j < 40; ++j) {
      const bool inside = k >= 1 && j >= 20 && j < 25;
      if (inside)
        CHECK(packed.at(k, j) == w[static_cast<std::size_t>((j - 20) * 3 + k - 1)]);
      else
        other += std::abs(static_cast<double>(packed.at(k, j)));
    }
  CHECK(other == 0);
}

TEST_CASE("a matrix is rounded to bfloat16 to nearest, ties to even") {
  constexpr float unit = 0x1p-7f;  // of the last of 8 digits behind 1
  struct rounding {
    float from, to;
  };
  const std::vector<rounding> cases{{0.0f, 0.0f},
                                    {1.0f, 1.0f},
                                    {1 + 0.5f * unit, 1.0f},
                                    {1 + 0.5f * unit + 0x1p-23f, 1 + unit},
                                    {1 + 1.5f * unit, 1 + 2 * unit},
                                    {1 + 1.5f * unit - 0x1p-23f, 1 + unit},
                                    {-1 - 0.5f * unit, -1.0f},
                                    {-1 - 1.5f * unit, -1 - 2 * unit},
                                    {2 - 0.5f * unit, 2.0f},
                                    {2 - 0.5f * unit - 0x1p-23f, 2 - unit},
                                    {0x1p-133f, 0x1p-133f},
                                    {0x1.8p-133f, 0x1p-132f},
                                    {3e38f, 0x1.c4p127f}};
  // In every lane of a panel, and packed either way.
  const auto n = static_cast<std::ptrdiff_t>(cases.size());
  for (const std::ptrdiff_t columns : {1, 7, 8, 16, 21}) {
    std::vector<float> w(static_cast<std::size_t>(n * columns)), flipped(w.size());
    for (std::ptrdiff_t i = 0; i < n; ++i)
      for (std::ptrdiff_t j = 0; j < columns; ++j)
        w[static_cast<std::size_t>(i * columns + j)] = flipped[static_cast<std::size_t>(j * n + i)] =
            cases[static_cast<std::size_t>((i + j) % n)].from;
    align::packed_matrix<float> packed, transposed;
    packed.resize(n, columns, true);
    packed.set(w.data(), n, columns);
    transposed.resize(n, columns, true);
    transposed.set_transposed(flipped.data(), columns, n);
    for (std::ptrdiff_t i = 0; i < n; ++i)
      for (std::ptrdiff_t j = 0; j < columns; ++j) {
        CHECK(packed.at(i, j) == cases[static_cast<std::size_t>((i + j) % n)].to);
        CHECK(transposed.at(i, j) == cases[static_cast<std::size_t>((i + j) % n)].to);
      }
    packed.resize(n, columns);
    packed.set(w.data(), n, columns);
    CHECK(packed.at(2, 0) == cases[2].from);  // and not any longer
  }
}

TEMPLATE_TEST_CASE("products with a matrix in bfloat16 have the bits of those with its rounded elements", "", float,
                   double) {
  for (const std::ptrdiff_t rows : {1, 2, 5, 6, 7, 12, 13, 100})
    for (const std::ptrdiff_t depth : {1, 2, 7, 32})
      for (const std::ptrdiff_t columns : {1, 3, 4, 5, 8, 9, 15, 16, 17, 24, 29, 40}) {
        CAPTURE(rows, depth, columns);
        const auto a = normals<TestType>(static_cast<std::size_t>(rows * depth), 1);
        const auto b = normals<TestType>(static_cast<std::size_t>(depth * columns), 2);
        align::packed_matrix<TestType> exact, rounded;
        exact.resize(depth, columns);
        rounded.resize(depth, columns, true);
        rounded.set(b.data(), depth, columns);
        bool any = false;
        std::vector<TestType> before(b);
        for (std::ptrdiff_t i = 0; i < depth; ++i)
          for (std::ptrdiff_t j = 0; j < columns; ++j) {
            TestType& x = before[static_cast<std::size_t>(i * columns + j)];
            const auto to = static_cast<TestType>(static_cast<float>(rlhf::bfloat16(static_cast<float>(x))));
            any = any || to != x;
            x = to;
          }
        CHECK(any);
        exact.set(before.data(), depth, columns);
        std::vector<TestType> c(static_cast<std::size_t>(rows * columns + 1), TestType{0.5}), d = c;
        align::multiply(rows, a.data(), depth, exact, c.data(), columns);
        align::multiply(rows, a.data(), depth, rounded, d.data(), columns);
        REQUIRE(c == d);
        align::multiply<true>(rows, a.data(), depth, exact, c.data(), columns);
        align::multiply<true>(rows, a.data(), depth, rounded, d.data(), columns);
        REQUIRE(c == d);
        CHECK(c.back() == TestType{0.5});
        CHECK(rounded.rounded.size() == exact.panels.size());
      }
}

TEST_CASE("a row of a product has the same bits in any batch") {
  const std::ptrdiff_t depth = 37, columns = 29;
  const auto a = normals<float>(static_cast<std::size_t>(23 * depth), 4);
  const auto b = normals<float>(static_cast<std::size_t>(depth * columns), 5);
  align::packed_matrix<float> packed;
  packed.resize(depth, columns);
  packed.set(b.data(), depth, columns);
  std::vector<float> all(23 * 29), one(29);
  align::multiply(23, a.data(), depth, packed, all.data(), columns);
  for (std::ptrdiff_t i = 0; i < 23; ++i) {
    align::multiply(1, a.data() + i * depth, depth, packed, one.data(), columns);
    CHECK(std::equal(one.begin(), one.end(), all.begin() + i * columns));
  }
}

TEMPLATE_TEST_CASE("exp is accurate, keeps NaN and does not overflow", "", float, double) {
  using align::lanes;
  using align::pack;
  const double unit = sizeof(TestType) == 4 ? 0x1p-23 : 0x1p-52, range = sizeof(TestType) == 4 ? 87 : 708;
  TestType out[64 / sizeof(TestType)];
  double worst = 0;
  for (double x = -range; x < range; x += range / 20011) {
    const auto rounded = static_cast<TestType>(x);
    const pack<TestType> input = pack<TestType>{} + rounded;
    align::store<TestType>(out, align::exp<TestType>(input));
    const auto exact = static_cast<double>(std::exp(static_cast<long double>(rounded)));
    worst = std::max(worst, std::abs(static_cast<double>(out[0]) / exact - 1));
  }
  CHECK(worst < 2 * unit);
  align::store<TestType>(out, align::exp<TestType>(pack<TestType>{} + std::numeric_limits<TestType>::quiet_NaN()));
  CHECK(std::isnan(out[0]));
  align::store<TestType>(out, align::exp<TestType>(pack<TestType>{} + std::numeric_limits<TestType>::infinity()));
  CHECK((out[0] > 1e38 && std::isfinite(out[0])));
  align::store<TestType>(out, align::exp<TestType>(pack<TestType>{} - std::numeric_limits<TestType>::infinity()));
  CHECK((out[0] > 0 && out[0] < 1e-37));
}

TEST_CASE("softmax gives the same bits with any padding behind, and zeros there") {
  for (const std::ptrdiff_t count : {1, 3, 8, 16, 21}) {
    const auto scores = normals<double>(64, 6);
    std::vector<double> narrow = scores, wide = scores;
    narrow[static_cast<std::size_t>(count)] = 1e300;  // what lies behind the end does not matter
    const auto state = align::softmax<double>(count, align::padded<double>(count), 0.7, narrow.data());
    align::softmax<double>(count, 64, 0.7, wide.data());
    std::vector<double> again = scores;
    align::softmax_again<double>(count, 64, 0.7, state, again.data());
    double sum = 0, denominator = 0;
    for (std::ptrdiff_t i = 0; i < count; ++i) denominator += std::exp(0.7 * scores[static_cast<std::size_t>(i)]);
    for (std::size_t i = 0; i < 64; ++i) {
      if (i < static_cast<std::size_t>(count)) {
        CHECK(narrow[i] == wide[i]);
        CHECK(wide[i] == Approx(std::exp(0.7 * scores[i]) / denominator).epsilon(1e-14));
      } else {
        CHECK(wide[i] == 0);
      }
      CHECK(again[i] == Approx(wide[i]).epsilon(1e-14));
      sum += wide[i];
    }
    CHECK(sum == Approx(1).epsilon(1e-14));
  }
}

TEST_CASE("a buffer is aligned, grows, and hands out pieces that do not overlap") {
  align::buffer<float> memory;
  memory.reserve(100);
  CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0);
  CHECK(memory.data()[99] == 0);
  float* const before = memory.data();
  memory.reserve(50);
  CHECK(memory.data() == before);
  memory.reserve(1000);
  align::arena<float> pieces(memory.data());
  float* const first = pieces.take(17);
  float* const second = pieces.take(1);
  CHECK(second - first == 32);
}
