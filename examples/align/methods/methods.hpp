#pragma once
// The methods by name: each trains a model of its own from the start, with its curve, samples and file.

#include "align/run/workshop.hpp"

namespace align {

/// DPO; what was finished is loaded.
[[nodiscard]] policy learn_dpo(workshop& w, const std::string& method, const dpo_recipe& how);
void dpo(workshop& w);
void ipo(workshop& w);
void simpo(workshop& w);
void orpo(workshop& w);
void wpo(workshop& w);
void kto(workshop& w);
void una(workshop& w);

void rebel(workshop& w);
void ppo(workshop& w);
void rto(workshop& w);
void drto(workshop& w);
/// PPO on `proxy` instead of the reward, without a price of KL, in longer steps.
void ppo_proxy(workshop& w, scalar_policy& proxy);

/// Its adapters alone learn.
void hydra_ppo(workshop& w);

void grpo(workshop& w);
void dr_grpo(workshop& w);
void dapo(workshop& w);
void rloo(workshop& w);
void reinforce_plus_plus(workshop& w);
void remax(workshop& w);
void gspo(workshop& w);
void cispo(workshop& w);

void dvpo(workshop& w);
void vineppo(workshop& w);

void online_dpo(workshop& w);
void vpo(workshop& w);
void xpo(workshop& w);
void selm(workshop& w);
void nash_md(workshop& w);
void sppo(workshop& w);
void inpo(workshop& w);

void zpg(workshop& w);
void zbcpg(workshop& w);

}  // namespace align
