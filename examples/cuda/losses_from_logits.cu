// PPO and DPO from logits on a device, on a stream of one's own; the gradient is written over the logits. Plain CUDA: the
// pointers may come from any trainer. Afterwards the same is done on the host, and compared.

#include <rlhf/backend/cuda.cuh>
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/driver/token_logp.hpp>
#include <rlhf/objective/kl.hpp>
#include <rlhf/objective/preference.hpp>

#include "device.cuh"

namespace {

constexpr std::int64_t sequences = 8, width = 32, tokens = sequences * width, vocabulary = 1000;

/// What a trainer has: pointers, in the memory that `Space` says.
template <class Space>
struct batch {
  float* logits;  ///< [tokens, vocabulary], overwritten by their gradient
  const std::int32_t* target;
  const float *old_logp, *ref_logp, *advantage;
  float *logp, *lse, *grad_logp, *loss;

  template <class T>
  [[nodiscard]] static rlhf::view<T, 1, Space> all(T* p) {
    return {p, tokens};
  }
  [[nodiscard]] rlhf::logits_inputs<float, Space> rows() const {
    return {.logits = {logits, tokens, vocabulary}, .target = all(target)};
  }
};

//! [step]
/// Station 1: logits to log-probabilities. Station 3: the way back, over the logits. `loss` stands between them.
template <class B, class Space, class Loss>
void from_logits(B& be, const batch<Space>& b, const Loss& loss) {
  example::require(
      rlhf::token_logp(be, b.rows(), rlhf::logp_outputs<float, Space>{.logp = b.all(b.logp), .lse = b.all(b.lse)}));
  loss();
  example::require(rlhf::token_logp_backward(
      be, b.rows(),
      rlhf::logp_gradients<float, Space>{.lse = b.all(static_cast<const float*>(b.lse)),
                                         .grad_logp = b.all(static_cast<const float*>(b.grad_logp))},
      rlhf::view<float, 2, Space>(b.logits, tokens, vocabulary)));
}

template <class B, class Space>
void ppo(B& be, const batch<Space>& b) {
  from_logits(be, b, [&] {
    const rlhf::policy_loss loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.02}, rlhf::token_mean{}};
    example::require(loss(be, rlhf::layout<Space>{nullptr, sequences, width, tokens},
                          rlhf::token_inputs<float, Space>{.logp = b.all(static_cast<const float*>(b.logp)),
                                                           .old_logp = b.all(b.old_logp),
                                                           .ref_logp = b.all(b.ref_logp),
                                                           .advantage = b.all(b.advantage)},
                          rlhf::token_outputs<float, Space>{.loss = {b.loss, 1}, .grad_logp = b.all(b.grad_logp)}));
  });
}

/// The first half of the sequences are the chosen responses, the second half the rejected ones.
template <class B, class Space>
void dpo(B& be, const batch<Space>& b) {
  from_logits(be, b, [&] {
    constexpr std::int64_t half = tokens / 2;
    const rlhf::layout<Space> side{nullptr, sequences / 2, width, half};
    example::require(rlhf::preference_loss{rlhf::dpo_sigmoid{}}(
        be,
        rlhf::token_pair_inputs<float, Space>{.chosen = {side, {b.logp, half}, {b.ref_logp, half}, {}},
                                              .rejected = {side, {b.logp + half, half}, {b.ref_logp + half, half}, {}}},
        rlhf::pair_outputs<float, Space>{
            .loss = {b.loss, 1}, .grad_chosen = {b.grad_logp, half}, .grad_rejected = {b.grad_logp + half, half}}));
  });
}
//! [step]

template <class Step>
bool same_on_both_sides(const char* name, cudaStream_t stream, const Step& step) {
  auto logits = example::numbers(tokens * vocabulary, -4, 4, 1);
  const auto old_logp = example::numbers(tokens, -9, -6, 2), ref_logp = example::numbers(tokens, -9, -6, 3),
             advantage = example::numbers(tokens, -1, 1, 4);
  std::vector<std::int32_t> target;
  for (std::int64_t i = 0; i < tokens; ++i) target.push_back(static_cast<std::int32_t>(i * 37 % vocabulary));

  const example::array<float> z(logits, stream), old_(old_logp, stream), ref(ref_logp, stream), adv(advantage, stream),
      logp(tokens, stream), lse(tokens, stream), grad(tokens, stream), loss(1, stream);
  const example::array<std::int32_t> ids(target, stream);
  rlhf::cuda_backend gpu(stream);
  step(gpu, batch<rlhf::cuda_space>{z.data(), ids.data(), old_.data(), ref.data(), adv.data(), logp.data(), lse.data(),
                                    grad.data(), loss.data()});
  example::require(gpu.synchronize());
  const float found = loss.read(stream)[0];
  const auto gradient = z.read(stream);

  std::vector<float> host_logp(tokens), host_lse(tokens), host_grad(tokens), host_loss(1);
  rlhf::reference_backend cpu;
  step(cpu, batch<rlhf::host_space>{logits.data(), target.data(), old_logp.data(), ref_logp.data(), advantage.data(),
                                    host_logp.data(), host_lse.data(), host_grad.data(), host_loss.data()});
  const double apart = example::distance(gradient, logits);
  std::printf("%s: loss %.6f on the device, %.6f on the host; gradients %.1e apart\n", name, static_cast<double>(found),
              static_cast<double>(host_loss[0]), apart);
  return apart < 1e-5 && std::abs(found - host_loss[0]) < 1e-5f * (1 + std::abs(host_loss[0]));
}

}  // namespace

int main() {
  if (!example::has_device()) return example::skipped;
  cudaStream_t stream = nullptr;
  example::require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const bool right = same_on_both_sides("PPO", stream, [](auto& be, const auto& b) { ppo(be, b); }) &
                     same_on_both_sides("DPO", stream, [](auto& be, const auto& b) { dpo(be, b); });
  example::require(cudaStreamDestroy(stream));
  return right ? 0 : 1;
}
