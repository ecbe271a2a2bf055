// Distillation drivers on the Eigen backend against plain loops: rows long enough for lanes and tails, sequences for several
// threads.

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/cosine_distance.hpp"
#include "rlhf/driver/full_total_variation.hpp"
#include "rlhf/driver/prefix_weights.hpp"
#include "rlhf/driver/top_k_divergence.hpp"
#include "support/catch.hpp"

namespace {

constexpr std::int64_t rows = 23, columns = 530, vocabulary = 517, k = 20;
constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

std::vector<float> values(unsigned seed, std::size_t n, double low, double high) {
  std::mt19937 random(seed);
  std::vector<float> x(n);
  for (auto& v : x) v = static_cast<float>(low + (high - low) * static_cast<double>(random()) / 4294967296.0);
  return x;
}

struct outcome {
  std::vector<std::int32_t> token;
  std::vector<std::vector<float>> of;
};

template <class B>
outcome run(B& be) {
  constexpr auto all = static_cast<std::size_t>(rows * columns), some = static_cast<std::size_t>(rows);
  auto student = values(1, all, -6, 6), teacher = values(2, all, -6, 6);
  for (std::size_t i = 0; i < all; i += 13) student[i] = -infinity;
  for (std::size_t i = 0; i < all; i += 7) teacher[i] = std::round(teacher[i]);  // ties
  for (std::size_t i = 0; i < all; i += 11) teacher[i] = -infinity;
  for (std::size_t r = 0; r < some; ++r)
    for (std::size_t j = 517; j < 530; ++j) student[r * 530 + j] = teacher[r * 530 + j] = nan;
  std::vector<std::uint8_t> mask(some, 1);
  mask[4] = mask[22] = 0;

  outcome o;
  std::vector<float> logp(static_cast<std::size_t>(rows * k)), tail(some, 9), entropy(some, 9);
  o.token.resize(logp.size());
  rlhf::top_k_inputs<float> from{{teacher.data(), rows, columns}, mask, vocabulary, 0.7};
  rlhf::top_k_outputs<float> to{{logp.data(), rows, k}, {o.token.data(), rows, k}, tail, entropy};
  REQUIRE(rlhf::top_k(be, from, to));
  o.of = {logp, tail, entropy};

  for (const double forward : {1.0, 0.0, 0.3})
    for (const bool bucket : {true, false}) {
      std::vector<float> value(some, 9), gradient(all, 9);
      rlhf::top_k_divergence_inputs<float> in;
      in.logits = {student.data(), rows, columns};
      in.token = {o.token.data(), rows, k};
      in.teacher_logp = {logp.data(), rows, k};
      in.teacher_tail = tail;
      in.mask = mask;
      in.vocabulary = vocabulary;
      in.temperature = 0.7;
      // A token that the student cannot say would cost the forward side infinity.
      auto possible = student;
      for (float& z : possible) z = z < -1e9f ? -9.0f : z;
      if (forward > 0) in.logits = {possible.data(), rows, columns};
      rlhf::full_kl_outputs<float> out;
      out.kl = value;
      out.grad_logits = {gradient.data(), rows, columns};
      REQUIRE(rlhf::top_k_divergence{.forward = forward, .tail = bucket}(be, in, out));
      o.of.push_back(value);
      o.of.push_back(gradient);
    }
  std::vector<float> value(some, 9), gradient(all, 9);
  rlhf::full_kl_inputs<float> both{
      {student.data(), rows, columns}, {teacher.data(), rows, columns}, mask, vocabulary, 0.7};
  rlhf::full_kl_outputs<float> out;
  out.kl = value;
  out.grad_logits = {gradient.data(), rows, columns};
  REQUIRE(rlhf::full_total_variation(be, both, out));
  o.of.push_back(value);
  o.of.push_back(gradient);

  const auto x = values(3, all, -2, 2), y = values(4, all, -2, 2);
  rlhf::cosine_inputs<float> hidden{{x.data(), rows, columns}, {y.data(), rows, columns}, mask};
  rlhf::cosine_outputs<float> apart;
  apart.distance = value;
  apart.grad_x = {gradient.data(), rows, columns};
  REQUIRE(rlhf::cosine_distance(be, hidden, apart));
  o.of.push_back(value);
  o.of.push_back(gradient);

  std::vector<std::int64_t> offsets{0};
  for (std::int64_t s = 0; s < 200; ++s) offsets.push_back(offsets.back() + (s * 37) % 91);
  for (const bool packed : {true, false}) {
    const auto sequences = packed ? rlhf::packed(offsets) : rlhf::padded(151, 67);
    const auto n = static_cast<std::size_t>(sequences.tokens);
    auto advantage = values(5, n, -2, 2);
    std::vector<std::uint8_t> valid(n);
    for (std::size_t i = 0; i < n; ++i) {
      valid[i] = i % 3 != 1;
      if (valid[i] == 0) advantage[i] = i % 2 == 0 ? nan : -infinity;
    }
    std::vector<float> weight(n, 9);
    REQUIRE(rlhf::prefix_weights(be, sequences, rlhf::prefix_weight{.inclusive = packed},
                                 rlhf::view<const float>(advantage), rlhf::mask_view<>(valid),
                                 rlhf::view<float>(weight)));
    o.of.push_back(weight);
  }
  return o;
}

}  // namespace

TEST_CASE("distillation drivers on Eigen give what they give on plain loops") {
  rlhf::reference_backend reference;
  const outcome want = run(reference);
  outcome first;
  for (const int threads : {1, 5}) {
    rlhf::eigen_backend backend(threads);
    const outcome got = run(backend);
    CHECK(got.token == want.token);
    REQUIRE(got.of.size() == want.of.size());
    for (std::size_t what = 0; what < want.of.size(); ++what) {
      CAPTURE(threads, what);
      REQUIRE(got.of[what].size() == want.of[what].size());
      double largest = 0, worst = 0;
      bool same = true;
      for (std::size_t i = 0; i < want.of[what].size(); ++i) {
        const double g = static_cast<double>(got.of[what][i]), w = static_cast<double>(want.of[what][i]);
        same = same && std::isfinite(g) && std::isfinite(w);
        largest = std::max(largest, std::abs(w));
        worst = std::max(worst, std::abs(g - w));
      }
      CHECK(same);
      CHECK(largest > 0);
      CHECK(worst <= 4e-5 * largest);
      if (threads > 1)
        CHECK(std::memcmp(got.of[what].data(), first.of[what].data(), got.of[what].size() * sizeof(float)) == 0);
    }
    first = got;
  }
}
