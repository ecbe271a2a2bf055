// expect: rlhf: these views live in another memory space than the backend works in
#include <rlhf/backend/cuda.cuh>
#include <rlhf/driver/top_k.hpp>

rlhf::status call(rlhf::cuda_backend& gpu, const rlhf::top_k_inputs<float>& in, const rlhf::top_k_outputs<float>& out,
                  const rlhf::view<const float, 1, rlhf::cuda_space>& keys, std::int64_t* order) {
#ifdef MUST_FAIL
  return rlhf::top_k(gpu, in, out);
#endif
  return in.logits.rows + out.logp.rows > 0 ? gpu.argsort(keys.extent, keys.data, order) : rlhf::status{};
}
