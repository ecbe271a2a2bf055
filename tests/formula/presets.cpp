// Presets of other libraries: each is the composition written out here, and has the defaults with which the golden
// vectors were executed there.

#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/algorithm/preset/openrlhf.hpp"
#include "rlhf/algorithm/preset/trl_1_9.hpp"
#include "rlhf/algorithm/preset/verl.hpp"

namespace {

namespace trl = rlhf::preset::trl_1_9;
namespace verl = rlhf::preset::verl;
namespace openrlhf = rlhf::preset::openrlhf;

struct pairs {
  std::vector<double> stream[10];
  explicit pairs(unsigned seed, std::size_t n = 11) {
    std::mt19937 random(seed);
    for (int k = 0; k < 4; ++k) stream[k] = test::uniform(random, n, -20, -3);
    for (int k = 4; k < 6; ++k) stream[k] = test::uniform(random, n, 1, 20);
    for (int k = 6; k < 10; ++k) stream[k] = test::uniform(random, n, -2, 2);
  }
  [[nodiscard]] rlhf::pair_inputs<double> inputs() const {
    return {stream[0], stream[1], stream[2], stream[3], stream[4], stream[5],
            stream[6], stream[7], stream[8], {},        {},        {}};
  }
};

using numbers = std::vector<double>;

/// Loss and gradients, one after the other.
template <class Loss>
numbers on_pairs(const Loss& loss) {
  const pairs b(17);
  rlhf::reference_backend backend;
  const std::size_t n = b.stream[0].size();
  numbers found(1 + 2 * n, test::not_a_number);
  rlhf::pair_outputs<double> out;
  out.loss = {found.data(), 1};
  out.grad_chosen = {found.data() + 1, static_cast<std::int64_t>(n)};
  out.grad_rejected = {found.data() + 1 + n, static_cast<std::int64_t>(n)};
  const rlhf::status done = loss(backend, b.inputs(), out);
  INFO(test::text(done));
  REQUIRE(done);
  return found;
}
template <class Loss>
numbers on_responses(const Loss& loss) {
  const pairs b(17);
  rlhf::reference_backend backend;
  const std::size_t n = b.stream[0].size();
  numbers label(n), found(1 + n, test::not_a_number);
  for (std::size_t i = 0; i < n; ++i) label[i] = static_cast<double>(i % 2);
  const double point = 0.7;
  rlhf::unpaired_inputs<double> in;
  in.logp = b.stream[0];
  in.ref_logp = b.stream[1];
  in.label = label;
  in.reference_point = {&point, 1};
  rlhf::unpaired_outputs<double> out;
  out.loss = {found.data(), 1};
  out.grad_logp = {found.data() + 1, static_cast<std::int64_t>(n)};
  const rlhf::status done = loss(backend, in, out);
  INFO(test::text(done));
  REQUIRE(done);
  return found;
}
template <class Loss>
numbers on_tokens(const Loss& loss) {
  const auto r = test::run(loss, test::padded_batch(5));
  INFO(test::text(r.status));
  REQUIRE(test::worked(r.status));
  numbers found = r.grad_logp;
  found.push_back(r.loss);
  return found;
}
/// A call in the form that `run` wants.
template <class F>
struct as_loss {
  F call;
  template <class B>
  rlhf::status operator()(B& be, const rlhf::layout<>& sequences, const rlhf::token_inputs<double>& in,
                          const rlhf::token_outputs<double>& out) const {
    return call(be, sequences, in, out);
  }
};
template <class Algorithm>
numbers on_policy(const Algorithm& algorithm) {
  const auto call = [&](auto& be, const auto& sequences, const auto& in, const auto& out) {
    return algorithm.policy(be, sequences, in, out);
  };
  return on_tokens(as_loss<decltype(call)>{call});
}
template <class Loss>
numbers on_sequences(const Loss& loss) {
  const auto b = test::padded_batch(5);
  rlhf::reference_backend backend;
  numbers found(b.size() + 1, test::not_a_number);
  rlhf::sequence_inputs<double> in;
  in.logp = b.logp;
  in.old_logp = b.old_logp;
  in.advantage = b.advantage;
  in.mask = b.mask;
  rlhf::sequence_outputs<double> out;
  out.grad_logp = {found.data(), static_cast<std::int64_t>(b.size())};
  out.loss = {found.data() + b.size(), 1};
  const rlhf::status done = loss(backend, b.layout(), in, out);
  INFO(test::text(done));
  REQUIRE(done);
  return found;
}
/// Groups of 1, 2 and 4 responses.
template <class Estimator>
numbers on_groups(const rlhf::grouped<Estimator>& estimate) {
  const numbers reward{3, 0.5, 1.5, -1, 0, 2, 0}, length{3, 4, 5, 6, 7, 8, 9};
  const std::vector<std::int64_t> offsets{0, 1, 3, 7};
  rlhf::reference_backend backend;
  numbers advantage(reward.size(), test::not_a_number);
  rlhf::group_inputs<double> in;
  in.groups.groups = rlhf::packed(offsets);
  in.reward = reward;
  in.weight = length;
  const rlhf::status done = estimate(backend, in, advantage);
  INFO(test::text(done));
  REQUIRE(done);
  return advantage;
}
/// Rewards, advantages and returns.
template <class Ppo>
numbers on_rollout(const Ppo& ppo) {
  auto b = test::padded_batch(9);
  for (auto* stream : b.streams())
    for (std::size_t i = 0; i < b.size(); ++i)
      if (b.mask[i] == 0) (*stream)[i] = 0.25;  // TRL's recursion walks through what stands there
  rlhf::reference_backend backend;
  numbers score(9), found(3 * b.size(), test::not_a_number);
  for (std::size_t i = 0; i < 9; ++i) score[i] = 4 * static_cast<double>(i) - 16;
  rlhf::rollout_inputs<double> in;
  in.old_logp = b.old_logp;
  in.ref_logp = b.ref_logp;
  in.value = b.entropy;
  in.score = score;
  in.mask = b.mask;
  const auto part = [&](std::size_t k) {
    return rlhf::view<double>(found.data() + k * b.size(), static_cast<std::int64_t>(b.size()));
  };
  rlhf::rollout_outputs<double> out;
  out.reward = part(0);
  out.advantage = part(1);
  out.returns = part(2);
  const rlhf::status done = ppo.prepare(backend, b.layout(), in, out);
  INFO(test::text(done));
  REQUIRE(done);
  return found;
}

/// The values that a parameter has in the vectors of an objective that a library was executed for. Numbers as they are
/// written.
std::set<double> executed(const std::string& op, const std::string& objective, const std::string& library,
                          const std::string& parameter) {
  std::ifstream file(RLHF_TESTS_DIR "/golden/" + op + ".jsonl");
  std::set<double> found;
  for (std::string line; std::getline(file, line);) {
    const auto source = line.find("\"source\":\"executed");
    if (line.find("\"objective\":\"" + objective + "\"") == std::string::npos || source == std::string::npos) continue;
    if (line.find(library, source) == std::string::npos) continue;
    const auto params = line.find("\"params\":");
    const auto at = line.find("\"" + parameter + "\":", params);
    if (at == std::string::npos || at > line.find("\"inputs\":", params)) continue;
    std::istringstream text(line.substr(at + parameter.size() + 3));
    double value = 0;
    if (text >> value) found.insert(value);
  }
  return found;
}

}  // namespace

TEST_CASE("TRL's pair losses are the compositions that they name") {
  using rlhf::preference_loss;
  CHECK(on_pairs(trl::dpo()) == on_pairs(preference_loss{rlhf::dpo_sigmoid{0.1}}));
  CHECK(on_pairs(trl::sigmoid_norm()) == on_pairs(preference_loss{rlhf::dpo_sigmoid_norm{0.1}}));
  CHECK(on_pairs(trl::hinge()) == on_pairs(preference_loss{rlhf::dpo_hinge{0.1}}));
  CHECK(on_pairs(trl::ipo()) == on_pairs(preference_loss{rlhf::ipo{0.1}}));
  CHECK(on_pairs(trl::robust()) == on_pairs(trl::dpo()));  // no smoothing, nothing to be robust against
  CHECK(on_pairs(trl::exo_pair(1e-3)) == on_pairs(preference_loss{rlhf::exo_pair{0.1, 1e-3}}));
  CHECK(on_pairs(trl::nca_pair()) == on_pairs(preference_loss{rlhf::nca_pair{0.1}}));
  CHECK(on_pairs(trl::bco_pair()) == on_pairs(preference_loss{rlhf::bco_pair{0.1}}));
  CHECK(on_pairs(trl::sppo_hard()) == on_pairs(preference_loss{rlhf::sppo_hard{0.1}}));
  CHECK(on_pairs(trl::apo_zero()) == on_pairs(preference_loss{rlhf::apo_zero{0.1}}));
  CHECK(on_pairs(trl::apo_down()) == on_pairs(preference_loss{rlhf::apo_down{0.1}}));
  CHECK(on_pairs(trl::discopop()) == on_pairs(preference_loss{rlhf::discopop{0.1, 0.05}}));
  CHECK(trl::aot().paired);
  CHECK_FALSE(trl::aot_unpaired().paired);
  CHECK(trl::aot().objective.beta == 0.1);
  CHECK(trl::alpha_divergence().alpha == 0.5);

  const rlhf::chosen_nll nll{.weight = 1};
  CHECK(on_pairs(trl::cpo()) == on_pairs(preference_loss{rlhf::cpo{0.1}, rlhf::batch_mean{}, nll}));
  CHECK(on_pairs(trl::cpo_hinge()) == on_pairs(preference_loss{rlhf::cpo_hinge{0.1}, rlhf::batch_mean{}, nll}));
  CHECK(on_pairs(trl::cpo_ipo()) == on_pairs(preference_loss{rlhf::cpo_ipo{0.1}, rlhf::batch_mean{}, nll}));
  CHECK(on_pairs(trl::cpo_simpo()) == on_pairs(preference_loss{rlhf::simpo{0.1, 0.5}, rlhf::batch_mean{}, nll}));
  CHECK(on_pairs(trl::simpo()) == on_pairs(preference_loss{rlhf::simpo{0.1, 0.5}}));
  CHECK(on_pairs(trl::simpo()) != on_pairs(trl::cpo_simpo()));
  CHECK(on_pairs(trl::orpo().pairs) == on_pairs(preference_loss{rlhf::orpo{0.1}}));
  CHECK(on_pairs(trl::tpo().pairs) == on_pairs(preference_loss{rlhf::cpo{0.01}}));
  CHECK(trl::orpo().nll_weight == 1);

  CHECK(on_pairs(trl::online_dpo()) == on_pairs(preference_loss{rlhf::ranked{rlhf::dpo_sigmoid{0.1}}}));
  CHECK(on_pairs(trl::online_ipo()) == on_pairs(preference_loss{rlhf::ranked{rlhf::ipo_sum{0.1}}}));
  CHECK(on_pairs(trl::xpo()) == on_pairs(preference_loss{rlhf::xpo{rlhf::dpo_sigmoid{0.1}, 1e-5}}));
  CHECK(on_responses(trl::kto()) == on_responses(rlhf::unpaired_loss{rlhf::kto{0.1, 1, 1}}));
  CHECK(on_responses(trl::apo_zero_unpaired()) ==
        on_responses(rlhf::unpaired_loss{rlhf::apo_zero_unpaired{0.1, 1, 1}}));
  CHECK(on_responses(trl::bco()) == on_responses(rlhf::unpaired_loss{rlhf::bco{0.1}}));
  CHECK(on_responses(trl::a2po()) == on_responses(rlhf::unpaired_loss{rlhf::optimal_advantage_regression{1e-3}}));
  CHECK(on_groups(trl::a2po_value()) == on_groups(rlhf::grouped{rlhf::optimal_value{0.5}}));
}

TEST_CASE("OpenRLHF's DPO is TRL's but for the NLL term, and its IPO is not TRL's") {
  CHECK(on_pairs(openrlhf::dpo()) == on_pairs(trl::dpo()));
  const rlhf::chosen_nll by_sequence{.weight = 0.2, .reduction = rlhf::nll_reduction::sequence_mean};
  CHECK(on_pairs(openrlhf::dpo(0.2)) ==
        on_pairs(rlhf::preference_loss{rlhf::dpo_sigmoid{0.1}, rlhf::batch_mean{}, by_sequence}));
  auto by_token = trl::dpo();
  by_token.nll = trl::sft_term();
  by_token.nll.weight = 0.2;
  CHECK(on_pairs(openrlhf::dpo(0.2)) != on_pairs(by_token));
  CHECK(on_pairs(openrlhf::ipo()) == on_pairs(rlhf::preference_loss{rlhf::ipo_sum{0.1}}));
  CHECK(on_pairs(openrlhf::ipo()) != on_pairs(trl::ipo()));
}

TEST_CASE("Policy losses of the three libraries are the compositions that they name") {
  using rlhf::none, rlhf::policy_loss, rlhf::ppo_clip;
  const ppo_clip plain{0.2, 0.2}, bounded{0.2, 0.2, rlhf::infinity, rlhf::infinity, 20},
      dual{0.2, 0.2, 3, rlhf::infinity, 20};
  CHECK(on_policy(trl::grpo()) == on_tokens(policy_loss{plain}));
  CHECK(on_policy(trl::grpo(100)) == on_tokens(policy_loss{plain, none{}, rlhf::token_mean{.tokens = 100}}));
  CHECK(on_policy(trl::loss_type::bnpo()) == on_policy(trl::grpo()));
  CHECK(on_policy(trl::loss_type::grpo()) == on_tokens(policy_loss{plain, none{}, rlhf::row_mean{}}));
  CHECK(on_policy(trl::loss_type::dr_grpo(64)) ==
        on_tokens(policy_loss{plain, none{}, rlhf::fixed_length{.length = 64}}));
  CHECK(on_tokens(trl::loss_type::cispo(5)) == on_tokens(policy_loss{rlhf::cispo{0, 5}}));
  CHECK(on_tokens(trl::loss_type::sapo()) == on_tokens(policy_loss{rlhf::sapo{1, 1.05}, none{}, rlhf::row_mean{}}));
  CHECK(on_tokens(trl::loss_type::vespo()) == on_tokens(policy_loss{rlhf::reinforce{}}));
  CHECK(on_tokens(trl::loss_type::luspo()) ==
        on_tokens(policy_loss{rlhf::sequence_ratio{plain}, none{}, rlhf::length_weighted_mean{}}));
  CHECK(on_tokens(trl::sequence_level(rlhf::row_mean{})) ==
        on_tokens(policy_loss{rlhf::sequence_ratio{plain}, none{}, rlhf::row_mean{}}));
  CHECK(on_tokens(trl::sequence_level()) != on_tokens(trl::sequence_level(rlhf::row_mean{})));
  CHECK(on_tokens(trl::nash_md()) ==
        on_tokens(policy_loss{rlhf::nash_md_token{0.1}, none{}, rlhf::fixed_length{.length = 1}}));
  CHECK(on_tokens(trl::sft()) == on_tokens(policy_loss{rlhf::negative_log_likelihood{}}));
  CHECK(on_tokens(trl::dft()) == on_tokens(policy_loss{rlhf::dynamic_fine_tuning{}}));
  CHECK(on_sequences(trl::rloo().loss) ==
        on_sequences(rlhf::sequence_policy_loss<ppo_clip, rlhf::summed_log_ratio>{plain, {}, {}, true}));
  CHECK(on_sequences(trl::gmpo()) ==
        on_sequences(rlhf::sequence_policy_loss<rlhf::importance_sampling, rlhf::one_sided_log_ratio>{
            {}, {0.4, 0.4}, {}, true}));

  CHECK(on_tokens(verl::loss_mode::vanilla()) == on_tokens(policy_loss{dual}));
  CHECK(on_tokens(verl::loss_mode::vanilla(rlhf::sequence_mean_token_mean{})) ==
        on_tokens(policy_loss{dual, none{}, rlhf::sequence_mean_token_mean{}}));
  CHECK(on_policy(verl::grpo()) == on_tokens(policy_loss{dual}));
  CHECK(on_policy(verl::grpo_with_kl(0.3)) == on_tokens(policy_loss{dual, rlhf::kl_penalty{rlhf::k3{20, 10}, 0.3}}));
  CHECK(on_policy(verl::dr_grpo(50)) ==
        on_tokens(policy_loss{dual, none{}, rlhf::sequence_mean_token_sum{.divisor = 50}}));
  CHECK(on_tokens(verl::loss_mode::gspo(3e-4, 4e-4)) ==
        on_tokens(policy_loss{rlhf::gspo_token{3e-4, 4e-4, 10}, none{}, rlhf::sequence_mean_token_mean{}}));
  CHECK(on_tokens(verl::loss_mode::sapo()) ==
        on_tokens(policy_loss{rlhf::sapo{1, 1.05, 20}, none{}, rlhf::sequence_mean_token_mean{}}));
  CHECK(on_tokens(verl::loss_mode::cispo()) == on_tokens(policy_loss{rlhf::cispo{0.8, 1.2, 20}}));
  CHECK(on_tokens(verl::loss_mode::cispo()) != on_tokens(trl::loss_type::cispo(5)));
  CHECK(on_tokens(verl::loss_mode::dppo_tv()) == on_tokens(policy_loss{rlhf::dppo_total_variation{0.2, 0.2, 20, 20}}));
  CHECK(on_tokens(verl::loss_mode::dppo_kl(0.1, 0.2)) ==
        on_tokens(policy_loss{rlhf::dppo_binary_kl{0.1, 0.2, 20, 20}}));
  CHECK(on_tokens(verl::loss_mode::dro(0.2)) == on_tokens(policy_loss{rlhf::direct_reward_optimisation{0.2}}));
  CHECK(on_tokens(verl::loss_mode::reinforce()) == on_tokens(policy_loss{rlhf::reinforce{}}));
  CHECK(on_sequences(verl::loss_mode::geo_mean()) ==
        on_sequences(
            rlhf::sequence_policy_loss<rlhf::importance_sampling, rlhf::one_sided_log_ratio>{{}, {0.2, 0.2}, {}}));
  CHECK(on_tokens(verl::sft()) == on_tokens(trl::sft()));

  CHECK(on_policy(openrlhf::grpo()) == on_tokens(policy_loss{bounded}));
  CHECK(on_policy(openrlhf::grpo_with_kl(0.3)) ==
        on_tokens(policy_loss{bounded, rlhf::kl_penalty{rlhf::k3{.bound = 10}, 0.3}}));
  CHECK(on_tokens(openrlhf::gspo(0.1, 0.2)) ==
        on_tokens(policy_loss{rlhf::sequence_ratio{ppo_clip{0.1, 0.2}}, none{}, rlhf::sequence_mean_token_mean{}}));
}

TEST_CASE("Group advantages: the epsilon and the group of one tell the libraries apart") {
  using rlhf::group_advantage, rlhf::group_scale, rlhf::grouped, rlhf::lone_response;
  const auto of = [](const auto& algorithm) { return on_groups(grouped{algorithm.estimator}); };
  CHECK(of(trl::grpo()) == on_groups(grouped{group_advantage{group_scale::group, 1e-4, lone_response::zero}}));
  CHECK(of(verl::grpo()) == on_groups(grouped{group_advantage{group_scale::group, 1e-6, lone_response::raw}}));
  CHECK(of(openrlhf::grpo()) == on_groups(grouped{group_advantage{group_scale::group, 1e-9, lone_response::zero}}));
  CHECK(of(verl::dr_grpo(1)) == on_groups(grouped{group_advantage{group_scale::none, 0, lone_response::raw}}));
  CHECK(of(trl::grpo())[0] == 0);
  CHECK(of(verl::grpo())[0] == Approx(3 / (1 + 1e-6)).epsilon(1e-12));
  CHECK(on_groups(trl::rloo().advantage) == on_groups(grouped{rlhf::leave_one_out{lone_response::zero}}));
  CHECK(on_groups(verl::adv_estimator::rloo()) == on_groups(grouped{rlhf::leave_one_out{lone_response::raw}}));
  CHECK(on_groups(verl::adv_estimator::rloo())[0] == 3);
  CHECK(on_groups(verl::adv_estimator::rloo_vectorized()) == on_groups(openrlhf::advantage_estimator::rloo()));
  CHECK(on_groups(verl::adv_estimator::reinforce_plus_plus_baseline())[0] == 3);
  CHECK(on_groups(openrlhf::advantage_estimator::reinforce_baseline())[0] == 0);
  CHECK(on_groups(openrlhf::advantage_estimator::dr_grpo())[1] == -0.5);
  CHECK(on_groups(verl::adv_estimator::opo()) == on_groups(grouped{rlhf::optimal_baseline{}}));
  CHECK(on_groups(verl::adv_estimator::gpg()) == on_groups(grouped{rlhf::group_policy_gradient{1}}));
  CHECK(on_groups(verl::adv_estimator::grpo_passk()) == on_groups(grouped{rlhf::pass_at_k{true, 1e-6}}));
  CHECK(verl::adv_estimator::gdpo().estimator.epsilon == 1e-6);
  CHECK(verl::adv_estimator::tir_optimal_token_baseline().how.compact);
  CHECK_FALSE(verl::adv_estimator::optimal_token_baseline().how.compact);
}

TEST_CASE("PPO: rewards, advantages and critics of the three libraries") {
  using rlhf::basic_ppo, rlhf::gap, rlhf::k1, rlhf::kl_in_reward, rlhf::score_placement;
  basic_ppo<kl_in_reward<k1>> hand;
  hand.reward = {{}, 0.05, score_placement::after_eos};
  hand.estimator = {1, 0.95, gap::plain};
  CHECK(on_rollout(trl::ppo()) == on_rollout(hand));
  hand.reward = {{}, 0.1, score_placement::last};
  hand.estimator = {1, 1, gap::carry};
  CHECK(on_rollout(verl::ppo(0.1)) == on_rollout(hand));
  hand.reward = {{10}, 0.1, score_placement::last, {-10, 10}};
  hand.estimator = {1, 1, gap::zero};
  hand.normalisation = {true, rlhf::spread::clamped, 1e-8, true};
  CHECK(on_rollout(openrlhf::ppo(0.1)) == on_rollout(hand));

  CHECK(on_policy(trl::ppo()) == on_policy(trl::grpo()));
  CHECK(on_policy(verl::ppo(0)) == on_policy(verl::grpo()));
  CHECK(on_policy(openrlhf::ppo(0)) == on_policy(openrlhf::grpo()));
  CHECK(trl::ppo().critic.clip == 0.2);
  CHECK(verl::ppo(0).critic.clip == 0.5);
  CHECK(verl::ppo(0).critic.form == rlhf::value_clip::bounds);
  CHECK(openrlhf::ppo(0).critic.clip == 0.5);
  CHECK(openrlhf::ppo(0).critic.form == rlhf::value_clip::difference);
  CHECK(openrlhf::ppo(0).reward.clip(12) == 10);
  CHECK(verl::adaptive_kl(0.001).target == 0.1);
  CHECK(openrlhf::kl_controller(0.02).coefficient == 0.02);
}

TEST_CASE("Presets have the defaults with which the libraries were executed") {
  const auto stated = [](const char* op, const char* objective, const char* library, const char* parameter,
                         double ours) {
    const auto values = executed(op, objective, library, parameter);
    CAPTURE(op, objective, library, parameter, ours);
    REQUIRE_FALSE(values.empty());
    CHECK(values.count(ours) == 1);
  };
  const auto pair = [&](const char* objective, double beta) {
    stated("preference_loss", objective, "TRL", "beta", beta);
  };
  pair("sigmoid", trl::dpo().objective.beta);
  pair("hinge", trl::hinge().objective.beta);
  pair("ipo", trl::ipo().objective.beta);
  pair("robust", trl::robust().objective.beta);
  pair("exo_pair", trl::exo_pair(1e-3).objective.beta);
  pair("nca_pair", trl::nca_pair().objective.beta);
  pair("bco_pair", trl::bco_pair().objective.beta);
  pair("sppo_hard", trl::sppo_hard().objective.beta);
  pair("aot", trl::aot().objective.beta);
  pair("aot_unpaired", trl::aot_unpaired().objective.beta);
  pair("apo_zero", trl::apo_zero().objective.beta);
  pair("apo_down", trl::apo_down().objective.beta);
  pair("discopop", trl::discopop().objective.beta);
  pair("cpo", trl::cpo().objective.beta);
  pair("orpo", trl::orpo().pairs.objective.beta);
  pair("xpo", trl::xpo().objective.objective.beta);
  pair("nash_md", trl::nash_md().objective.beta);
  stated("preference_loss", "discopop", "TRL", "discopop_tau", trl::discopop().objective.temperature);
  stated("preference_loss", "cpo", "TRL", "nll_weight", trl::cpo().nll.weight);
  stated("preference_loss", "orpo", "TRL", "nll_weight", trl::orpo().nll_weight);
  stated("preference_loss", "tpo", "TRL", "alpha", trl::tpo().nll_weight);
  stated("preference_loss", "simpo", "TRL", "gamma", trl::simpo().objective.gamma);
  stated("preference_loss", "xpo", "TRL", "alpha", trl::xpo().objective.alpha);
  stated("preference_loss", "a2po", "TRL", "beta1", trl::a2po_value().estimator.beta);
  stated("preference_loss", "a2po", "TRL", "beta2", trl::a2po().objective.beta);
  stated("unpaired_loss", "kto", "TRL", "beta", trl::kto().objective.beta);
  stated("unpaired_loss", "kto", "TRL", "desirable_weight", trl::kto().objective.desirable_weight);
  stated("unpaired_loss", "bco", "TRL", "beta", trl::bco().objective.beta);
  stated("advantage", "grpo", "TRL", "eps", trl::grpo().estimator.epsilon);
  stated("advantage", "rloo", "TRL", "beta", trl::rloo().reward.how.penalty);
  stated("policy_loss", "rloo", "TRL", "clip_high", trl::rloo().loss.objective.high);
  stated("policy_loss", "ppo_clip", "TRL", "clip_low", trl::grpo().objective.low);
  stated("policy_loss", "gmpo", "TRL", "clip_high", trl::gmpo().reduction.high);
  stated("policy_loss", "sapo", "TRL", "tau_neg", trl::loss_type::sapo().objective.temperature_negative);
  stated("policy_loss", "vespo", "TRL", "k_neg", trl::loss_type::vespo_weights().correction.k_negative);
  stated("policy_loss", "vespo", "TRL", "lambda_pos", trl::loss_type::vespo_weights().correction.lambda_positive);
  stated("is_correction", "sequence_mask", "TRL", "max", trl::sampler_correction().gate.high);

  stated("advantage", "grpo", "verl", "eps", verl::grpo().estimator.epsilon);
  stated("advantage", "gdpo", "verl", "eps", verl::adv_estimator::gdpo().estimator.epsilon);
  stated("advantage", "grpo_passk", "verl", "eps", verl::adv_estimator::grpo_passk().estimator.epsilon);
  stated("advantage", "gpg", "verl", "f_norm", verl::adv_estimator::gpg().estimator.divisor);
  stated("advantage", "gae", "verl", "gamma", verl::adv_estimator::gae().estimator.gamma);
  stated("advantage", "gae", "verl", "lam", verl::adv_estimator::gae().estimator.lambda);
  stated("kl", "k3", "verl", "input_clamp", verl::kl_penalty_type::low_var_kl().log_ratio_bound);
  stated("kl", "k3", "verl", "output_clamp", verl::kl_penalty_type::low_var_kl().bound);
  stated("policy_loss", "ppo_clip", "verl", "dual_clip", verl::loss_mode::vanilla_clip().dual_clip);
  stated("policy_loss", "ppo_clip", "verl", "log_ratio_clamp", verl::loss_mode::vanilla_clip().log_ratio_bound);
  stated("policy_loss", "ppo_clip", "verl", "clip_low", verl::loss_mode::vanilla_clip().low);
  stated("policy_loss", "cispo", "verl", "ratio_min", verl::loss_mode::cispo().objective.low);
  stated("policy_loss", "dppo_tv", "verl", "ratio_max", verl::loss_mode::dppo_tv().objective.ratio_bound);
  stated("policy_loss", "kl_cov", "verl", "ppo_kl_coef", verl::loss_mode::kl_cov_coefficient_in_code);
  stated("policy_loss", "sapo", "verl", "log_ratio_clamp", verl::loss_mode::sapo().objective.log_ratio_bound);
  stated("is_correction", "token_truncate", "verl", "max", verl::rollout_correction().weight.high);
  stated("value_loss", "clipped", "verl", "scale", verl::ppo(0).critic.scale);

  stated("preference_loss", "sigmoid", "OpenRLHF", "beta", openrlhf::dpo().objective.beta);
  stated("preference_loss", "ipo_sum", "OpenRLHF", "beta", openrlhf::ipo().objective.beta);
  stated("advantage", "gae", "OpenRLHF", "gamma", openrlhf::advantage_estimator::gae().estimator.gamma);
  stated("advantage", "reinforce_plus_plus", "OpenRLHF", "gamma",
         openrlhf::advantage_estimator::reinforce().estimator.gamma);
  stated("kl", "k3", "OpenRLHF", "output_clamp", openrlhf::kl_estimator::k3().bound);
  stated("policy_loss", "ppo_clip", "OpenRLHF", "log_ratio_clamp", openrlhf::clip().log_ratio_bound);
  stated("is_correction", "tis_two_sided", "OpenRLHF", "max", openrlhf::sampler_correction().weight.high);
  stated("is_correction", "tis_two_sided", "OpenRLHF", "min", openrlhf::sampler_correction().weight.low);
  CHECK(executed("preference_loss", "sigmoid", "no such library", "beta").empty());
}
