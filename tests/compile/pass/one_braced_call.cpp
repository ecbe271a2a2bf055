// The call as the README shows it: braces and names, from vectors, on any backend.
#include <rlhf/algorithm/dpo.hpp>
#include <rlhf/algorithm/ppo.hpp>
#include <rlhf/backend/reference.hpp>
#include <vector>

rlhf::status dpo_step(const std::vector<float>& w, const std::vector<float>& l, const std::vector<float>& ref_w,
                      const std::vector<float>& ref_l, float* loss, std::vector<float>& grad_w,
                      std::vector<float>& grad_l) {
  rlhf::reference_backend cpu;
  return rlhf::dpo{.beta = 0.1}(cpu, {.chosen = w, .rejected = l, .ref_chosen = ref_w, .ref_rejected = ref_l},
                                {.loss = {loss, 1}, .grad_chosen = grad_w, .grad_rejected = grad_l});
}

template <rlhf::backend B>
rlhf::status ppo_step(B& cpu, const std::vector<std::int64_t>& offsets, const std::vector<float>& logp,
                      const std::vector<float>& old_logp, const std::vector<float>& advantage,
                      const std::vector<std::uint8_t>& mask, std::vector<float>& gradient, rlhf::statistics& stats) {
  const rlhf::policy_loss loss{rlhf::ppo_clip{.low = 0.2, .high = 0.28}, rlhf::kl_penalty{rlhf::k3{}, 0.02},
                               rlhf::token_mean{}};
  return loss(cpu, rlhf::packed(offsets), {.logp = logp, .old_logp = old_logp, .advantage = advantage, .mask = mask},
              {.grad_logp = gradient, .stats = &stats});
}
template rlhf::status ppo_step(rlhf::reference_backend&, const std::vector<std::int64_t>&, const std::vector<float>&,
                               const std::vector<float>&, const std::vector<float>&, const std::vector<std::uint8_t>&,
                               std::vector<float>&, rlhf::statistics&);
