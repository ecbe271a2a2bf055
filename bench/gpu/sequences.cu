// Station 2 along sequences: GAE for many short, few long and ragged ones; DPO from the tokens of its responses.

#include "contest.cuh"
#include "rlhf/advantage/gae.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

namespace gpu_bench {
namespace {

using rlhf::cuda_space;

void add_gae(contests& all, device& d, const char* name, const rlhf::layout<cuda_space>& sequences,
             const std::shared_ptr<array<std::int64_t>>& offsets,
             const std::shared_ptr<array<std::uint8_t>>& valid = nullptr) {
  const std::int64_t n = sequences.tokens;
  const rlhf::mask_view<cuda_space> mask = valid ? valid->input() : rlhf::mask_view<cuda_space>{};
  const array<float> reward(n, -1, 1, 4), value(n, -1, 1, 5), advantage(n), returns(n);
  all.push_back(
      {std::string("gpu/gae/") + name,
       ceiling::copy,
       static_cast<double>(n) * (4.0 * sizeof(float) + (mask ? 1 : 0)),
       0,
       0.80,
       [=, &d] {
         static_cast<void>(offsets), static_cast<void>(valid);  // kept for the layout and the mask
         require(rlhf::advantage_estimate{rlhf::gae{}}(
             d.backend, sequences,
             rlhf::advantage_inputs<float, cuda_space>{.reward = reward.input(), .value = value.input(), .mask = mask},
             rlhf::advantage_outputs<float, cuda_space>{.advantage = advantage.view(), .returns = returns.view()}));
       },
       {},
       {},
       [=] {
         return joined({advantage.download(), returns.download()});
       }});
}

}  // namespace

void add_sequences(contests& all, device& d, std::int64_t divisor) {
  const auto padded = [](std::int64_t rows, std::int64_t width) {
    return rlhf::layout<cuda_space>{nullptr, rows, width, rows * width};
  };
  add_gae(all, d, "512x4096", padded(512 / divisor, 4096), nullptr);
  // The same with every seventh token outside the mask.
  std::vector<std::uint8_t> valid(static_cast<std::size_t>(512 / divisor * 4096));
  for (std::size_t i = 0; i < valid.size(); ++i) valid[i] = i % 7 != 0;
  const auto mask = std::make_shared<array<std::uint8_t>>(valid);
  add_gae(all, d, "512x4096_mask", padded(512 / divisor, 4096), nullptr, mask);
  add_gae(all, d, "8x131072", padded(8, 131072 / divisor), nullptr);
  std::vector<std::int64_t> ends{0};
  const std::int64_t ragged = 65536 / divisor;
  for (std::int64_t s = 0; s < ragged; ++s)
    ends.push_back(ends.back() + 16 + static_cast<std::int64_t>(mixed(s, 7) * 4081.0f));
  const auto offsets = std::make_shared<array<std::int64_t>>(ends);
  add_gae(all, d, "ragged_65536", rlhf::layout<cuda_space>{offsets->data(), ragged, 0, ends.back()}, offsets);

  const std::int64_t pairs = 4096 / divisor, width = 2048, n = pairs * width;
  const array<float> chosen(n, -3, 0, 1), rejected(n, -3, 0, 2), ref_chosen(n, -3, 0, 3), ref_rejected(n, -3, 0, 4),
      grad_chosen(n), grad_rejected(n), loss(1);
  rlhf::token_pair_inputs<float, cuda_space> in;
  in.chosen = {padded(pairs, width), chosen.input(), ref_chosen.input(), {}};
  in.rejected = {padded(pairs, width), rejected.input(), ref_rejected.input(), {}};
  all.push_back(
      {"gpu/dpo/4096x2048",
       ceiling::copy,
       6.0 * static_cast<double>(n) * sizeof(float),
       0,
       0.85,
       [=, &d] {
         static_cast<void>(chosen), static_cast<void>(rejected);
         static_cast<void>(ref_chosen), static_cast<void>(ref_rejected);
         require(rlhf::preference_loss{rlhf::dpo_sigmoid{}}(
             d.backend, in,
             rlhf::pair_outputs<float, cuda_space>{
                 .loss = loss.view(), .grad_chosen = grad_chosen.view(), .grad_rejected = grad_rejected.view()}));
       },
       {},
       {},
       [=] {
         return joined({loss.download(), grad_chosen.download(), grad_rejected.download()});
       }});
}

}  // namespace gpu_bench
