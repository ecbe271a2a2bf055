// The bodies of the CUDA kernels on the shapes that break them: rows that lie anywhere against 16 bytes, in every storage, wide
// ones and single columns, the largest of a row with equals, ragged sequences around every cut; against plain loops.

#include "rlhf/backend/emulated.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/grouped.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/driver/top_k.hpp"
#include "support/catch.hpp"

namespace {

using std::int64_t;
using std::size_t;

std::mt19937& engine() {
  static std::mt19937 e(20250117);
  return e;
}
double uniform(double low, double high) { return low + (high - low) * static_cast<double>(engine()()) / 4294967296.0; }

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Rows of logits `shift` elements behind an aligned address.
template <class L>
struct table {
  using C = rlhf::compute_t<L>;
  int64_t rows, columns, vocabulary, shift;
  std::vector<L> memory;
  std::vector<std::int32_t> target;
  table(int64_t rows_, int64_t columns_, int64_t vocabulary_, int64_t shift_)
      : rows(rows_), columns(columns_), vocabulary(vocabulary_), shift(shift_) {
    memory.resize(static_cast<size_t>(rows * columns + shift + 8));
    for (auto& z : memory) z = L(static_cast<C>(uniform(-9, 9)));
    for (int64_t r = 0; r < rows; ++r) {
      L* const row = data() + r * columns;
      for (int64_t j = vocabulary; j < columns; ++j)
        row[j] = L(std::numeric_limits<C>::quiet_NaN());  // padding is not read
      const int64_t y = static_cast<int64_t>(engine()() % static_cast<unsigned>(vocabulary));
      if (r % 3 == 1)
        for (int64_t j = 0; j < vocabulary; j += 3) row[j] = L(-std::numeric_limits<C>::infinity());
      if (r % 4 == 2)
        for (int64_t j = 0; j < vocabulary; ++j) row[j] = L(static_cast<C>(2 + (j / 5) % 3));  // full of equals
      row[y] = L(static_cast<C>(1.5));
      target.push_back(r % 7 == 6 ? -100 : static_cast<std::int32_t>(y));
    }
    if (rows > 4)
      for (int64_t j = 0; j < vocabulary; ++j) data()[4 * columns + j] = L(-std::numeric_limits<C>::infinity());
  }
  // The memory of a vector is aligned to 16 bytes.
  L* data() { return memory.data() + shift; }
};

/// All that token_logp and its backward pass give, one list after the other.
template <class L, class B>
std::vector<double> everything(B& be, table<L> x, int64_t k) {
  using C = rlhf::compute_t<L>;
  const auto n = static_cast<size_t>(x.rows);
  std::vector<C> logp(n, 77), entropy(n, 77), lse(n, 77), squares(n, 77), top(n * static_cast<size_t>(k), 77),
      ones(n, C(0.5));
  std::vector<int64_t> argmax(n, -7), token(n * static_cast<size_t>(k), -7);
  rlhf::statistics stats;
  const rlhf::logits_inputs<L> in{{x.data(), x.rows, x.columns}, x.target, x.vocabulary, 0.8};
  rlhf::logp_outputs<C> out{logp, entropy, lse, squares, argmax, &stats};
  if (k > 0) {
    out.top_logp = {top.data(), x.rows, k};
    out.top_token = {token.data(), x.rows, k};
  }
  REQUIRE(rlhf::token_logp(be, in, out));
  // In place, over the logits.
  REQUIRE(rlhf::token_logp_backward(be, in, rlhf::logp_gradients<C>{lse, ones, entropy, ones},
                                    {x.data(), x.rows, x.columns}));
  std::vector<double> all;
  const auto put = [&](const auto& v) {
    for (const auto e : v) all.push_back(static_cast<double>(e));
  };
  put(logp), put(entropy), put(lse), put(squares), put(argmax), put(top), put(token);
  for (const L& g : x.memory) all.push_back(static_cast<double>(static_cast<C>(g)));
  for (int i = 0; i < stats.size; ++i) all.push_back(stats[stats.entries[i].name]);
  return all;
}

/// Where two lists differ by more than `tolerance`; non-finite values must be the same.
std::string difference(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  if (got.size() != want.size()) return "sizes differ";
  for (size_t i = 0; i < got.size(); ++i) {
    const bool same = std::isnan(want[i])   ? std::isnan(got[i])
                      : std::isinf(want[i]) ? got[i] == want[i]
                                            : std::abs(got[i] - want[i]) <= tolerance * (1 + std::abs(want[i]));
    if (!same)
      return "element " + std::to_string(i) + " of " + std::to_string(got.size()) + ": " + std::to_string(got[i]) +
             ", wants " + std::to_string(want[i]);
  }
  return "";
}

template <class L>
constexpr double table_tolerance = 2e-6;
template <>
constexpr double table_tolerance<double> = 1e-13;
template <>
constexpr double table_tolerance<rlhf::bfloat16> = 4.1e-3;  // a gradient may be rounded to the other neighbour
template <>
constexpr double table_tolerance<rlhf::float16> = 5.1e-4;

template <class L>
void check_table(int64_t rows, int64_t columns, int64_t vocabulary, int64_t shift, int64_t k) {
  CAPTURE(rows, columns, vocabulary, shift, k);
  const table<L> x(rows, columns, vocabulary, shift);
  rlhf::reference_backend plain;
  rlhf::emulated_backend kernels;
  CHECK(difference(everything(kernels, x, k), everything(plain, x, k), table_tolerance<L>) == "");
}

}  // namespace

TEMPLATE_TEST_CASE("rows anywhere in memory, in every storage", "", float, double, rlhf::bfloat16, rlhf::float16) {
  for (const int64_t shift : {0, 1, 3, 5, 7}) {
    check_table<TestType>(9, 50, 47, shift, 3);      // a warp a row, every row lies differently
    check_table<TestType>(9, 64, 64, shift, 0);      // and all alike
    check_table<TestType>(7, 2309, 2305, shift, 2);  // a block a row
  }
  check_table<TestType>(8, 1, 1, 0, 1);  // a single column
  check_table<TestType>(8, 3, 2, 1, 2);
  check_table<TestType>(6, 16, 9, 1, 9);  // all of them
}

TEMPLATE_TEST_CASE("rows of a hundred thousand columns", "", float, rlhf::bfloat16) {
  check_table<TestType>(5, 100003, 100001, 1, 20);
}

TEMPLATE_TEST_CASE("the k most likely, with the mass of the others", "", float, rlhf::bfloat16) {
  using L = TestType;
  for (const int64_t vocabulary : {5, 300, 5000}) {
    const int64_t k = 5;
    CAPTURE(vocabulary);
    table<L> x(8, vocabulary + 3, vocabulary, 1);
    for (int64_t j = 0; j < vocabulary; ++j) x.data()[4 * x.columns + j] = L(0.0f);
    const auto run = [&](auto& be) {
      std::vector<float> logp(static_cast<size_t>(8 * k)), tail(8), entropy(8);
      std::vector<std::int32_t> token(logp.size());
      REQUIRE(rlhf::top_k(be, rlhf::top_k_inputs<L>{{x.data(), 8, x.columns}, {}, vocabulary, 1},
                          rlhf::top_k_outputs<float>{{logp.data(), 8, k}, {token.data(), 8, k}, tail, entropy}));
      std::vector<double> all(logp.begin(), logp.end());
      all.insert(all.end(), tail.begin(), tail.end());
      all.insert(all.end(), entropy.begin(), entropy.end());
      all.insert(all.end(), token.begin(), token.end());
      return all;
    };
    rlhf::reference_backend plain;
    rlhf::emulated_backend kernels;
    CHECK(difference(run(kernels), run(plain), 3e-6) == "");
  }
}

TEST_CASE("gradients that lie differently from their logits are written one by one") {
  const table<float> x(6, 51, 50, 0);
  const auto run = [&](auto& be) {
    table<float> copy = x;
    const auto n = static_cast<size_t>(x.rows);
    std::vector<float> lse(n), ones(n, 1), out(static_cast<size_t>(6 * 53 + 8), 77);
    const rlhf::logits_inputs<float> in{{copy.data(), 6, 51}, copy.target, 50};
    REQUIRE(rlhf::token_logp(be, in, rlhf::logp_outputs<float>{{}, {}, lse}));
    REQUIRE(rlhf::token_logp_backward(be, in, rlhf::logp_gradients<float>{lse, ones}, {out.data() + 1, 6, 53}));
    return std::vector<double>(out.begin(), out.end());
  };
  rlhf::reference_backend plain;
  rlhf::emulated_backend kernels;
  CHECK(difference(run(kernels), run(plain), 2e-6) == "");
}

namespace {

/// GAE with every rule for gaps over sequences of these lengths, written over the rewards.
template <class T>
void check_scans(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets{0};
  for (const int64_t n : lengths) offsets.push_back(offsets.back() + n);
  const auto tokens = static_cast<size_t>(offsets.back());
  std::vector<T> reward(tokens), value(tokens), bootstrap(lengths.size());
  std::vector<std::uint8_t> mask(tokens);
  for (auto& x : reward) x = static_cast<T>(uniform(-1, 1));
  for (auto& x : value) x = static_cast<T>(uniform(-1, 1));
  for (auto& x : bootstrap) x = static_cast<T>(uniform(-1, 1));
  for (auto& m : mask) m = engine()() % 4 == 0 ? 0 : 1;
  const auto run = [&](auto& be, rlhf::gap gaps, bool masked) {
    std::vector<T> advantage = reward, returns(tokens, T(77));
    REQUIRE(rlhf::advantage_estimate{rlhf::gae{.gamma = 0.99, .lambda = 0.95, .gaps = gaps}}(
        be, rlhf::packed(offsets),
        rlhf::advantage_inputs<T>{advantage, value, {masked ? mask.data() : nullptr, tokens}, bootstrap},
        rlhf::advantage_outputs<T>{advantage, returns}));
    std::vector<double> all(advantage.begin(), advantage.end());
    all.insert(all.end(), returns.begin(), returns.end());
    return all;
  };
  rlhf::reference_backend plain;
  rlhf::emulated_backend kernels;
  for (const auto gaps : {rlhf::gap::carry, rlhf::gap::zero, rlhf::gap::plain, rlhf::gap::raw_next})
    for (const bool masked : {false, true}) {
      CAPTURE(lengths.size(), lengths[0], static_cast<int>(gaps), masked);
      CHECK(difference(run(kernels, gaps, masked), run(plain, gaps, masked), std::is_same_v<T, float> ? 1e-5 : 1e-13) ==
            "");
    }
}

}  // namespace

TEMPLATE_TEST_CASE("scans of few long and of many short ragged sequences", "", float, double) {
  check_scans<TestType>({0, 1, 2, 3, 4, 5, 0, 7, 127, 128, 129, 0});  // a warp each
  check_scans<TestType>({1023, 1024, 1025, 2047, 0, 1, 2049, 3000});  // a block each
  check_scans<TestType>({40001, 0, 3, 17000});                        // in chunks
  check_scans<TestType>({100003});                                    // one, in many
  std::vector<int64_t> many;
  for (int i = 0; i < 500; ++i) many.push_back(static_cast<int64_t>(engine()() % 70));
  check_scans<TestType>(many);
}

TEST_CASE("what a cut map does not pass on: a NaN that only a gap reads goes no further") {
  // raw_next reads the value of the next slot as it is. Slot 200, the first of a thread's share, is read by slot 199 alone, a gap.
  std::vector<float> reward(300, 0.5f), value(300, 0.25f), advantage(300), returns(300);
  std::vector<std::uint8_t> mask(300, 1);
  value[200] = std::numeric_limits<float>::quiet_NaN();
  mask[199] = mask[200] = 0;
  const auto run = [&](auto& be) {
    REQUIRE(rlhf::advantage_estimate{rlhf::gae{.gaps = rlhf::gap::raw_next}}(
        be, rlhf::padded(1, 300), rlhf::advantage_inputs<float>{reward, value, mask},
        rlhf::advantage_outputs<float>{advantage, returns}));
    return std::vector<double>(advantage.begin(), advantage.end());
  };
  rlhf::reference_backend plain;
  rlhf::emulated_backend kernels;
  const auto want = run(plain);
  REQUIRE(std::isfinite(want[0]));
  CHECK(difference(run(kernels), want, 1e-5) == "");
}

TEST_CASE("sums of groups of every size") {
  for (const int64_t size : {1, 8, 64, 65, 257, 5000}) {
    CAPTURE(size);
    const int64_t groups = size > 1000 ? 3 : 2100;
    std::vector<float> reward(static_cast<size_t>(groups * size));
    for (auto& x : reward) x = static_cast<float>(uniform(-1, 1));
    const auto run = [&](auto& be) {
      std::vector<float> out(reward.size());
      rlhf::group_inputs<float> in;
      in.groups = {rlhf::padded(groups, size)};
      in.reward = reward;
      REQUIRE(rlhf::grouped{rlhf::group_advantage{}}(be, in, out));
      return std::vector<double>(out.begin(), out.end());
    };
    rlhf::reference_backend plain;
    rlhf::emulated_backend kernels;
    CHECK(difference(run(kernels), run(plain), 1e-5) == "");
  }
}
