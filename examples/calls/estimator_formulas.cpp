// The snippets of the pages on baselines of groups, transitions, steps and positions (docs/formulas), with their numbers.

#include <limits>

#include "batch.hpp"
#include "check.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/advantage_bounds.hpp"
#include "rlhf/driver/anchor_groups.hpp"
#include "rlhf/driver/combined_reward.hpp"
#include "rlhf/driver/steps.hpp"
#include "rlhf/driver/token_baseline.hpp"

using calls::expect;

namespace {

double number(float x) { return static_cast<double>(x); }

}  // namespace

int main() {
  rlhf::reference_backend cpu;
  const calls::token_batch b;
  const auto rows = rlhf::padded(2, 4);
  const std::vector<float> reward{0, 0, 0, 1, 0, -0.5f, b.pad, b.pad};
  std::vector<float> advantage(8), returns(8);

  {
    //! [group-baselines]
    // Four responses to one prompt. Any of the estimators stands where leave_one_out stands.
    const std::vector<float> score{1, 0, 0, 0}, length{30, 10, 10, 10};
    std::vector<float> rloo(4), opo(4);
    const rlhf::grouping<> prompts{rlhf::padded(1, 4)};
    rlhf::or_throw(rlhf::grouped{rlhf::leave_one_out{}}(cpu, {.groups = prompts, .reward = score}, rloo));
    rlhf::or_throw(
        rlhf::grouped{rlhf::optimal_baseline{}}(cpu, {.groups = prompts, .reward = score, .weight = length}, opo));
    //! [group-baselines]
    expect("rloo", number(rloo[1]), -1.0 / 3);
    expect("opo", number(opo[0]), 0.5);
  }
  {
    //! [several-rewards]
    // Two reward functions of four responses; the second does not apply to the last one.
    const float none = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> rewards{1, 0.25f, 0, 0.75f, 1, 0.5f, 0, none}, weight{1, 0.5f};
    const rlhf::rewards_inputs<float> functions{.rewards = {rewards.data(), 4, 2}, .weight = weight};
    std::vector<float> sum(4), apart(4);
    rlhf::or_throw(rlhf::reward_combination{}(cpu, functions, sum));  // then grouped{...}
    const rlhf::decoupled_groups gdpo{rlhf::group_advantage{}};       // then whitening{...}
    rlhf::or_throw(gdpo(cpu, rlhf::grouping<>{rlhf::padded(2, 2)}, functions, apart));
    //! [several-rewards]
    expect("several rewards", number(sum[0]), 1.125);
    expect("several rewards: one is missing", number(sum[3]), 0);
    expect("gdpo", number(apart[0]), 0.5 / (std::sqrt(0.5) + 1e-4) - 0.5 * 0.25 / (std::sqrt(0.125) + 1e-4));
  }
  {
    //! [selection]
    // What a selection leaves out is NaN, "no reward", to the estimator that comes after it.
    const std::vector<float> score{1, 1, 0, 1};
    std::vector<float> kept(4), relative(4);
    const rlhf::grouping<> prompts{rlhf::padded(2, 2)};
    rlhf::or_throw(rlhf::grouped{rlhf::group_filter{}}(cpu, {.groups = prompts, .reward = score}, kept));
    rlhf::or_throw(rlhf::grouped{rlhf::group_advantage{}}(cpu, {.groups = prompts, .reward = kept}, relative));
    // Afterwards: bounds, and a constant for what broke a rule.
    const std::vector<std::uint8_t> broken{0, 0, 1, 0};
    const rlhf::advantage_bounding bound{{.low = -0.5, .high = 0.5, .flagged = -5}};
    rlhf::or_throw(bound(cpu, {.advantage = relative, .flagged = broken}, relative));
    //! [selection]
    expect("selection: all equal", number(relative[0]), 0);
    expect("selection: flagged", number(relative[2]), -5);
    expect("selection: bounded", number(relative[3]), 0.5);
  }
  {
    //! [anchor-groups]
    // Two episodes of two steps; the first steps start from one state, the second ones from another.
    const std::vector<float> step_reward{0, 1, 0, 0};
    const std::vector<std::int64_t> order{0, 2, 1, 3};
    std::vector<float> a(4);
    const rlhf::anchor_groups gigpo{rlhf::group_advantage{.scale = rlhf::group_scale::none}, 0.5, 1.0};
    rlhf::or_throw(gigpo(
        cpu, rlhf::padded(2, 2),
        {.reward = step_reward, .tasks = {rlhf::padded(1, 2)}, .anchors = {rlhf::padded(2, 2), order.data()}}, a));
    //! [anchor-groups]
    expect("gigpo", number(a[0]), 0.5 + 0.25);
    expect("gigpo", number(a[1]), 0.5 + 0.5);
  }
  {
    //! [transitions]
    const std::vector<std::uint8_t> done{0, 0, 0, 1, 0, 1, 0, 0};
    rlhf::advantage_inputs<float> in{.reward = reward, .value = b.old_value, .mask = b.mask};
    in.done = done;
    in.logp = b.logp;          // of the policy
    in.old_logp = b.old_logp;  // of the one that acted
    const rlhf::advantage_estimate estimate{rlhf::vtrace{.gamma = 0.99, .rho_bar = 1, .c_bar = 1}};
    rlhf::or_throw(estimate(cpu, rows, in, {.advantage = advantage, .returns = returns}));
    //! [transitions]
    expect("vtrace: the last step", number(returns[5]), -0.1 + std::exp(-0.4) * (-0.5 + 0.1));
  }
  {
    //! [varying]
    // A turn ends at the second token: only there is anything discounted.
    const std::vector<float> gamma{1, 0.9f, 1, 1, 1, 0.9f, 1, 1}, lambda(8, 0.95f);
    rlhf::advantage_inputs<float> in{.reward = reward, .value = b.old_value, .mask = b.mask};
    in.gamma = gamma;
    in.lambda = lambda;
    rlhf::or_throw(rlhf::advantage_estimate{rlhf::varying_gae{}}(cpu, rows, in, {.advantage = advantage}));
    //! [varying]
    expect("varying gae", number(advantage[1]), 0.9 * 0.3 - 0.5 + 0.9 * 0.95 * (0.1 - 0.3 + 0.95 * 0.9));
  }
  {
    //! [remax]
    const std::vector<float> greedy{0.25f, -1};  // rewards of the greedy responses to the same prompts
    rlhf::advantage_inputs<float> in{.reward = reward, .mask = b.mask};
    in.baseline = greedy;
    rlhf::or_throw(rlhf::advantage_estimate{rlhf::discounted_return{}}(cpu, rows, in, {.advantage = advantage}));
    //! [remax]
    expect("remax", number(advantage[0]), 0.75);
    expect("remax", number(advantage[4]), 0.5);
  }
  {
    //! [vine]
    // One response of three steps. Nine rollouts from each state would be more usual than two.
    const std::vector<float> rollouts{1, 0, 1, 1, 0, 0}, score{1};
    std::vector<float> value(3), variance(3), step_advantage(3), token_advantage(5);
    rlhf::or_throw(rlhf::rollout_values{}(cpu, rlhf::padded(3, 2), rlhf::view<const float>(rollouts),
                                          {.value = value, .variance = variance}));
    rlhf::advantage_inputs<float> in{.value = value};
    in.bootstrap = score;
    rlhf::or_throw(
        rlhf::advantage_estimate{rlhf::step_advantage{}}(cpu, rlhf::padded(1, 3), in, {.advantage = step_advantage}));
    const std::vector<std::int32_t> step{0, 0, 1, 2, 2};
    const rlhf::step_inputs<float> steps{.steps = rlhf::padded(1, 3), .x = step_advantage, .step = step};
    rlhf::or_throw(rlhf::steps_to_tokens{}(cpu, rlhf::padded(1, 5), steps, token_advantage));
    //! [vine]
    expect("vine: first step", number(token_advantage[1]), 0.5);
    expect("vine: second step", number(token_advantage[2]), -1);
    expect("vine: last step", number(token_advantage[4]), 1);
    expect("vine: variance", number(variance[0]), 0.125);
  }
  {
    //! [frozen]
    const std::vector<float> after{0.6f, -0.3f};  // the frozen critic behind the last token
    rlhf::advantage_inputs<float> in{.value = b.old_value, .mask = b.mask};
    in.bootstrap = after;
    rlhf::or_throw(rlhf::advantage_estimate{rlhf::action_value{}}(cpu, rows, in, {.advantage = advantage}));
    //! [frozen]
    expect("frozen critic", number(advantage[0]), 0.5);
    expect("frozen critic: the last token", number(advantage[3]), 0.6);
  }
  {
    //! [token-baseline]
    const std::vector<float> square_sum{0.3f, 0.4f, 0.2f, 0.9f, 0.5f, 0.4f, b.pad, b.pad};  // of token_logp
    const rlhf::token_baseline otb{{.compact = false}};
    rlhf::or_throw(otb(cpu, rows,
                       {.groups = {rlhf::padded(1, 2)},
                        .reward = reward,
                        .old_logp = b.old_logp,
                        .square_sum = square_sum,
                        .mask = b.mask},
                       {.advantage = advantage, .returns = returns}));
    //! [token-baseline]
    const double first = 1 - 2 * std::exp(-1.1) + 0.3, second = 1 - 2 * std::exp(-0.7) + 0.5;
    expect("otb", number(advantage[0]), 1 - (first * 1 + second * -0.5) / (first + second), 1e-5);
    expect("otb: the tail", number(advantage[3]), 1);
  }
  return calls::failures();
}
