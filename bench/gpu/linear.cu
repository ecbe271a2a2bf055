// The fused linear layer against its bare products in cuBLAS: hidden states and weight to loss and both gradients.

#include "contest.cuh"
#include "rlhf/backend/cuda/cublas_product.cuh"
#include "rlhf/driver/fused_linear.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

namespace gpu_bench {
namespace {

using rlhf::bfloat16;
using rlhf::cuda_space;
template <class T>
using matrix = rlhf::view<T, 2, cuda_space>;

struct layer {
  std::int64_t tokens, depth = 4096, vocabulary = 151936;
  array<bfloat16> hidden, weight, grad_hidden;
  array<float> grad_weight, streams, loss;
  array<std::int32_t> target;

  explicit layer(std::int64_t n)
      : tokens(n),
        hidden(n * depth, -1, 1, 1),
        weight(depth * vocabulary, -0.05f, 0.05f, 2),
        grad_hidden(n * depth),
        grad_weight(depth * vocabulary),
        streams(n, -12, -11, 3),
        loss(1),
        target(ids(n)) {}
  [[nodiscard]] static std::vector<std::int32_t> ids(std::int64_t n) {
    std::vector<std::int32_t> x;
    for (std::int64_t i = 0; i < n; ++i) x.push_back(static_cast<std::int32_t>(i * 7919 % 151936));
    return x;
  }
  /// The weight as trainers keep it: a row for each token of the vocabulary.
  [[nodiscard]] rlhf::linear_inputs<bfloat16, cuda_space> inputs() const {
    rlhf::linear_inputs<bfloat16, cuda_space> in;
    in.head = {{hidden.data(), tokens, depth}, {weight.data(), vocabulary, depth}, true, {}};
    in.target = target.input();
    return in;
  }
  [[nodiscard]] rlhf::linear_outputs<bfloat16, cuda_space> outputs(bool backward) const {
    rlhf::linear_outputs<bfloat16, cuda_space> out;
    if (!backward) return out;
    out.grad_hidden = {grad_hidden.data(), tokens, depth};
    out.grad_weight = {grad_weight.data(), vocabulary, depth};
    return out;
  }
};

}  // namespace

void add_linear(contests& all, device& d, std::int64_t divisor) {
  const auto a = std::make_shared<layer>(8192 / divisor);
  const array<bfloat16> logits(a->tokens * a->vocabulary, -1, 1, 4);
  const rlhf::cublas_product product{d.cublas};
  const auto whole = [=] { return matrix<bfloat16>(logits.data(), a->tokens, a->vocabulary); };
  const auto forward = [=, &d] {
    const auto in = a->inputs();
    require(product(d.backend, rlhf::factor<bfloat16, cuda_space>{in.head.hidden},
                    rlhf::factor<bfloat16, cuda_space>{in.head.weight, true}, whole(), false));
  };
  const auto three = [=, &d] {
    forward();
    const auto in = a->inputs();
    const auto out = a->outputs(true);
    const rlhf::factor<bfloat16, cuda_space> slope{whole()};
    require(product(d.backend, slope, rlhf::factor<bfloat16, cuda_space>{in.head.weight}, out.grad_hidden, false));
    require(product(d.backend, rlhf::factor<bfloat16, cuda_space>{whole(), true},
                    rlhf::factor<bfloat16, cuda_space>{in.head.hidden}, out.grad_weight, false));
  };
  const double one =
      2.0 * static_cast<double>(a->tokens) * static_cast<double>(a->depth) * static_cast<double>(a->vocabulary);
  const rlhf::fused_linear<rlhf::cublas_product> fused{.product = product, .chunk = 2048};
  const rlhf::layout<cuda_space> sequences{nullptr, 8, a->tokens / 8, a->tokens};
  const auto supervised = [=, &d](bool backward) {
    require(fused(d.backend, a->inputs(),
                  rlhf::over_tokens{rlhf::policy_loss{rlhf::negative_log_likelihood{}}, sequences,
                                    rlhf::token_inputs<float, cuda_space>{},
                                    rlhf::token_outputs<float, cuda_space>{.loss = a->loss.view()}},
                  a->outputs(backward)));
  };
  const auto pairs = [=, &d] {
    rlhf::token_pair_inputs<float, cuda_space> in;
    const std::int64_t half = a->tokens / 2;
    in.chosen.sequences = in.rejected.sequences = {nullptr, 4, half / 4, half};
    in.chosen.ref_logp = {a->streams.data(), half};
    in.rejected.ref_logp = {a->streams.data() + half, half};
    require(fused(d.backend, a->inputs(),
                  rlhf::over_pairs{rlhf::preference_loss{rlhf::dpo_sigmoid{}}, in,
                                   rlhf::pair_outputs<float, cuda_space>{.loss = a->loss.view()}},
                  a->outputs(true)));
  };
  const auto gradients = [=] {
    return joined({a->loss.download(), a->grad_hidden.download(), a->grad_weight.download()});
  };
  const std::string shape = "/8192x4096x151936/bf16";
  all.push_back({"gpu/fused_linear_forward" + shape,
                 ceiling::product,
                 0,
                 one,
                 1.1,
                 [=] { supervised(false); },
                 forward,
                 {},
                 [=] { return a->loss.download(); }});
  all.push_back({"gpu/fused_linear_supervised" + shape,
                 ceiling::product,
                 0,
                 3 * one,
                 1.3,
                 [=] { supervised(true); },
                 three,
                 {},
                 gradients});
  all.push_back({"gpu/fused_linear_dpo" + shape, ceiling::product, 0, 3 * one, 1.3, pairs, three, {}, gradients});
}

}  // namespace gpu_bench
