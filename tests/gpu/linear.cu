// The fused linear layer on a device, with cuBLAS, against plain loops on the host.

#include "rlhf/driver/fused_linear.hpp"

#include <random>
#include <vector>

#include "gpu/host_view.cuh"
#include "rlhf/backend/cuda/cublas_product.cuh"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/preference.hpp"
#include "support/catch.hpp"

namespace {

using rlhf::cuda_space;
using std::int64_t;
using std::size_t;

constexpr int64_t tokens = 96, depth = 64, columns = 515;

template <class L>
std::vector<L> random_values(std::mt19937& random, int64_t n, double low, double high) {
  std::vector<L> x(static_cast<size_t>(n));
  for (L& v : x)
    v = L(static_cast<rlhf::compute_t<L>>(low + (high - low) * static_cast<double>(random()) / 4294967296.0));
  return x;
}
template <class L>
double wide(L x) {
  return static_cast<double>(static_cast<rlhf::compute_t<L>>(x));
}

template <class L>
struct problem {
  using T = rlhf::compute_t<L>;
  std::vector<L> hidden, weight, grad_hidden = std::vector<L>(tokens * depth);
  std::vector<T> ref, grad_weight = std::vector<T>(depth * columns), loss = std::vector<T>(1);
  std::vector<std::int32_t> target;
  std::vector<std::uint8_t> mask;

  problem() {
    std::mt19937 random(3);
    hidden = random_values<L>(random, tokens * depth, -1, 1);
    weight = random_values<L>(random, depth * columns, -0.3, 0.3);
    ref = random_values<T>(random, tokens, -7, -5);
    for (int64_t i = 0; i < tokens; ++i) {
      target.push_back(static_cast<std::int32_t>(random() % columns));
      mask.push_back(i % 5 == 4 ? 0 : 1);
      for (int64_t k = 0; i % 5 == 4 && k < depth; ++k)
        hidden[static_cast<size_t>(i * depth + k)] = L(std::numeric_limits<T>::quiet_NaN());
    }
  }
  template <class Space, class Fused, class B>
  rlhf::status dpo(const Fused& fused, B& be) {
    rlhf::token_pair_inputs<T, Space> in;
    in.chosen.sequences = in.rejected.sequences = {nullptr, 4, tokens / 8, tokens / 2};
    in.chosen.ref_logp = {ref.data(), tokens / 2};
    in.rejected.ref_logp = {ref.data() + tokens / 2, tokens / 2};
    return fused(be, inputs<Space>(),
                 rlhf::over_pairs{rlhf::preference_loss{rlhf::dpo_sigmoid{}}, in,
                                  rlhf::pair_outputs<T, Space>{.loss = {loss.data(), 1}}},
                 outputs<Space>());
  }
  template <class Space, class Fused, class B>
  rlhf::status ppo(const Fused& fused, B& be) {
    rlhf::token_inputs<T, Space> in;
    in.old_logp = in.ref_logp = in.advantage = {ref.data(), tokens};
    return fused(be, inputs<Space>(),
                 rlhf::over_tokens{rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.1}},
                                   rlhf::layout<Space>{nullptr, 8, tokens / 8, tokens}, in,
                                   rlhf::token_outputs<T, Space>{.loss = {loss.data(), 1}}},
                 outputs<Space>());
  }
  template <class Space, class Fused, class B>
  rlhf::status distillation(const Fused& fused, B& be) {
    const rlhf::linear_head<L, Space> teacher{
        {hidden.data(), tokens, depth}, {weight.data(), columns, depth}, true, {}};
    auto in = inputs<Space>();
    in.head.weight = {weight.data(), depth, columns};
    in.head.transposed = false;
    auto out = outputs<Space>();
    out.grad_weight = {grad_weight.data(), depth, columns};
    return fused(be, in,
                 rlhf::over_rows{rlhf::jensen_shannon_rows{}, teacher, rlhf::layout<Space>{}, rlhf::token_mean{},
                                 rlhf::view<T, 1, Space>(loss.data(), 1)},
                 out);
  }

 private:
  template <class Space>
  [[nodiscard]] rlhf::linear_inputs<L, Space> inputs() const {
    rlhf::linear_inputs<L, Space> in;
    in.head = {{hidden.data(), tokens, depth}, {weight.data(), columns, depth}, true, {}};
    in.target = {target.data(), tokens};
    in.mask = rlhf::view<const std::uint8_t, 1, Space>(mask.data(), tokens);
    return in;
  }
  template <class Space>
  [[nodiscard]] rlhf::linear_outputs<L, Space> outputs() {
    rlhf::linear_outputs<L, Space> out;
    out.grad_hidden = {grad_hidden.data(), tokens, depth};
    out.grad_weight = {grad_weight.data(), columns, depth};
    return out;
  }
};

template <class Space>
struct in {
  using space = Space;
};

template <class L, class Step>
void compare(double tolerance, const Step& step) {
  cublasHandle_t cublas = nullptr;
  REQUIRE(cublasCreate(&cublas) == CUBLAS_STATUS_SUCCESS);
  problem<L> want, got;
  rlhf::reference_backend plain;
  rlhf::cuda_backend gpu;
  REQUIRE(step(in<rlhf::host_space>{}, want, rlhf::fused_linear<>{.chunk = 40}, plain));
  const rlhf::fused_linear<rlhf::cublas_product> fused{.product = {cublas}, .chunk = 40};
  REQUIRE(step(in<cuda_space>{}, got, fused, gpu));
  REQUIRE(gpu.synchronize());
  const auto near = [&](const auto& a, const auto& b, const char* name) {
    CAPTURE(name);
    double error = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      error += (wide(a[i]) - wide(b[i])) * (wide(a[i]) - wide(b[i]));
      size += wide(b[i]) * wide(b[i]);
    }
    CHECK(std::sqrt(error) <= tolerance * std::sqrt(size));
  };
  near(got.loss, want.loss, "loss");
  near(got.grad_hidden, want.grad_hidden, "grad_hidden");
  near(got.grad_weight, want.grad_weight, "grad_weight");
  CHECK(cublasDestroy(cublas) == CUBLAS_STATUS_SUCCESS);
}

template <class L>
void compare_all(double tolerance) {
  const auto dpo = [](auto where, auto& p, const auto& f, auto& be) {
    return p.template dpo<typename decltype(where)::space>(f, be);
  };
  const auto ppo = [](auto where, auto& p, const auto& f, auto& be) {
    return p.template ppo<typename decltype(where)::space>(f, be);
  };
  const auto distillation = [](auto where, auto& p, const auto& f, auto& be) {
    return p.template distillation<typename decltype(where)::space>(f, be);
  };
  compare<L>(tolerance, dpo);
  compare<L>(tolerance, ppo);
  compare<L>(tolerance, distillation);
}

}  // namespace

TEST_CASE("the fused linear layer with cuBLAS: double") { compare_all<double>(1e-11); }
TEST_CASE("the fused linear layer with cuBLAS: float") { compare_all<float>(1e-4); }
TEST_CASE("the fused linear layer with cuBLAS: bfloat16") { compare_all<rlhf::bfloat16>(3e-2); }
