// Estimators of advantages on lanes against plain loops: sequences longer than any register, tails, several threads, garbage
// under the mask.

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/advantage_bounds.hpp"
#include "rlhf/driver/anchor_groups.hpp"
#include "rlhf/driver/combined_reward.hpp"
#include "rlhf/driver/steps.hpp"
#include "rlhf/driver/token_baseline.hpp"
#include "support/catch.hpp"

namespace {

template <class T>
struct batch {
  static constexpr std::int64_t rows = 37, width = 211;
  std::vector<T> stream[7];
  std::vector<T> per_row;
  std::vector<std::uint8_t> mask, done;
  std::vector<std::int64_t> groups;

  batch() {
    std::mt19937 random(7);
    const auto uniform = [&] { return static_cast<T>(random()) / static_cast<T>(4294967296.0); };
    for (std::int64_t i = 0; i < rows * width; ++i) {
      const bool in = random() % 6 != 0 && i / width != 5 && (i / width != 6 || i % width == 100);
      mask.push_back(in ? 1 : 0);
      done.push_back(random() % 40 == 0 ? 1 : 0);
      for (auto& x : stream)
        x.push_back(in ? uniform() - T(0.5)
                       : (i % 2 == 0 ? std::numeric_limits<T>::quiet_NaN() : std::numeric_limits<T>::infinity()));
    }
    for (auto& x : stream[6]) x = std::abs(x);  // discounts
    for (std::int64_t i = 0; i < rows; ++i) per_row.push_back(uniform());
    per_row[3] = std::numeric_limits<T>::quiet_NaN();
    for (std::int64_t i = 0; i <= rows; ++i) groups.push_back(i * i / rows);
  }
  [[nodiscard]] rlhf::advantage_inputs<T> inputs(bool next) const {
    rlhf::advantage_inputs<T> in;
    in.reward = stream[0];
    in.value = stream[1];
    in.mask = mask;
    if (next) in.next_value = stream[2];
    in.done = done;
    in.logp = stream[3];
    in.old_logp = stream[4];
    in.gamma = in.lambda = stream[6];
    return in;
  }
};

/// Every estimator once, one array after the other.
template <class T, class B>
std::vector<std::vector<T>> results(B& be, const batch<T>& x) {
  std::vector<std::vector<T>> all;
  const auto sequences = rlhf::padded(x.rows, x.width);
  const std::size_t n = x.mask.size(), rows = x.per_row.size();
  const auto scan = [&](const auto& estimator, bool next) {
    std::vector<T> advantage(n, T(77)), returns(n, T(77));
    REQUIRE(rlhf::advantage_estimate{estimator}(be, sequences, x.inputs(next),
                                                rlhf::advantage_outputs<T>{advantage, returns}));
    all.push_back(advantage);
    all.push_back(returns);
  };
  for (const bool next : {false, true}) {
    scan(rlhf::td_lambda{0.99, 0.9}, next);
    scan(rlhf::vtrace{0.99, 1.1, 0.95}, next);
  }
  scan(rlhf::varying_gae{}, false);
  scan(rlhf::step_advantage{}, false);
  scan(rlhf::action_value{}, false);

  const rlhf::grouping<> groups{rlhf::packed(x.groups)};
  const auto group = [&](const auto& estimator) {
    std::vector<T> out(rows, T(77));
    const std::vector<T> weight(x.per_row.rbegin(), x.per_row.rend() - 4);
    std::vector<T> lengths(rows, T(2));
    std::copy(weight.begin(), weight.end(), lengths.begin());
    REQUIRE(rlhf::grouped{estimator}(be, rlhf::group_inputs<T>{groups, x.per_row, lengths}, out));
    all.push_back(out);
  };
  group(rlhf::leave_one_out{.normalize = true});
  group(rlhf::optimal_baseline{});
  group(rlhf::group_policy_gradient{});
  group(rlhf::mean_normalized{});
  group(rlhf::pass_at_k{});

  std::vector<T> out(rows, T(77)), tokens(n, T(77)), returns(n, T(77));
  rlhf::rewards_inputs<T> functions;
  functions.rewards = {x.stream[0].data(), x.rows, x.width};
  REQUIRE(rlhf::reward_combination{}(be, functions, out));
  functions.rewards = {x.stream[0].data(), x.rows, 3, x.width};
  REQUIRE(rlhf::decoupled_groups{rlhf::group_advantage{}}(be, groups, functions, out));
  all.push_back(out);

  rlhf::token_baseline_inputs<T> baseline{groups, x.stream[0], x.stream[3], x.stream[6], {}, x.mask};
  REQUIRE(rlhf::token_baseline{{.compact = true}}(be, sequences, baseline,
                                                  rlhf::token_baseline_outputs<T>{tokens, returns}));
  all.push_back(tokens);
  all.push_back(returns);

  rlhf::anchor_inputs<T> steps{x.stream[0], groups, {rlhf::padded(x.width, x.rows)}, x.mask};
  REQUIRE(rlhf::anchor_groups{rlhf::group_advantage{}}(be, sequences, steps, tokens));
  all.push_back(tokens);
  rlhf::bounding_inputs<T> bounds{x.stream[1], x.done, x.mask};
  REQUIRE(rlhf::advantage_bounding{{-0.2, 0.3, -5}}(be, bounds, tokens));
  all.push_back(tokens);
  REQUIRE(
      rlhf::rollout_values{}(be, sequences, rlhf::view<const T>(x.stream[0]), rlhf::rollout_value_outputs<T>{out, {}}));
  std::vector<std::int32_t> zeros(n, 0);
  REQUIRE(
      rlhf::steps_to_tokens{}(be, sequences, rlhf::step_inputs<T>{rlhf::padded(x.rows, 1), out, zeros, {}}, tokens));
  all.push_back(tokens);
  return all;
}

template <class T>
void compare(double tolerance) {
  const batch<T> x;
  rlhf::reference_backend plain;
  const auto want = results(plain, x);
  for (const int threads : {1, 3}) {
    rlhf::eigen_backend lanes(threads);
    const auto got = results(lanes, x);
    REQUIRE(got.size() == want.size());
    for (std::size_t k = 0; k < want.size(); ++k) {
      double worst = 0;
      bool same = got[k].size() == want[k].size();
      for (std::size_t i = 0; same && i < want[k].size(); ++i) {
        const double a = static_cast<double>(got[k][i]), b = static_cast<double>(want[k][i]);
        if (std::isnan(a) != std::isnan(b)) same = false;
        if (!std::isnan(b)) worst = std::max(worst, std::abs(a - b) / (1 + std::abs(b)));
      }
      CAPTURE(threads, k);
      CHECK(same);
      CHECK(worst < tolerance);
    }
  }
}

}  // namespace

TEST_CASE("estimators on lanes, double") { compare<double>(1e-12); }
TEST_CASE("estimators on lanes, float") { compare<float>(2e-5); }
