// The drivers of single responses, reward models, worst cases and samplers on Thrust's CUDA system: their kernels compile for
// the device, formulas with slopes of their own included.

#include <rlhf/backend/thrust.hpp>
#include <rlhf/driver/ensemble_reward.hpp>
#include <rlhf/driver/odin_loss.hpp>
#include <rlhf/driver/ranking_loss.hpp>
#include <rlhf/driver/reference_point.hpp>
#include <rlhf/driver/reward_loss.hpp>
#include <rlhf/driver/robust_aggregate.hpp>
#include <rlhf/driver/sampling_distribution.hpp>
#include <rlhf/driver/unpaired_loss.hpp>
#include <rlhf/objective/unpaired.hpp>
#include <rlhf/reward/ensemble.hpp>
#include <rlhf/reward/ranking.hpp>
#include <rlhf/reward/thurstone.hpp>
#include <rlhf/reward/ties.hpp>

using rlhf::cuda_space;
template <class T>
using cells = rlhf::view<T, 1, cuda_space>;
using gpu_t = rlhf::thrust_backend;

rlhf::status unpaired(gpu_t& gpu, cells<const float> x, cells<float> y, rlhf::statistics& stats) {
  if (auto s = rlhf::kto_reference_point{}(gpu, rlhf::log_ratio_inputs<float, cuda_space>{x, x, {}}, y); !s) return s;
  rlhf::running_reference running;
  if (auto s = running.update(gpu, rlhf::log_ratio_inputs<float, cuda_space>{x, x, {}}); !s) return s;
  return rlhf::unpaired_loss{rlhf::kto{}}(
      gpu, rlhf::unpaired_inputs<float, cuda_space>{.logp = x, .ref_logp = x, .label = x, .reference_point = y},
      rlhf::unpaired_outputs<float, cuda_space>{.grad_logp = y, .stats = &stats});
}

rlhf::status pairs(gpu_t& gpu, cells<const float> x, cells<float> y) {
  const rlhf::score_inputs<float, cuda_space> in{.chosen = x, .rejected = x, .probability = x, .tie = x};
  const rlhf::score_outputs<float, cuda_space> out{.grad_chosen = y, .grad_tie = y};
  if (auto s = rlhf::reward_loss{rlhf::davidson{}}(gpu, in, out); !s) return s;
  return rlhf::reward_loss{rlhf::thurstone{}}(gpu, in, out);
}

rlhf::status lists(gpu_t& gpu, const rlhf::layout<cuda_space>& sequences, cells<const float> x, cells<float> y,
                   const rlhf::view<const float, 2, cuda_space>& members) {
  const rlhf::ranking_inputs<float, cuda_space> in{.score = x};
  if (auto s = rlhf::ranking_loss{rlhf::plackett_luce{}}(gpu, sequences, in,
                                                         rlhf::ranking_outputs<float, cuda_space>{.grad_score = y});
      !s)
    return s;
  return rlhf::ensemble_reward{rlhf::ensemble_median{}}(gpu, members,
                                                        rlhf::ensemble_outputs<float, cuda_space>{.reward = y});
}

rlhf::status two_heads(gpu_t& gpu, cells<const float> x, cells<float> y, rlhf::statistics& stats) {
  return rlhf::odin_loss{}(gpu, rlhf::odin_inputs<float, cuda_space>{{x, x, x}, {x, x, x}, x, {}},
                           rlhf::odin_outputs<float, cuda_space>{.loss = y, .stats = &stats});
}

rlhf::status worst_cases(gpu_t& gpu, cells<const float> x, cells<float> y) {
  const rlhf::robust_inputs<float, cuda_space> in{.loss = x};
  const rlhf::robust_outputs<float, cuda_space> out{.weight = y};
  if (auto s = rlhf::robust_aggregate{rlhf::chi_square_ball{}}(gpu, in, out); !s) return s;
  return rlhf::robust_aggregate{rlhf::conditional_value_at_risk{}}(gpu, in, out);
}

rlhf::status samplers(gpu_t& gpu, const rlhf::view<const float, 2, cuda_space>& x, cells<float> y) {
  return rlhf::sampling_distribution(gpu, rlhf::pilaf(), rlhf::sampling_inputs<float, cuda_space>{x, x},
                                     rlhf::sampling_outputs<float, cuda_space>{.log_normaliser = y});
}
