// Matrix products on lanes against plain loops, and the fused linear layer with them.

#include <cstring>
#include <random>
#include <vector>

#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/eigen/product.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/fused_linear.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/preference.hpp"
#include "support/catch.hpp"

namespace {

using rlhf::view;
using std::int64_t;
using std::size_t;

template <class L>
std::vector<L> random_values(std::mt19937& random, int64_t n) {
  std::vector<L> x(static_cast<size_t>(n));
  for (L& v : x) v = L(static_cast<rlhf::compute_t<L>>(random()) / rlhf::compute_t<L>(2147483648.0) - 1);
  return x;
}
template <class L>
double wide(L x) {
  return static_cast<double>(static_cast<rlhf::compute_t<L>>(x));
}

struct shape {
  int64_t m, k, n;
};
// Around the tiles' 192 x 128 x 128 (96 rows for double), the register blocks in them, and the squares that are turned.
const std::vector<shape> shapes = {{0, 3, 5},     {1, 1, 1},     {1, 0, 5},     {5, 7, 9},
                                   {12, 128, 32}, {13, 129, 33}, {96, 40, 128}, {97, 130, 131},
                                   {100, 257, 5}, {3, 300, 260}, {193, 17, 129}};

template <class L, class C>
void compare(double tolerance) {
  std::mt19937 random(5);
  rlhf::reference_backend plain;
  rlhf::eigen_backend one(1), three(3, std::chrono::nanoseconds(0));
  for (const shape& s : shapes)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const bool add : {false, true}) {
          CAPTURE(s.m, s.k, s.n, ta, tb, add);
          const auto a = random_values<L>(random, s.m * s.k + 1), b = random_values<L>(random, s.k * s.n + 1);
          const auto start = random_values<C>(random, s.m * (s.n + 2));
          auto want = start, got = start, threaded = start;
          const rlhf::factor<L> x{ta ? view<const L, 2>(a.data(), s.k, s.m) : view<const L, 2>(a.data(), s.m, s.k), ta};
          const rlhf::factor<L> y{tb ? view<const L, 2>(b.data(), s.n, s.k) : view<const L, 2>(b.data(), s.k, s.n), tb};
          const auto to = [&](std::vector<C>& c) { return view<C, 2>(c.data(), s.m, s.n, s.n + 2); };
          REQUIRE(rlhf::plain_product{}(plain, x, y, to(want), add));
          REQUIRE(rlhf::eigen_product{}(one, x, y, to(got), add));
          REQUIRE(rlhf::eigen_product{}(three, x, y, to(threaded), add));
          for (size_t i = 0; i < want.size(); ++i) {
            const bool beside = static_cast<int64_t>(i) % (s.n + 2) >= s.n;
            CHECK(std::abs(wide(got[i]) - wide(want[i])) <= (beside ? 0 : tolerance * (1 + std::abs(wide(want[i])))));
            CHECK(std::memcmp(&got[i], &threaded[i], sizeof(C)) == 0);
          }
          // The definition itself.
          if (got.empty()) continue;
          double first = add ? wide(start[0]) : 0;
          for (int64_t k = 0; k < s.k; ++k) first += wide(*x.at(0, k)) * wide(*y.at(k, 0));
          CHECK(std::abs(wide(got[0]) - first) <= tolerance * (1 + std::abs(first)));
        }
}

}  // namespace

TEST_CASE("products on lanes are those of plain loops, for any number of threads bit by bit") {
  SECTION("float") { compare<float, float>(2e-5); }
  SECTION("double") { compare<double, double>(1e-13); }
  SECTION("bfloat16") { compare<rlhf::bfloat16, rlhf::bfloat16>(1.6e-2); }
  SECTION("bfloat16 to float") { compare<rlhf::bfloat16, float>(2e-5); }
  SECTION("float16 to float") { compare<rlhf::float16, float>(2e-5); }
}

TEST_CASE("a row's bits do not depend on the rows beside it") {
  std::mt19937 random(6);
  constexpr int64_t m = 150, k = 140, n = 50;
  const auto a = random_values<float>(random, m * k), b = random_values<float>(random, k * n);
  std::vector<float> whole(m * n), part(n);
  rlhf::eigen_backend be;
  const rlhf::factor<float> y{{b.data(), k, n}};
  REQUIRE(rlhf::eigen_product{}(be, {{a.data(), m, k}}, y, view<float, 2>(whole.data(), m, n), false));
  for (const int64_t row : {0, 1, 95, 96, 149}) {
    REQUIRE(rlhf::eigen_product{}(be, {{a.data() + row * k, 1, k}}, y, view<float, 2>(part.data(), 1, n), false));
    CHECK(std::memcmp(part.data(), whole.data() + row * n, n * sizeof(float)) == 0);
  }
}

TEST_CASE("the fused linear layer on lanes is that on plain loops") {
  std::mt19937 random(7);
  constexpr int64_t tokens = 24, depth = 20, columns = 70;
  const auto hidden = random_values<float>(random, tokens * depth),
             weight = random_values<float>(random, depth * columns);
  const auto ref = random_values<float>(random, tokens);
  std::vector<std::int32_t> target(tokens);
  for (auto& t : target) t = static_cast<std::int32_t>(random() % columns);
  rlhf::linear_inputs<float> in;
  in.head = {{hidden.data(), tokens, depth}, {weight.data(), columns, depth}, true, {}};
  in.target = target;
  struct gradients {
    std::vector<float> hidden = std::vector<float>(tokens * depth), weight = std::vector<float>(depth * columns);
    float loss = 0;
    [[nodiscard]] rlhf::linear_outputs<float> outputs() {
      rlhf::linear_outputs<float> out;
      out.grad_hidden = {hidden.data(), tokens, depth};
      out.grad_weight = {weight.data(), columns, depth};
      return out;
    }
  };
  const auto check = [&](auto&& step) {
    rlhf::reference_backend plain;
    rlhf::eigen_backend lanes(2);
    gradients want, got;
    REQUIRE(step(plain, rlhf::fused_linear<>{.chunk = 7}, want));
    REQUIRE(step(lanes, rlhf::fused_linear<rlhf::eigen_product>{.chunk = 10}, got));
    CHECK(got.loss == Approx(want.loss).epsilon(1e-5));
    for (size_t i = 0; i < want.hidden.size(); ++i)
      CHECK(got.hidden[i] == Approx(want.hidden[i]).epsilon(1e-4).margin(1e-6));
    for (size_t i = 0; i < want.weight.size(); ++i)
      CHECK(got.weight[i] == Approx(want.weight[i]).epsilon(1e-4).margin(1e-6));
  };
  check([&](auto& be, const auto& fused, gradients& g) {
    rlhf::token_pair_inputs<float> pairs;
    pairs.chosen = {rlhf::padded(3, 4), {}, {ref.data(), 12}, {}};
    pairs.rejected = {rlhf::padded(3, 4), {}, {ref.data() + 12, 12}, {}};
    return fused(
        be, in,
        rlhf::over_pairs{rlhf::preference_loss{rlhf::dpo_sigmoid{}}, pairs, rlhf::pair_outputs<float>{{&g.loss, 1}}},
        g.outputs());
  });
  check([&](auto& be, const auto& fused, gradients& g) {
    rlhf::token_inputs<float> streams;
    streams.old_logp = streams.ref_logp = streams.advantage = ref;
    return fused(be, in,
                 rlhf::over_tokens{rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.1}},
                                   rlhf::padded(6, 4), streams, rlhf::token_outputs<float>{{&g.loss, 1}}},
                 g.outputs());
  });
  check([&](auto& be, const auto& fused, gradients& g) {
    const auto teacher = in.head;
    auto other = in;
    other.temperature = 2;
    return fused(be, other,
                 rlhf::over_rows{rlhf::jensen_shannon_rows{0.5},
                                 rlhf::linear_head<float>{teacher.hidden, {weight.data(), depth, columns}},
                                 rlhf::padded(6, 4), rlhf::token_mean{}, view<float>(&g.loss, 1)},
                 g.outputs());
  });
}

TEST_CASE(
    "log-probabilities and hidden gradients have the same bits for any chunk, and all has for any number of threads") {
  std::mt19937 random(8);
  constexpr int64_t tokens = 300, depth = 150, columns = 290;
  const auto hidden = random_values<float>(random, tokens * depth),
             weight = random_values<float>(random, depth * columns);
  std::vector<std::int32_t> target(tokens);
  for (auto& t : target) t = static_cast<std::int32_t>(random() % columns);
  struct outcome {
    std::vector<float> logp = std::vector<float>(tokens), hidden = std::vector<float>(tokens * depth),
                       weight = std::vector<float>(depth * columns);
    float loss = 0;
  };
  const auto step = [&](int64_t chunk, int threads, bool transposed) {
    outcome o;
    rlhf::linear_inputs<float> in;
    const auto matrix = [&](auto* data) {
      using element = std::remove_pointer_t<decltype(data)>;
      return transposed ? view<element, 2>(data, columns, depth) : view<element, 2>(data, depth, columns);
    };
    in.head = {{hidden.data(), tokens, depth}, matrix(weight.data()), transposed, {}};
    in.target = target;
    rlhf::linear_outputs<float> out;
    out.grad_hidden = {o.hidden.data(), tokens, depth};
    out.grad_weight = matrix(o.weight.data());
    out.logp = o.logp;
    rlhf::eigen_backend be(threads, std::chrono::nanoseconds(0));
    REQUIRE(rlhf::fused_linear<rlhf::eigen_product>{.chunk = chunk}(
        be, in,
        rlhf::over_tokens{rlhf::policy_loss{rlhf::negative_log_likelihood{}}, rlhf::padded(6, tokens / 6),
                          rlhf::token_inputs<float>{}, rlhf::token_outputs<float>{{&o.loss, 1}}},
        out));
    return o;
  };
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  };
  for (const bool transposed : {false, true}) {
    const outcome whole = step(1024, 1, transposed);
    for (const int64_t chunk : {7, 64, 200, 1024}) {
      const outcome want = step(chunk, 1, transposed);
      CHECK(same(want.logp, whole.logp));
      CHECK(same(want.hidden, whole.hidden));
      for (const int threads : {2, 5}) {
        CAPTURE(transposed, chunk, threads);
        const outcome got = step(chunk, threads, transposed);
        CHECK(same(got.logp, want.logp));
        CHECK(same(got.hidden, want.hidden));
        CHECK(same(got.weight, want.weight));
        CHECK(std::memcmp(&got.loss, &want.loss, sizeof(float)) == 0);
      }
    }
  }
}
