// The counter-based generator: known answers, moments, and what its users rely on.

#include "rlhf/math/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "support/catch.hpp"

using rlhf::philox4x32;
using rlhf::philox_block;
using rlhf::philox_key;
using rlhf::random_index;
using rlhf::random_numbers;

namespace {

bool equal(const philox_block& a, const philox_block& b) { return std::equal(a.word, a.word + 4, b.word); }

}  // namespace

TEST_CASE("philox4x32 gives the published known answers") {
  CHECK(equal(philox4x32({}, {}), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(equal(philox4x32({{ones, ones, ones, ones}}, {{ones, ones}}),
              {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  CHECK(equal(philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}}),
              {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
  static_assert(philox4x32({}, {}).word[0] == 0x6627e8d5, "usable in constant expressions");
}

TEST_CASE("bits become numbers at the edges of their range") {
  constexpr std::uint64_t ones = std::numeric_limits<std::uint64_t>::max();
  CHECK(rlhf::unit_interval(std::uint64_t{0}) == 0.0);
  CHECK(rlhf::unit_interval(ones) == 1 - 0x1p-53);
  CHECK(rlhf::unit_interval(std::uint32_t{0}) == 0.0f);
  CHECK(rlhf::unit_interval(std::uint32_t{0xffffffff}) == 1 - 0x1p-24f);
  CHECK(rlhf::integer_below(0, 7) == 0);
  CHECK(rlhf::integer_below(ones, 7) == 6);
  CHECK(rlhf::integer_below(ones, 1) == 0);
  CHECK(rlhf::integer_below(ones, 0xffffffff) == 0xfffffffe);
  CHECK(rlhf::integer_below(std::uint64_t{1} << 63, 10) == 5);
  CHECK(rlhf::integer_below((std::uint64_t{1} << 63) - 1, 10) == 4);
}

TEST_CASE("a number depends on every field of its key and index, and on nothing else") {
  const random_numbers numbers{{.seed = 5, .stream = 9}};
  CHECK(numbers.bits({.prompt = 1, .sample = 2, .position = 3, .draw = 4}) ==
        random_numbers{{.seed = 5, .stream = 9}}.bits({.prompt = 1, .sample = 2, .position = 3, .draw = 4}));
  std::set<std::uint64_t> seen;
  for (const random_index at : {random_index{}, random_index{.prompt = 1}, random_index{.sample = 1},
                                random_index{.position = 1}, random_index{.draw = 1}}) {
    seen.insert(numbers.bits(at));
    seen.insert(random_numbers{{.seed = 6, .stream = 9}}.bits(at));
    seen.insert(random_numbers{{.seed = 5, .stream = 10}}.bits(at));
    seen.insert(random_numbers{{.seed = 9, .stream = 5}}.bits(at));
    seen.insert(random_numbers{{.seed = std::uint64_t{5} << 32, .stream = 9}}.bits(at));
    seen.insert(random_numbers{{.seed = 5, .stream = std::uint64_t{9} << 32}}.bits(at));
  }
  CHECK(seen.size() == 30);
}

TEST_CASE("uniform numbers have the moments of the uniform law") {
  const random_numbers numbers{{.seed = 1}};
  constexpr std::uint32_t n = 100000;
  double sum = 0, square = 0, lag = 0, before = 0.5;
  std::vector<int> bin(64);
  for (std::uint32_t i = 0; i < n; ++i) {
    const double u = numbers.uniform({.position = i});
    REQUIRE((u >= 0 && u < 1));
    sum += u, square += u * u, lag += (u - 0.5) * (before - 0.5), before = u;
    ++bin[static_cast<std::size_t>(64 * u)];
  }
  CHECK(std::abs(sum / n - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(square / n - 1.0 / 3) < 4 * std::sqrt(4.0 / 45 / n));
  CHECK(std::abs(lag / n) < 4 / 12.0 / std::sqrt(n));
  double chi_square = 0;
  for (const int count : bin) chi_square += std::pow(count - n / 64.0, 2) / (n / 64.0);
  CHECK(chi_square < 63 + 4 * std::sqrt(2 * 63.0));
}

TEST_CASE("normal numbers have the moments of the normal law") {
  const random_numbers numbers{{.seed = 2}};
  constexpr std::uint32_t n = 100000;
  double moment[5] = {}, beyond = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const double x = numbers.normal({.prompt = i});
    for (int k = 1; k <= 4; ++k) moment[k] += std::pow(x, k) / n;
    beyond += std::abs(x) > 1.959964 ? 1.0 / n : 0;
  }
  const double deviation = 4 / std::sqrt(n);
  CHECK(std::abs(moment[1]) < deviation);
  CHECK(std::abs(moment[2] - 1) < deviation * std::sqrt(2.0));
  CHECK(std::abs(moment[3]) < deviation * std::sqrt(15.0));
  CHECK(std::abs(moment[4] - 3) < deviation * std::sqrt(96.0));
  CHECK(std::abs(beyond - 0.05) < deviation * std::sqrt(0.05 * 0.95));
}

TEST_CASE("integers below n are uniform") {
  const random_numbers numbers{{.seed = 3}};
  constexpr std::uint32_t n = 70000;
  std::vector<int> count(7);
  for (std::uint32_t i = 0; i < n; ++i) ++count[numbers.integer(7, {.draw = i})];
  for (const int c : count) CHECK(std::abs(c - n / 7.0) < 4 * std::sqrt(n / 7.0 * 6 / 7));
}

TEST_CASE("a permutation holds every element once and is the same at every call") {
  const random_numbers numbers{{.seed = 4}};
  std::vector<std::int64_t> order(1000), again(1000), other(1000);
  rlhf::permutation(order, numbers);
  rlhf::permutation(again, numbers);
  rlhf::permutation(other, numbers, {.prompt = 1});
  CHECK(order == again);
  CHECK(order != other);
  CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
  std::vector<std::int64_t> sorted = order, identity(1000);
  std::iota(identity.begin(), identity.end(), std::int64_t{0});
  std::sort(sorted.begin(), sorted.end());
  CHECK(sorted == identity);

  std::vector<int> none, one{42};
  rlhf::shuffle(none, numbers);
  rlhf::shuffle(one, numbers);
  CHECK(one == std::vector<int>{42});
}

TEST_CASE("all orders of four elements are equally likely") {
  const random_numbers numbers{{.seed = 5}};
  constexpr std::uint32_t n = 24000;
  std::vector<int> count(4 * 4 * 4 * 4);
  for (std::uint32_t i = 0; i < n; ++i) {
    std::vector<int> order(4);
    rlhf::permutation(order, numbers, {.sample = i});
    ++count[static_cast<std::size_t>(((order[0] * 4 + order[1]) * 4 + order[2]) * 4 + order[3])];
  }
  double chi_square = 0;
  int kinds = 0;
  for (const int c : count)
    if (c > 0) ++kinds, chi_square += std::pow(c - 1000.0, 2) / 1000;
  CHECK(kinds == 24);
  CHECK(chi_square < 23 + 4 * std::sqrt(2 * 23.0));
}
