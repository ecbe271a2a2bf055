// The reward model with two heads: slopes of both scores and of the product of the heads, in one pass, in several and in shared
// memory.

#include "align/model/two_heads.hpp"

#include <cmath>
#include <memory>
#include <vector>

#include "align/responses.hpp"
#include "rlhf/train/odin.hpp"
#include "support/catch.hpp"

namespace {

const align::transformer_options sizes{
    .vocabulary = 13, .dimension = 24, .hidden = 20, .layers = 2, .heads = 4, .kv_heads = 2, .context = 12};

struct world {
  rlhf::thread_pool pool{2};
  align::language_model<float> start{sizes, rlhf::random_key{.seed = 5}};
  rlhf::responses batch = some_responses();
  std::vector<float> quality{0.5f, -1, 0.25f, 2}, length{1, 0.5f, -0.75f, -1};
  float product = 1.5f;

  /// Heads large enough that slopes through them are not lost in rounding.
  [[nodiscard]] align::two_headed_policy model(std::shared_ptr<align::pass_memory> memory) {
    align::two_headed_policy out(pool, start, {.seed = 6}, std::move(memory));
    const std::size_t heads = start.parameters.size();
    for (std::size_t i = heads; i < out.parameters().size(); ++i) out.parameters()[i] *= 10;
    return out;
  }
  [[nodiscard]] double loss(align::two_headed_policy& model) const {
    std::vector<float> q(4), l(4);
    model.head_scores(batch, q, l);
    double sum = static_cast<double>(product) * static_cast<double>(model.head_product());
    for (std::size_t i = 0; i < 4; ++i)
      sum += static_cast<double>(quality[i]) * static_cast<double>(q[i]) +
             static_cast<double>(length[i]) * static_cast<double>(l[i]);
    return sum;
  }
};

}  // namespace

static_assert(rlhf::two_headed_reward<align::two_headed_policy>);

TEST_CASE("slopes of two heads and of their product, however the batch is split") {
  world w;
  for (const std::int64_t tokens : {1000, 9, 1}) {
    CAPTURE(tokens);
    align::two_headed_policy model =
        w.model(std::make_shared<align::pass_memory>(align::pass_limits{.tokens = tokens}));
    (void)w.loss(model);
    model.backward_heads(w.quality, w.length, w.product);
    // Along random directions, because a single parameter's slope drowns in the rounding of float32; then the heads alone.
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      const rlhf::random_numbers numbers({.seed = seed, .stream = 3});
      const std::vector<float> kept(model.parameters().begin(), model.parameters().end());
      std::vector<double> v(kept.size());
      double slope = 0;
      for (std::size_t i = 0; i < v.size(); ++i) {
        if (seed <= 2 || i >= w.start.parameters.size()) v[i] = numbers.normal({static_cast<std::uint32_t>(i)});
        slope += v[i] * static_cast<double>(model.gradient()[i]);
      }
      const auto at = [&](double step) {
        for (std::size_t i = 0; i < v.size(); ++i)
          model.parameters()[i] = static_cast<float>(static_cast<double>(kept[i]) + step * v[i]);
        return w.loss(model);
      };
      const double up = at(1e-3), down = at(-1e-3);
      std::copy(kept.begin(), kept.end(), model.parameters().begin());
      CHECK((up - down) / 2e-3 == Approx(slope).epsilon(0.01).margin(0.05));
    }
  }
}

TEST_CASE("two heads in a memory that another model used in between compute what they compute alone") {
  world w;
  const auto memory = std::make_shared<align::pass_memory>();
  align::two_headed_policy alone = w.model(std::make_shared<align::pass_memory>()), shares = w.model(memory);
  align::scalar_policy other(w.pool, align::scalar_model<float>(w.start), true, memory);
  std::vector<float> score(4);
  (void)w.loss(alone);
  alone.backward_heads(w.quality, w.length, w.product);
  CHECK(w.loss(shares) == w.loss(alone));
  other.rewards(w.batch, score);  // walks over what the first left
  shares.backward_heads(w.quality, w.length, w.product);
  REQUIRE(shares.gradient().size() == alone.gradient().size());
  double all = 0;
  for (std::size_t i = 0; i < alone.gradient().size(); ++i) {
    REQUIRE(shares.gradient()[i] == alone.gradient()[i]);
    all += std::abs(static_cast<double>(alone.gradient()[i]));
  }
  CHECK(all > 1);
  // Without the length head it is a reward model of the same scores.
  std::vector<float> quality(4), length(4);
  align::scalar_policy left(w.pool, align::scalar_model<float>(w.start));
  const std::span<const float> kept = shares.without_length();
  REQUIRE(kept.size() == left.parameters().size());
  std::copy(kept.begin(), kept.end(), left.parameters().begin());
  shares.head_scores(w.batch, quality, length);
  left.rewards(w.batch, score);
  CHECK(score == quality);
  CHECK(length != quality);
}
