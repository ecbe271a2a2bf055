// The whole step, logits to loss and gradient over the logits, captured into a CUDA graph once and launched again and again: no
// allocation, no synchronisation and no launch from the host but the graph's. Scratch memory is the caller's own piece.

#include <rlhf/backend/cuda.cuh>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/driver/token_logp.hpp>

#include <cstring>

#include "device.cuh"

namespace {

using rlhf::cuda_space;
template <class T>
using cells = rlhf::view<T, 1, cuda_space>;

constexpr std::int64_t sequences = 8, width = 32, tokens = sequences * width, vocabulary = 1000;

struct arrays {
  example::array<float> logits, old_logp, advantage, logp, lse, grad_logp, loss;
  example::array<std::int32_t> target;

  explicit arrays(cudaStream_t stream)
      : logits(static_cast<std::size_t>(tokens * vocabulary), stream),
        old_logp(example::numbers(tokens, -9, -6, 2), stream),
        advantage(example::numbers(tokens, -1, 1, 3), stream),
        logp(tokens, stream),
        lse(tokens, stream),
        grad_logp(tokens, stream),
        loss(1, stream),
        target(std::vector<std::int32_t>(tokens, 7), stream) {}
};

void step(rlhf::cuda_backend& gpu, const arrays& a) {
  const rlhf::logits_inputs<float, cuda_space> rows{.logits = {a.logits.data(), tokens, vocabulary},
                                                    .target = a.target.view()};
  example::require(
      rlhf::token_logp(gpu, rows, rlhf::logp_outputs<float, cuda_space>{.logp = a.logp.view(), .lse = a.lse.view()}));
  example::require(rlhf::policy_loss{rlhf::ppo_clip{}}(
      gpu, rlhf::layout<cuda_space>{nullptr, sequences, width, tokens},
      rlhf::token_inputs<float, cuda_space>{
          .logp = a.logp.view(), .old_logp = a.old_logp.view(), .advantage = a.advantage.view()},
      rlhf::token_outputs<float, cuda_space>{.loss = a.loss.view(), .grad_logp = a.grad_logp.view()}));
  example::require(rlhf::token_logp_backward(
      gpu, rows, rlhf::logp_gradients<float, cuda_space>{.lse = a.lse.view(), .grad_logp = a.grad_logp.view()},
      rlhf::view<float, 2, cuda_space>(a.logits.data(), tokens, vocabulary)));
}

}  // namespace

int main() {
  if (!example::has_device()) return example::skipped;
  cudaStream_t stream = nullptr;
  example::require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  bool right = true;
  {
    arrays a(stream);
    constexpr std::size_t bytes = std::size_t{8} << 20;
    const example::array<unsigned char> memory(bytes, stream);
    rlhf::cuda_arena arena(memory.data(), bytes);
    rlhf::cuda_backend gpu(stream, arena.memory());

    cudaGraph_t graph = nullptr;
    example::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    step(gpu, a);
    example::require(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t ready = nullptr;
    example::require(cudaGraphInstantiate(&ready, graph, 0));

    for (const std::uint32_t batch : {1u, 2u, 3u}) {
      const auto logits = example::numbers(tokens * vocabulary, -4, 4, batch);
      a.logits.assign(logits, stream);
      step(gpu, a);
      const auto loss = a.loss.read(stream), gradient = a.logits.read(stream);
      a.logits.assign(logits, stream);
      example::require(cudaGraphLaunch(ready, stream));
      const auto again = a.loss.read(stream), gradient_again = a.logits.read(stream);
      const bool same = std::memcmp(gradient.data(), gradient_again.data(), gradient.size() * sizeof(float)) == 0 &&
                        std::memcmp(loss.data(), again.data(), sizeof(float)) == 0;
      std::printf("batch %u: loss %.6f, by the graph %.6f, the same bits: %s\n", batch, static_cast<double>(loss[0]),
                  static_cast<double>(again[0]), same ? "yes" : "no");
      right = right && same;
    }
    std::printf("scratch memory: %zu bytes at most\n", arena.peak());
    example::require(cudaGraphExecDestroy(ready));
    example::require(cudaGraphDestroy(graph));
  }
  example::require(cudaStreamDestroy(stream));
  return right ? 0 : 1;
}
