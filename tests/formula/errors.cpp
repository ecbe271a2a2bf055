// What is wrong with a call is said by name: function, argument, got, want. A refused call has written nothing.

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/algorithm/gspo.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/bradley_terry.hpp"

namespace {

using rlhf::status;
using rlhf::view;
using test::text;

rlhf::reference_backend cpu;

/// Memory for every argument: six tokens in two rows of three, and views of other sizes.
std::vector<double> in(6, -1.0), out(24, 7.0);
std::vector<std::uint8_t> mask(6, 1);
const view<const double> six(in.data(), 6), five(in.data(), 5), two(in.data(), 2), three(in.data(), 3);
const view<double> out6(out.data(), 6), out5(out.data(), 5), out2(out.data(), 2), out1(out.data(), 1);
const rlhf::layout<> rows = rlhf::padded(2, 3);

void check(const status& s, const std::string& want) {
  CHECK(text(s) == want);
  CHECK(out == std::vector<double>(24, 7.0));
  out.assign(24, 7.0);
}

}  // namespace

TEST_CASE("policy_loss") {
  const rlhf::policy_loss loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.1}};
  const auto call = [&](const std::function<void(rlhf::token_inputs<double>&, rlhf::token_outputs<double>&)>& spoil) {
    rlhf::token_inputs<double> i;
    i.logp = i.old_logp = i.ref_logp = i.advantage = six;
    rlhf::token_outputs<double> o;
    o.loss = out1;
    o.grad_logp = out6;
    spoil(i, o);
    return loss(cpu, rows, i, o);
  };
  check(call([](auto& i, auto&) { i.logp = {}; }), "policy_loss: logp is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.logp = five; }), "policy_loss: logp has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.old_logp = {}; }),
        "policy_loss: old_logp is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.old_logp = five; }), "policy_loss: old_logp has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.ref_logp = {}; }),
        "policy_loss: ref_logp is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.ref_logp = two; }), "policy_loss: ref_logp has 2 elements, wants 6");
  check(call([](auto& i, auto&) { i.rollout_logp = five; }), "policy_loss: rollout_logp has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.advantage = {}; }),
        "policy_loss: advantage is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.advantage = five; }), "policy_loss: advantage has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.entropy = five; }), "policy_loss: entropy has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.weight = five; }), "policy_loss: weight has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.mask = {mask.data(), 4}; }), "policy_loss: mask has 4 elements, wants 6");
  check(call([](auto& i, auto&) { i.keep = {mask.data(), 4}; }), "policy_loss: keep has 4 elements, wants 6");
  check(call([](auto&, auto& o) { o.loss = out2; }), "policy_loss: loss has 2 elements, wants 1");
  check(call([](auto&, auto& o) { o.grad_logp = out5; }), "policy_loss: grad_logp has 5 elements, wants 6");
  check(call([](auto&, auto& o) { o.grad_entropy = out5; }), "policy_loss: grad_entropy has 5 elements, wants 6");
  check(call([](auto&, auto& o) { o.per_token = out5; }), "policy_loss: per_token has 5 elements, wants 6");
  // The same tokens under aggregates that are none.
  const auto under = [&](const auto& aggregate) {
    rlhf::token_inputs<double> i;
    i.logp = i.advantage = six;
    rlhf::token_outputs<double> o;
    o.loss = out1;
    return rlhf::policy_loss{rlhf::reinforce{}, rlhf::none{}, aggregate}(cpu, rows, i, o);
  };
  const double nan = std::nan("");
  check(under(rlhf::token_mean{.scale = nan}), "token_mean: scale is nan, wants a finite number");
  check(under(rlhf::token_sum{.scale = HUGE_VAL}), "token_sum: scale is inf, wants a finite number");
  check(under(rlhf::sequence_mean_token_mean{.scale = -HUGE_VAL}),
        "sequence_mean_token_mean: scale is -inf, wants a finite number");
  check(under(rlhf::sequence_mean_token_sum{.scale = nan}),
        "sequence_mean_token_sum: scale is nan, wants a finite number");
}

TEST_CASE("policy_loss: layouts, groups, what terms and wrappers read") {
  rlhf::token_inputs<double> i;
  i.logp = i.old_logp = i.advantage = six;
  rlhf::token_outputs<double> o;
  o.loss = out1;
  const std::vector<std::int64_t> late = {1, 6}, offsets = {0, 1, 2, 3};
  check(rlhf::policy_loss{rlhf::reinforce{}}(cpu, rlhf::packed(late), i, o),
        "policy_loss: layout.offsets starts at 1, wants 0");
  check(rlhf::policy_loss{rlhf::reinforce{}}(cpu, rlhf::padded(-1, 3), i, o),
        "policy_loss: layout has an extent of -1, wants 0 or more, and offsets that are contiguous");
  check(rlhf::policy_loss{rlhf::reinforce{}, rlhf::none{}, rlhf::prompt_mean{}}(cpu, rows, i, o),
        "policy_loss: groups has 0 elements, wants 2");
  i.groups = {rlhf::packed(offsets)};
  check(rlhf::policy_loss{rlhf::reinforce{}, rlhf::none{}, rlhf::prompt_mean{}}(cpu, rows, i, o),
        "policy_loss: groups has 3 elements, wants 2");
  check(rlhf::policy_loss{rlhf::none{}, rlhf::entropy_bonus{}}(cpu, rows, i, o),
        "policy_loss: entropy is null, wants a pointer to its elements");
  check(rlhf::policy_loss{rlhf::decoupled_ppo{}}(cpu, rows, i, o),
        "policy_loss: rollout_logp is null, wants a pointer to its elements");
  i.old_logp = {};
  check(rlhf::policy_loss{rlhf::sequence_ratio{rlhf::ppo_clip{}}}(cpu, rows, i, o),
        "policy_loss: old_logp is null, wants a pointer to its elements");
  check(rlhf::policy_loss{rlhf::gspo_token{}}(cpu, rows, i, o),
        "policy_loss: old_logp is null, wants a pointer to its elements");
  check(rlhf::policy_loss{rlhf::none{}, rlhf::importance_weighted{rlhf::k1{}}}(cpu, rows, i, o),
        "policy_loss: old_logp is null, wants a pointer to its elements");
}

TEST_CASE("hyperparameters outside their range") {
  rlhf::token_inputs<double> i;
  i.logp = i.old_logp = i.ref_logp = i.advantage = six;
  rlhf::token_outputs<double> o;
  o.loss = out1;
  const auto call = [&](const auto& objective) {
    return rlhf::policy_loss<std::decay_t<decltype(objective)>>{objective}(cpu, rows, i, o);
  };
  check(call(rlhf::ppo_clip{.low = 1.5}), "ppo_clip: low is 1.5, wants 0 <= low <= 1");
  check(call(rlhf::ppo_clip{.low = test::not_a_number}), "ppo_clip: low is nan, wants 0 <= low <= 1");
  check(call(rlhf::ppo_clip{.high = -0.1}), "ppo_clip: high is -0.1, wants 0 or more");
  check(call(rlhf::ppo_clip{.dual_clip = 1}), "ppo_clip: dual_clip is 1, wants more than 1 (infinity turns it off)");
  check(call(rlhf::ppo_clip{.ratio_bound = 0}),
        "ppo_clip: ratio_bound is 0, wants more than 0 (infinity turns it off)");
  check(call(rlhf::ppo_clip{.log_ratio_bound = -1}),
        "ppo_clip: log_ratio_bound is -1, wants more than 0 (infinity turns it off)");
  check(call(rlhf::sequence_ratio{rlhf::ppo_clip{.low = 2}}), "ppo_clip: low is 2, wants 0 <= low <= 1");
  check(call(rlhf::cispo{.low = 6}), "cispo: low is 6, wants 0 <= low <= high");
  check(rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, -1}}(cpu, rows, i, o),
        "kl_penalty: coefficient is -1, wants 0 or more");
  check(rlhf::policy_loss{rlhf::none{}, rlhf::both{rlhf::entropy_bonus{}, rlhf::kl_penalty{rlhf::k3{}, -1}}}(
            cpu, rows,
            [&] {
              auto with = i;
              with.entropy = six;
              return with;
            }(),
            o),
        "kl_penalty: coefficient is -1, wants 0 or more");
}

TEST_CASE("preference_loss on sums") {
  const rlhf::preference_loss loss{rlhf::ipo{}};
  const auto call = [&](const std::function<void(rlhf::pair_inputs<double>&, rlhf::pair_outputs<double>&)>& spoil) {
    rlhf::pair_inputs<double> i;
    i.chosen = i.rejected = i.ref_chosen = i.ref_rejected = i.chosen_length = i.rejected_length = six;
    rlhf::pair_outputs<double> o;
    o.loss = out1;
    o.grad_chosen = out6;
    spoil(i, o);
    return loss(cpu, i, o);
  };
  check(call([](auto& i, auto&) { i.rejected = {}; }),
        "preference_loss: rejected is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.rejected = five; }), "preference_loss: rejected has 5 elements, wants 6");
  check(call([](auto& i, auto& o) {
          i.chosen.extent = i.rejected.extent = i.ref_chosen.extent = i.ref_rejected.extent = -2;
          i.chosen_length.extent = i.rejected_length.extent = o.grad_chosen.extent = -2;
        }),
        "preference_loss: chosen has elements: -2, wants 0 or more");
  const auto with_nll = [&](const rlhf::chosen_nll& nll) {
    rlhf::pair_inputs<double> i;
    i.chosen = i.rejected = i.ref_chosen = i.ref_rejected = i.chosen_length = six;
    rlhf::pair_outputs<double> o;
    o.loss = out1;
    return rlhf::preference_loss{rlhf::dpo_sigmoid{}, rlhf::batch_mean{}, nll}(cpu, i, o);
  };
  check(with_nll({.weight = std::nan("")}), "chosen_nll: weight is nan, wants a finite number, 0 (no term) or more");
  check(with_nll({.weight = -1}), "chosen_nll: weight is -1, wants a finite number, 0 (no term) or more");
  check(with_nll({.weight = 1, .count = -3}), "chosen_nll: count is -3, wants 0 (count them) or more");
  check(call([](auto& i, auto&) { i.ref_chosen = {}; }),
        "preference_loss: ref_chosen is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.ref_rejected = five; }), "preference_loss: ref_rejected has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.chosen_length = {}; }),
        "preference_loss: chosen_length is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.rejected_length = five; }),
        "preference_loss: rejected_length has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.chosen_reward = five; }), "preference_loss: chosen_reward has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.margin = five; }), "preference_loss: margin has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.weight = five; }), "preference_loss: weight has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.mask = {mask.data(), 2}; }), "preference_loss: mask has 2 elements, wants 6");
  check(call([](auto&, auto& o) { o.loss = out2; }), "preference_loss: loss has 2 elements, wants 1");
  check(call([](auto&, auto& o) { o.grad_chosen = out5; }), "preference_loss: grad_chosen has 5 elements, wants 6");
  check(call([](auto&, auto& o) { o.grad_rejected = out5; }), "preference_loss: grad_rejected has 5 elements, wants 6");
  check(call([](auto&, auto& o) { o.per_pair = out5; }), "preference_loss: per_pair has 5 elements, wants 6");
  check(call([](auto&, auto& o) { o.reward_chosen = out5; }), "preference_loss: reward_chosen has 5 elements, wants 6");
  check(call([](auto&, auto& o) { o.reward_rejected = out5; }),
        "preference_loss: reward_rejected has 5 elements, wants 6");
  check(call([](auto&, auto& o) { o.nll = out2; }), "preference_loss: nll has 2 elements, wants 1");

  rlhf::pair_inputs<double> i;
  i.chosen = i.rejected = i.ref_chosen = i.ref_rejected = six;
  rlhf::pair_outputs<double> o;
  o.loss = out1;
  const auto with = [&](const auto& objective) {
    return rlhf::preference_loss<std::decay_t<decltype(objective)>>{objective}(cpu, i, o);
  };
  check(with(rlhf::rebel{}), "preference_loss: chosen_reward is null, wants a pointer to its elements");
  check(rlhf::preference_loss{rlhf::dpo_sigmoid{}, rlhf::batch_mean{}, rlhf::chosen_nll{.weight = 1}}(cpu, i, o),
        "preference_loss: chosen_length is null, wants a pointer to its elements");
  check(with(rlhf::dpo_sigmoid{.beta = 0}), "dpo_sigmoid: beta is 0, wants more than 0");
  check(with(rlhf::dpo_sigmoid{.label_smoothing = 0.5}),
        "dpo_sigmoid: label_smoothing is 0.5, wants 0 <= label_smoothing < 0.5");
  check(with(rlhf::exo_pair{.label_smoothing = 0}), "exo_pair: label_smoothing is 0, wants 0 < label_smoothing < 0.5");
}

TEST_CASE("preference_loss on tokens") {
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{}};
  const auto call =
      [&](const std::function<void(rlhf::token_pair_inputs<double>&, rlhf::pair_outputs<double>&)>& spoil) {
        rlhf::token_pair_inputs<double> i;
        i.chosen = i.rejected = {rows, six, six, {}};
        rlhf::pair_outputs<double> o;
        o.loss = out1;
        o.grad_chosen = out6;
        spoil(i, o);
        return loss(cpu, i, o);
      };
  check(call([](auto& i, auto&) { i.chosen.logp = {}; }),
        "preference_loss: chosen.logp is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.rejected.logp = five; }), "preference_loss: rejected.logp has 5 elements, wants 6");
  check(call([](auto& i, auto&) { i.chosen.ref_logp = {}; }),
        "preference_loss: chosen.ref_logp is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.rejected.ref_logp = five; }),
        "preference_loss: rejected.ref_logp has 5 elements, wants 6");
  check(call([](auto& i, auto&) {
          i.chosen.mask = {mask.data(), 1};
        }),
        "preference_loss: chosen.mask has 1 elements, wants 6");
  const std::vector<std::int64_t> late = {1, 4, 6};
  check(call([&](auto& i, auto&) { i.rejected.sequences = rlhf::packed(late); }),
        "preference_loss: rejected.sequences.offsets starts at 1, wants 0");
  check(call([](auto& i, auto&) { i.rejected.sequences = rlhf::padded(3, 2); }),
        "preference_loss: rejected.sequences has 3 sequences, wants 2");
  check(call([](auto& i, auto&) { i.weight = six; }), "preference_loss: weight has 6 elements, wants 2");
  check(call([](auto& i, auto&) { i.mask = {mask.data(), 6}; }), "preference_loss: mask has 6 elements, wants 2");
  check(call([](auto&, auto& o) { o.grad_chosen = out2; }), "preference_loss: grad_chosen has 2 elements, wants 6");
  check(call([](auto&, auto& o) { o.per_pair = out6; }), "preference_loss: per_pair has 6 elements, wants 2");
}

TEST_CASE("value_loss and reward_loss") {
  const auto value = [&](const std::function<void(rlhf::value_inputs<double>&, rlhf::value_outputs<double>&)>& spoil) {
    rlhf::value_inputs<double> i;
    i.value = i.old_value = i.returns = six;
    rlhf::value_outputs<double> o;
    o.loss = out1;
    o.grad_value = out6;
    spoil(i, o);
    return rlhf::value_loss{rlhf::clipped_value{}}(cpu, rows, i, o);
  };
  check(value([](auto& i, auto&) { i.value = {}; }), "value_loss: value is null, wants a pointer to its elements");
  check(value([](auto& i, auto&) { i.old_value = {}; }),
        "value_loss: old_value is null, wants a pointer to its elements");
  check(value([](auto& i, auto&) { i.returns = five; }), "value_loss: returns has 5 elements, wants 6");
  check(value([](auto& i, auto&) { i.mask = {mask.data(), 5}; }), "value_loss: mask has 5 elements, wants 6");
  check(value([](auto&, auto& o) { o.grad_value = out5; }), "value_loss: grad_value has 5 elements, wants 6");
  check(value([](auto&, auto& o) { o.per_token = out5; }), "value_loss: per_token has 5 elements, wants 6");
  rlhf::value_inputs<double> vi;
  vi.value = vi.old_value = vi.returns = six;
  rlhf::value_outputs<double> vo;
  vo.loss = out1;
  check(rlhf::value_loss{rlhf::clipped_value{.clip = 0}}(cpu, rows, vi, vo),
        "clipped_value: clip is 0, wants more than 0 (infinity turns it off)");
  check(rlhf::value_loss{rlhf::clipped_value{.scale = std::nan("")}}(cpu, rows, vi, vo),
        "clipped_value: scale is nan, wants a finite number above 0");

  const auto reward = [&](const rlhf::bradley_terry& o,
                          const std::function<void(rlhf::score_inputs<double>&, rlhf::score_outputs<double>&)>& spoil) {
    rlhf::score_inputs<double> i;
    i.chosen = i.rejected = six;
    rlhf::score_outputs<double> to;
    to.loss = out1;
    to.grad_chosen = out6;
    spoil(i, to);
    return rlhf::reward_loss{o}(cpu, i, to);
  };
  check(reward({}, [](auto& i, auto&) { i.rejected = {}; }),
        "reward_loss: rejected is null, wants a pointer to its elements");
  check(reward({}, [](auto& i, auto&) { i.rejected = five; }), "reward_loss: rejected has 5 elements, wants 6");
  check(reward({.use_margin = true}, [](auto&, auto&) {}),
        "reward_loss: margin is null, wants a pointer to its elements");
  check(reward({.soft_labels = true}, [](auto&, auto&) {}),
        "reward_loss: probability is null, wants a pointer to its elements");
  check(reward({.label_smoothing = 0.7}, [](auto&, auto&) {}),
        "bradley_terry: label_smoothing is 0.7, wants 0 <= label_smoothing < 0.5");
  check(reward({}, [](auto&, auto& o) { o.grad_rejected = out5; }),
        "reward_loss: grad_rejected has 5 elements, wants 6");
}

TEST_CASE("token_logp and token_logp_backward") {
  const std::vector<std::int32_t> target = {0, 1};
  const auto call = [&](const std::function<void(rlhf::logits_inputs<double>&, rlhf::logp_outputs<double>&)>& spoil) {
    rlhf::logits_inputs<double> i{{in.data(), 2, 3}, target};
    rlhf::logp_outputs<double> o;
    o.logp = out2;
    spoil(i, o);
    return rlhf::token_logp(cpu, i, o);
  };
  check(call([](auto& i, auto&) { i.logits.data = nullptr; }),
        "token_logp: logits is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.target = {}; }), "token_logp: target is null, wants a pointer to its elements");
  check(call([&](auto& i, auto&) { i.target = {target.data(), 1}; }), "token_logp: target has 1 elements, wants 2");
  check(call([](auto& i, auto&) { i.vocabulary = 4; }),
        "token_logp: vocabulary is 4, wants at most the columns of logits");
  check(call([](auto& i, auto&) { i.temperature = 0; }), "token_logp: temperature is 0, wants more than 0");
  check(call([](auto& i, auto&) { i.logits.pitch = 2; }),
        "token_logp: logits has a pitch of 2, wants rows that do not overlap");
  check(call([](auto& i, auto& o) { i.logits.rows = i.target.extent = o.logp.extent = -2; }),
        "token_logp: logits has rows: -2, wants 0 or more");
  check(call([](auto&, auto& o) { o.logp = out5; }), "token_logp: logp has 5 elements, wants 2");
  check(call([](auto&, auto& o) { o.entropy = out5; }), "token_logp: entropy has 5 elements, wants 2");
  check(call([](auto&, auto& o) { o.lse = out5; }), "token_logp: lse has 5 elements, wants 2");
  check(call([](auto&, auto& o) { o.square_sum = out5; }), "token_logp: square_sum has 5 elements, wants 2");

  const auto back = [&](const std::function<void(rlhf::logp_gradients<double>&, view<double, 2>&)>& spoil) {
    rlhf::logp_gradients<double> g{two, two, {}, {}};
    view<double, 2> to(out.data(), 2, 3);
    spoil(g, to);
    return rlhf::token_logp_backward(cpu, rlhf::logits_inputs<double>{{in.data(), 2, 3}, target}, g, to);
  };
  check(back([](auto& g, auto&) { g.lse = {}; }), "token_logp_backward: lse is null, wants a pointer to its elements");
  check(back([](auto& g, auto&) { g.lse = three; }), "token_logp_backward: lse has 3 elements, wants 2");
  check(back([](auto& g, auto&) { g.grad_logp = {}; }),
        "token_logp_backward: grad_logp is null, wants a pointer to its elements");
  check(back([](auto& g, auto&) { g.grad_entropy = two; }),
        "token_logp_backward: entropy is null, wants a pointer to its elements");
  check(back([](auto&, auto& to) { to.data = nullptr; }),
        "token_logp_backward: grad_logits is null, wants a pointer to its elements");
  check(back([](auto&, auto& to) { to.rows = 1; }), "token_logp_backward: grad_logits has 1 rows, wants 2");
  check(back([](auto&, auto& to) { to.pitch = 2; }),
        "token_logp_backward: grad_logits has a pitch of 2, wants rows that do not overlap");
  check(back([](auto&, auto& to) { to.columns = 2; }),
        "token_logp_backward: grad_logits has columns: 2, wants at least the vocabulary");
}

TEST_CASE("full_kl") {
  const auto call =
      [&](const std::function<void(rlhf::full_kl_inputs<double>&, rlhf::full_kl_outputs<double>&)>& spoil) {
        rlhf::full_kl_inputs<double> i{{in.data(), 2, 3}, {in.data(), 2, 3}};
        rlhf::full_kl_outputs<double> o;
        o.kl = out2;
        spoil(i, o);
        return rlhf::full_kl(cpu, i, o);
      };
  check(call([](auto& i, auto&) { i.logits.data = nullptr; }),
        "full_kl: logits is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.ref_logits.data = nullptr; }),
        "full_kl: ref_logits is null, wants a pointer to its elements");
  check(call([](auto& i, auto&) { i.ref_logits.rows = 1; }), "full_kl: ref_logits has 1 rows, wants 2");
  check(call([](auto& i, auto&) { i.vocabulary = 4; }),
        "full_kl: vocabulary is 4, wants at most the columns of both logits");
  check(call([](auto& i, auto&) { i.temperature = -1; }), "full_kl: temperature is -1, wants more than 0");
  check(call([](auto& i, auto&) { i.mask = {mask.data(), 3}; }), "full_kl: mask has 3 elements, wants 2");
  check(call([](auto&, auto& o) { o.kl = out5; }), "full_kl: kl has 5 elements, wants 2");
  check(call([](auto&, auto& o) { o.grad_kl = five; }), "full_kl: grad_kl has 5 elements, wants 2");
  check(call([](auto&, auto& o) { o.grad_logits = {out.data(), 3, 3}; }), "full_kl: grad_logits has 3 rows, wants 2");
  check(call([](auto&, auto& o) {
          o.grad_logits = {out.data(), 2, 3, 1};
        }),
        "full_kl: grad_logits has a pitch of 1, wants rows that do not overlap");
  check(call([](auto& i, auto&) { i.logits.rows = -2; }), "full_kl: logits has rows: -2, wants 0 or more");
}

TEST_CASE("critic-free algorithms: rewards and advantages of groups") {
  const std::vector<double> scores = {1, 3};
  const auto call = [&](const std::function<void(rlhf::gspo&, rlhf::group_rollout_inputs<double>&,
                                                 rlhf::group_rollout_outputs<double>&)>& spoil) {
    rlhf::gspo algorithm;
    rlhf::group_rollout_inputs<double> i{.old_logp = six, .score = scores, .groups = {rlhf::padded(1, 2)}};
    rlhf::group_rollout_outputs<double> o{out6, {out.data() + 6, 6}};
    spoil(algorithm, i, o);
    return algorithm.prepare(cpu, rows, i, o);
  };
  check(call([](auto&, auto&, auto& o) { o.advantage = {}; }),
        "critic_free: advantage is null, wants a pointer to its elements");
  check(call([](auto&, auto&, auto& o) { o.advantage = out2; }), "critic_free: advantage has 2 elements, wants 6");
  check(call([](auto&, auto& i, auto&) { i.score = {}; }),
        "critic_free: score is null, wants a pointer to its elements");
  check(call([](auto& a, auto&, auto&) { a.reward.coefficient = 0.1; }),
        "reward_shaping: ref_logp is null, wants a pointer to its elements");

  // No KL is paid, so no reference is asked for. Masked slots are 0, and a stride is kept to.
  const std::vector<std::uint8_t> head = {1, 1, 0, 1, 0, 0};
  REQUIRE(call([&](auto&, auto& i, auto& o) {
    i.mask = head;
    o.advantage = {out.data() + 6, 6, 2};
  }));
  const double a = 1 / (std::sqrt(2.0) + 1e-4);
  for (std::size_t t = 0; t < 6; ++t) {
    CHECK(out[6 + 2 * t] == Approx(head[t] == 0 ? 0 : t < 3 ? -a : a).epsilon(1e-12));
    CHECK(out[7 + 2 * t] == 7);
  }
  out.assign(24, 7.0);
}

TEST_CASE("advantages, whitening, groups") {
  const auto call =
      [&](const rlhf::gae& how,
          const std::function<void(rlhf::advantage_inputs<double>&, rlhf::advantage_outputs<double>&)>& spoil) {
        rlhf::advantage_inputs<double> i;
        i.reward = i.value = six;
        rlhf::advantage_outputs<double> o;
        o.advantage = out6;
        spoil(i, o);
        return rlhf::advantage_estimate{how}(cpu, rows, i, o);
      };
  check(call({}, [](auto& i, auto&) { i.reward = {}; }),
        "advantage_estimate: reward is null, wants a pointer to its elements");
  check(call({}, [](auto& i, auto&) { i.reward = five; }), "advantage_estimate: reward has 5 elements, wants 6");
  check(call({}, [](auto& i, auto&) { i.value = five; }), "advantage_estimate: value has 5 elements, wants 6");
  check(call({},
             [](auto& i, auto&) {
               i.mask = {mask.data(), 5};
             }),
        "advantage_estimate: mask has 5 elements, wants 6");
  check(call({}, [](auto& i, auto&) { i.bootstrap = six; }), "advantage_estimate: bootstrap has 6 elements, wants 2");
  check(call({}, [](auto&, auto& o) { o.returns = out5; }), "advantage_estimate: returns has 5 elements, wants 6");
  check(call({.gamma = 1.1}, [](auto&, auto&) {}), "gae: gamma is 1.1, wants 0 <= gamma <= 1");
  check(call({.lambda = -0.1}, [](auto&, auto&) {}), "gae: lambda is -0.1, wants 0 <= lambda <= 1");

  const rlhf::whitening white;
  check(white(cpu, rlhf::whiten_inputs<double>{view<const double>(nullptr, 6), {}}, out6),
        "whitening: x is null, wants a pointer to its elements");
  check(white(cpu, rlhf::whiten_inputs<double>{six, {}}, out5), "whitening: out has 5 elements, wants 6");
  check(white(cpu, rlhf::whiten_inputs<double>{six, {}}, {}),
        "whitening: out is null, wants a pointer to its elements");
  check(white(cpu, rlhf::whiten_inputs<double>{six, {mask.data(), 5}}, out6),
        "whitening: mask has 5 elements, wants 6");

  const std::vector<std::int64_t> offsets = {0, 3, 5}, late = {1, 6};
  const rlhf::grouped groups{rlhf::group_advantage{}};
  check(groups(cpu, rlhf::group_inputs<double>{{rlhf::packed(offsets)}, six}, out6),
        "grouped: groups has 5 elements, wants 6");
  check(groups(cpu, rlhf::group_inputs<double>{{rlhf::packed(offsets)}, five}, out6),
        "grouped: out has 6 elements, wants 5");
  check(rlhf::grouped{rlhf::group_advantage{.epsilon = -1}}(
            cpu, rlhf::group_inputs<double>{{rlhf::packed(offsets)}, five}, out5),
        "group_advantage: epsilon is -1, wants 0 or more");
  check(groups(cpu, rlhf::group_inputs<double>{{rlhf::packed(late)}, six}, out6),
        "grouped: groups.offsets starts at 1, wants 0");
  const std::vector<std::int64_t> all = {0, 6}, order = {0, 1, 2, 3, 4, 6};
  check(groups(cpu, rlhf::group_inputs<double>{{rlhf::packed(all), order.data()}, six}, out6),
        "grouped: groups.order has the element 6, wants an index into the members of the groups");
}

TEST_CASE("reward_shaping") {
  const auto call =
      [&](const auto& rule,
          const std::function<void(rlhf::shaping_inputs<double>&, rlhf::shaping_outputs<double>&)>& spoil) {
        rlhf::shaping_inputs<double> i;
        i.old_logp = i.ref_logp = six;
        i.score = two;
        rlhf::shaping_outputs<double> o;
        o.reward = out6;
        spoil(i, o);
        return rlhf::reward_shaping{rule}(cpu, rows, i, o);
      };
  const rlhf::kl_in_reward kl{rlhf::k1{}};
  check(call(kl, [](auto& i, auto&) { i.old_logp = {}; }),
        "reward_shaping: old_logp is null, wants a pointer to its elements");
  check(call(kl, [](auto& i, auto&) { i.ref_logp = five; }), "reward_shaping: ref_logp has 5 elements, wants 6");
  check(call(kl, [](auto& i, auto&) { i.score = six; }), "reward_shaping: score has 6 elements, wants 2");
  check(call(kl, [](auto& i, auto&) { i.mask = {mask.data(), 5}; }), "reward_shaping: mask has 5 elements, wants 6");
  check(call(kl, [](auto&, auto& o) { o.reward = out5; }), "reward_shaping: reward has 5 elements, wants 6");
  check(call(rlhf::kl_in_reward{rlhf::k1{}, -1}, [](auto&, auto&) {}),
        "kl_in_reward: coefficient is -1, wants 0 or more");
  check(call(rlhf::kl_in_reward{rlhf::k1{}, 0.1, rlhf::score_placement::last, rlhf::score_clip{2, 1}},
             [](auto&, auto&) {}),
        "kl_in_reward: clip.low is 2, wants at most clip.high");
  check(call(rlhf::rto_reward{}, [](auto&, auto&) {}),
        "reward_shaping: dpo_logp is null, wants a pointer to its elements");
  check(call(rlhf::rto_reward{.mode = rlhf::rto_mode::semi}, [](auto& i, auto&) { i.dpo_logp = six; }),
        "reward_shaping: segment is null, wants a pointer to its elements");
  check(call(rlhf::rto_reward{.clip = 0}, [](auto& i, auto&) { i.dpo_logp = six; }),
        "rto_reward: clip is 0, wants more than 0 (infinity turns it off)");
}
