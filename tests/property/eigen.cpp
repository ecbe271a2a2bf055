// A few drivers on SIMD lanes: the same properties, and nearness to the plain loops.

#include "rlhf/backend/eigen.hpp"
#include "property/batches.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/preference.hpp"

namespace {

using namespace property;

constexpr rlhf::policy_loss ppo{rlhf::ppo_clip{.dual_clip = 3}, rlhf::kl_penalty{rlhf::k3{}, 0.1}, rlhf::row_mean{}};
constexpr rlhf::policy_loss gspo{rlhf::sequence_ratio{rlhf::ppo_clip{.low = 0.1, .high = 0.1}}};
constexpr rlhf::preference_loss dpo{rlhf::dpo_sigmoid{.beta = 0.3, .label_smoothing = 0.1}};

/// Columns logp, old_logp, ref_logp, advantage.
batch draw(numbers& random) {
  const std::int64_t rows = integer(0, 6), width = integer(0, 10) == 0 ? 4096 : integer(1, 40);
  return make_batch(random, rows, width, 4, [](numbers& from, double* x) {
    x[1] = from.uniform(-3, -0.5);
    x[0] = x[1] + from.uniform(-0.4, 0.4);
    x[2] = from.uniform(-3, -0.05);
    x[3] = from.uniform(-2, 2);
  });
}
template <class T, class B, class Loss>
outcome call_tokens(B& be, const Loss& loss, const batch& b) {
  std::vector<std::vector<T>> c, found(2, std::vector<T>(b.slots(), T(7)));
  for (const auto& x : b.columns) c.emplace_back(x.begin(), x.end());
  T value = 0;
  rlhf::token_inputs<T> in;
  in.logp = c[0];
  in.old_logp = c[1];
  in.ref_logp = c[2];
  in.advantage = c[3];
  in.mask = b.mask_or_none();
  rlhf::token_outputs<T> out;
  out.loss = {&value, 1};
  out.grad_logp = found[0];
  out.per_token = found[1];
  expect_done(loss(be, b.layout(), in, out), "policy_loss");
  outcome o;
  o.loss = static_cast<double>(value);
  for (const auto& x : found) o.slots.emplace_back(x.begin(), x.end());
  return o;
}
template <class T, class B>
outcome call_pairs(B& be, const batch& b) {
  std::vector<std::vector<T>> c, found(3, std::vector<T>(b.slots(), T(7)));
  for (const auto& x : b.columns) c.emplace_back(x.begin(), x.end());
  T value = 0;
  rlhf::pair_inputs<T> in;
  in.chosen = c[0];
  in.rejected = c[1];
  in.ref_chosen = c[2];
  in.ref_rejected = c[3];
  in.mask = b.mask_or_none();
  rlhf::pair_outputs<T> out;
  out.loss = {&value, 1};
  out.grad_chosen = found[0];
  out.grad_rejected = found[1];
  out.per_pair = found[2];
  expect_done(dpo(be, in, out), "preference_loss");
  outcome o;
  o.loss = static_cast<double>(value);
  for (const auto& x : found) o.slots.emplace_back(x.begin(), x.end());
  return o;
}

/// Lanes and loops round alike but for the order of sums and the last bits of functions.
template <class Run>
void expect_lanes_hold(const char* name, const batch& b, numbers& random, double error, Run run) {
  rlhf::eigen_backend lanes;
  rlhf::reference_backend loops;
  const auto on_lanes = [&](const batch& x) { return run(lanes, x); };
  expect_mask_holds(name, b, random, on_lanes);
  const outcome y = on_lanes(b), z = run(loops, b);
  const double scale = largest(z);
  expect(near(y.loss, z.loss, error, scale), name, " is ", y.loss, " on lanes, ", z.loss);
  for (std::size_t k = 0; k < y.slots.size(); ++k)
    for (std::size_t i = 0; i < b.slots(); ++i)
      expect(near(y.slots[k][i], z.slots[k][i], error, scale), name, ": output ", k, " is ", y.slots[k][i],
             " on lanes, ", z.slots[k][i]);
  if (error > 1e-9) return;  // float sums in another order
  expect_permutes(name, b, random, on_lanes, 1e-12);
  expect_packs(name, b, on_lanes, 1e-12);
}

}  // namespace

TEST_CASE("lanes: token objectives") {
  for_all("policy_loss", 2, [] {
    numbers random(seed());
    const batch b = draw(random);
    expect_lanes_hold("ppo", b, random, 1e-11,
                      [](auto& be, const batch& x) { return call_tokens<double>(be, ppo, x); });
    expect_lanes_hold("gspo", b, random, 1e-11,
                      [](auto& be, const batch& x) { return call_tokens<double>(be, gspo, x); });
    expect_lanes_hold("ppo in float", b, random, 1e-5,
                      [](auto& be, const batch& x) { return call_tokens<float>(be, ppo, x); });
  });
}
TEST_CASE("lanes: pair objectives") {
  for_all("preference_loss", 2, [] {
    const std::int64_t pairs = integer(0, 70);
    const double range = real(1, 700);
    numbers random(seed());
    const batch b = make_batch(random, pairs, 1, 4, [&](numbers& from, double* x) {
      for (int k = 0; k < 4; ++k) x[k] = from.uniform(-range, 0);
    });
    expect_lanes_hold("dpo", b, random, 1e-11, [](auto& be, const batch& x) { return call_pairs<double>(be, x); });
    expect_lanes_hold("dpo in float", b, random, 1e-5,
                      [](auto& be, const batch& x) { return call_pairs<float>(be, x); });
  });
}
