// Compiled twice, for two instruction sets, and linked into one program: each half must keep its own code.
// UNIT names the half. The arithmetic is a whole call: driver, formula, duals, backend.
#include <cstddef>
#include <cstdint>
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/objective/aggregate.hpp>
#include <rlhf/objective/preference.hpp>
#include <vector>
#ifdef WITH_EIGEN
#include <rlhf/backend/eigen.hpp>
#endif

#include "odr/unit.hpp"

namespace {

template <class Backend>
outcome run(Backend&& backend) {
  constexpr std::int64_t pairs = 1003;
  std::vector<float> chosen(pairs), rejected(pairs), ref_chosen(pairs), ref_rejected(pairs), grad_chosen(pairs),
      grad_rejected(pairs);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const float x = static_cast<float>(i);
    chosen[i] = -20 - 0.01f * x;
    rejected[i] = -25 + 0.007f * x;
    ref_chosen[i] = -21 - 0.003f * x;
    ref_rejected[i] = -22 + 0.001f * x;
  }
  outcome out;
  const rlhf::preference_loss dpo{rlhf::dpo_sigmoid{.beta = 0.1}, rlhf::batch_mean{}};
  const rlhf::status done =
      dpo(backend, {.chosen = chosen, .rejected = rejected, .ref_chosen = ref_chosen, .ref_rejected = ref_rejected},
          {.loss = {&out.loss, 1}, .grad_chosen = grad_chosen, .grad_rejected = grad_rejected});
  out.ok = static_cast<bool>(done);
  for (const float g : grad_chosen) out.gradient += static_cast<double>(g);
  return out;
}

}  // namespace

outcomes UNIT() {
  outcomes all;
  all.reference = run(rlhf::reference_backend{});
#ifdef WITH_EIGEN
  all.eigen = run(rlhf::eigen_backend{});
#else
  all.eigen = all.reference;
#endif
  return all;
}
