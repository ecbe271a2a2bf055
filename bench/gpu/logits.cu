// Stations 1 and 3 at the table's shapes: one read of the logits, and one read and one write.

#include "contest.cuh"
#include "rlhf/driver/token_logp.hpp"

namespace gpu_bench {
namespace {

using rlhf::cuda_space;

template <class L>
void add(contests& all, device& d, std::int64_t rows, std::int64_t vocabulary, const char* type) {
  const array<L> logits(rows * vocabulary, -8, 8, 11);
  const array<L> gradient(rows * vocabulary);
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>(r * 31 % vocabulary));
  const array<std::int32_t> target(ids);
  const array<float> logp(rows), entropy(rows), lse(rows), grad_logp(rows, -1e-3f, 1e-3f, 12);
  const std::string shape = '/' + std::to_string(rows) + 'x' + std::to_string(vocabulary) + '/' + type;
  const double one_read = static_cast<double>(logits.bytes());
  const auto inputs = [=](const array<L>& z) {
    return rlhf::logits_inputs<L, cuda_space>{.logits = {z.data(), rows, vocabulary}, .target = target.input()};
  };
  const auto forward = [=, &d] {
    require(rlhf::token_logp(
        d.backend, inputs(logits),
        rlhf::logp_outputs<float, cuda_space>{.logp = logp.view(), .entropy = entropy.view(), .lse = lse.view()}));
  };
  all.push_back({"gpu/token_logp" + shape, ceiling::copy, one_read, 0, 0.90, forward, {}, {}, [=] {
                   return joined({logp.download(), entropy.download(), lse.download()});
                 }});
  // The arrays were filled on the default stream, for which a stream that does not block does not wait.
  require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  forward();  // the log-sum-exp of the backward pass
  require(cudaStreamSynchronize(d.stream), "cudaStreamSynchronize");
  all.push_back(
      {"gpu/token_logp_backward" + shape,
       ceiling::copy,
       2 * one_read,
       0,
       0.90,
       [=, &d] {
         require(rlhf::token_logp_backward(
             d.backend, inputs(gradient),
             rlhf::logp_gradients<float, cuda_space>{.lse = lse.input(), .grad_logp = grad_logp.input()},
             rlhf::view<L, 2, cuda_space>(gradient.data(), rows, vocabulary)));
       },
       {},
       [=, &d] {
         require(cudaMemcpyAsync(gradient.data(), logits.data(), logits.bytes(), cudaMemcpyDeviceToDevice, d.stream),
                 "cudaMemcpyAsync");
       },
       [=] { return gradient.download(); }});
}

}  // namespace

void add_logits(contests& all, device& d, std::int64_t divisor) {
  add<rlhf::bfloat16>(all, d, 8192 / divisor, 151936, "bf16");
  add<rlhf::bfloat16>(all, d, 16384 / divisor, 32000, "bf16");
  add<float>(all, d, 16384 / divisor, 32000, "f32");
}

}  // namespace gpu_bench
