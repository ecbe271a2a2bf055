// One thread a token: the formulas run in kernels as they are, on plain numbers and on duals.

#include <rlhf/math/functions.hpp>
#include <rlhf/math/memory.hpp>
#include <rlhf/math/monoids.hpp>
#include <rlhf/math/random.hpp>
#include <rlhf/objective/kl.hpp>
#include <rlhf/objective/preference.hpp>
#include <rlhf/objective/token.hpp>
#include <rlhf/objective/value.hpp>

namespace {

/// Loss and derivative of each token.
template <class Objective, class T>
__global__ void token_losses(Objective objective, rlhf::view<const T, 1, rlhf::cuda_space> logp,
                             rlhf::view<const T, 1, rlhf::cuda_space> old_logp,
                             rlhf::view<const T, 1, rlhf::cuda_space> advantage,
                             rlhf::view<T, 1, rlhf::cuda_space> loss, rlhf::view<T, 1, rlhf::cuda_space> gradient) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= logp.extent) return;
  rlhf::token<rlhf::dual<T>> t;
  t.logp = rlhf::dual<T>::variable(logp[i], 0);
  t.old_logp = t.ref_logp = old_logp[i];
  t.advantage = advantage[i];
  const rlhf::dual<T> l = objective(t);
  loss[i] = l.value;
  gradient[i] = l.partial[0];
}

template <class V>
__device__ V every_function(const V& x) {
  const auto c = rlhf::constant<V>(0.5);
  V y = rlhf::exp(x) + rlhf::log(x) + rlhf::log1p(x) + rlhf::expm1(x) + rlhf::tanh(x) + rlhf::sqrt(x) + rlhf::abs(x);
  y = y + rlhf::sigmoid(x) + rlhf::log_sigmoid(x) + rlhf::softplus(x) + rlhf::log1mexp(-x) + rlhf::relu(x);
  y = y + rlhf::clamp(x, -c, c) + rlhf::min(x, y) + rlhf::max(y, c) + rlhf::square(x) + rlhf::soft_min(x, y, 4);
  y = rlhf::select(x < y, y, x) * rlhf::safe_ratio(x, c) + rlhf::stop_gradient(y) / x - c;
  return rlhf::select(rlhf::is_finite(y), y, rlhf::constant<V>(0));
}

template <class T>
__global__ void functions(const T* x, T* y) {
  using first = rlhf::dual<T>;
  using second = rlhf::dual<first>;
  y[0] = every_function(x[0]);
  y[1] = every_function(first::variable(x[0], 0)).partial[0];
  y[2] = every_function(second::variable(first::variable(x[0], 0), 0)).partial[0].partial[0];
}

/// Storage formats, monoids and random numbers.
__global__ void pieces(const rlhf::bfloat16* b, rlhf::float16* h, float* out, rlhf::moments* m) {
  rlhf::online_softmax<float, true, true> row;
  for (int j = 0; j < 8; ++j) row.add(rlhf::memory_traits<float>::load(b + j));
  rlhf::memory_traits<float>::store(h, row.entropy());
  out[0] = row.log_sum_exp() + row.square_sum();
  m->merge({1, static_cast<double>(out[0]), 0});
  out[1] = static_cast<float>(m->variance());
  out[2] = rlhf::affine<float>{0.5f, 1}.after({2, 3})(out[0]);
  out[3] = static_cast<float>(rlhf::random_numbers({.seed = 1, .stream = 2}).uniform({.prompt = threadIdx.x}));
}

/// The pair and value formulas, and the penalties.
__global__ void other_formulas(const float* x, float* y) {
  using D = rlhf::dual<float, 2>;
  rlhf::pair<D> p;
  p.chosen.logp = D::variable(x[0], 0);
  p.rejected.logp = D::variable(x[1], 1);
  p.chosen.ref_logp = p.rejected.ref_logp = x[2];
  p.chosen.length = p.rejected.length = x[3];
  p.chosen.reward = p.rejected.reward = x[4];
  y[0] = (rlhf::dpo_sigmoid{}(p) + rlhf::dpo_hinge{}(p) + rlhf::ipo{}(p) + rlhf::dpo_robust{}(p) + rlhf::rebel{}(p))
             .partial[1];
  rlhf::value_item<rlhf::dual<float>> v;
  v.value = rlhf::dual<float>::variable(x[5], 0);
  v.old_value = v.returns = x[6];
  y[1] = rlhf::clipped_value{}(v).partial[0];
  rlhf::token<rlhf::dual<float>> t;
  t.logp = rlhf::dual<float>::variable(x[7], 0);
  t.ref_logp = t.old_logp = x[8];
  y[2] = (rlhf::kl_penalty{rlhf::k3{}, 0.1}(t) + rlhf::importance_weighted{rlhf::k2{}}(t) +
          rlhf::value_and_gradient{rlhf::k1{}}(t))
             .partial[0];
}

template __global__ void token_losses(rlhf::ppo_clip, rlhf::view<const float, 1, rlhf::cuda_space>,
                                      rlhf::view<const float, 1, rlhf::cuda_space>,
                                      rlhf::view<const float, 1, rlhf::cuda_space>,
                                      rlhf::view<float, 1, rlhf::cuda_space>, rlhf::view<float, 1, rlhf::cuda_space>);
template __global__ void token_losses(rlhf::reinforce, rlhf::view<const double, 1, rlhf::cuda_space>,
                                      rlhf::view<const double, 1, rlhf::cuda_space>,
                                      rlhf::view<const double, 1, rlhf::cuda_space>,
                                      rlhf::view<double, 1, rlhf::cuda_space>, rlhf::view<double, 1, rlhf::cuda_space>);
template __global__ void functions(const float*, float*);
template __global__ void functions(const double*, double*);

}  // namespace

/// What a program would call; keeps the kernels alive.
void launch(const float* x, float* y, const rlhf::bfloat16* b, rlhf::float16* h, rlhf::moments* m, std::int64_t n) {
  const rlhf::view<const float, 1, rlhf::cuda_space> in(x, n);
  token_losses<<<static_cast<unsigned>((n + 255) / 256), 256>>>(rlhf::ppo_clip{.low = 0.2, .high = 0.28}, in, in, in,
                                                                rlhf::view<float, 1, rlhf::cuda_space>(y, n),
                                                                rlhf::view<float, 1, rlhf::cuda_space>(y + n, n));
  functions<<<1, 1>>>(x, y);
  pieces<<<1, 32>>>(b, h, y, m);
  other_formulas<<<1, 1>>>(x, y);
}
