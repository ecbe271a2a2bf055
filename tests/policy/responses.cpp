#include "rlhf/policy/responses.hpp"

#include "rlhf/policy/tabular.hpp"
#include "support/catch.hpp"

using namespace rlhf;

TEST_CASE("responses are packed, and their frame holds response tokens only") {
  responses r;
  const std::int32_t prompt[] = {7, 8}, long_one[] = {1, 2, 3}, one[] = {4};
  r.add(prompt, long_one);
  r.add(std::span(prompt).first(1), {});
  r.add(std::span(prompt).first(1), one);
  CHECK(r.size() == 3);
  CHECK(r.response_tokens() == 4);
  CHECK(r.tokens().size() == 8);
  CHECK(r.prompt(0).size() == 2);
  CHECK(r.response(0)[2] == 3);
  CHECK(r.response(1).empty());
  const auto frame = r.layout();
  CHECK(frame.sequences == 3);
  CHECK(frame[1].begin == 3);
  CHECK(frame[1].end == 3);

  const std::int64_t rows[] = {2, 0};
  const responses picked = r.select(rows);
  CHECK(picked.response(0)[0] == 4);
  CHECK(picked.response(1)[0] == 1);
  const std::vector<float> per_token{10, 20, 30, 40};
  CHECK(r.select(rows, std::span<const float>(per_token)) == std::vector<float>{40, 10, 20, 30});
  CHECK_THROWS_AS(r.add({}, one), std::invalid_argument);
}

TEST_CASE("the tabular policy sums to one, and its gradient is the derivative") {
  tabular_policy policy(2, 3, 2);
  const random_numbers numbers({1, 1});
  std::uint32_t i = 0;
  for (float& x : policy.parameters()) x = static_cast<float>(numbers.normal({i++}));
  responses all;
  const std::int32_t prompt[] = {1};
  for (std::int32_t a = 0; a < 3; ++a)
    for (std::int32_t b = 0; b < 3; ++b) {
      const std::int32_t tokens[] = {a, b};
      all.add(prompt, tokens);
    }
  std::vector<float> logp(18), weight(18);
  policy.log_probs(all, logp);
  double sum = 0;
  for (std::size_t k = 0; k < 18; k += 2) sum += std::exp(static_cast<double>(logp[k] + logp[k + 1]));
  CHECK(sum == Approx(1).epsilon(1e-6));

  for (std::size_t k = 0; k < 18; ++k)
    weight[k] = static_cast<float>(numbers.normal({100 + static_cast<std::uint32_t>(k)}));
  const auto value = [&] {
    policy.log_probs(all, logp);
    double total = 0;
    for (std::size_t k = 0; k < 18; ++k) total += static_cast<double>(weight[k]) * static_cast<double>(logp[k]);
    return total;
  };
  value();
  policy.backward(weight);
  for (std::size_t p = 0; p < policy.parameters().size(); ++p) {
    const float before = policy.parameters()[p];
    policy.parameters()[p] = before + 1e-2f;
    const double up = value();
    policy.parameters()[p] = before - 1e-2f;
    const double down = value();
    policy.parameters()[p] = before;
    CHECK(static_cast<double>(policy.gradient()[p]) == Approx((up - down) / 2e-2).margin(2e-3));
  }
}

TEST_CASE("sampling follows the policy and its key alone") {
  tabular_policy policy(1, 3, 1);
  policy.parameters()[0] = 1;
  const prompt_list prompts(3000, {0});
  const responses drawn = policy.sample(prompts, 1, {1, 2});
  double zeros = 0;
  for (std::int64_t i = 0; i < drawn.size(); ++i) zeros += drawn.response(i)[0] == 0 ? 1 : 0;
  const double p = std::exp(1.0) / (std::exp(1.0) + 2);
  CHECK(std::abs(zeros / 3000 - p) < 4 * std::sqrt(p * (1 - p) / 3000));
  const responses again = policy.sample(prompt_list(10, {0}), 1, {1, 2});
  for (std::int64_t i = 0; i < 10; ++i) CHECK(again.response(i)[0] == drawn.response(i)[0]);
}

TEST_CASE("the tabular policy refuses what it has no row for") {
  tabular_policy policy(1, 3, 2);
  responses r;
  const std::int32_t prompt[] = {0}, shorter[] = {1}, outside[] = {1, 3};
  r.add(prompt, shorter);
  std::vector<float> out(1);
  CHECK_THROWS_WITH(policy.log_probs(r, out), "tabular_policy: a response has 1 tokens, wants 2");
  responses o;
  o.add(prompt, outside);
  out.resize(2);
  CHECK_THROWS_WITH(policy.log_probs(o, out), "tabular_policy: a token is a number below 3");
  CHECK_THROWS_AS(tabular_policy(0, 3, 2), std::invalid_argument);
}
