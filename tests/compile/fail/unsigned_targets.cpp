// expect: targets are signed
// A masked token's target becomes ignore_index, which no unsigned type holds.
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/fused_linear.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/objective/token.hpp>

template <class Index>
rlhf::status call(rlhf::reference_backend& be, const rlhf::linear_inputs<float, rlhf::host_space, Index>& in) {
  const rlhf::over_tokens loss{rlhf::policy_loss{rlhf::negative_log_likelihood{}}, rlhf::padded(1, 1),
                               rlhf::token_inputs<>{}, rlhf::token_outputs<>{}};
  return rlhf::fused_linear<>{}(be, in, loss, rlhf::linear_outputs<>{});
}

template rlhf::status call(rlhf::reference_backend&, const rlhf::linear_inputs<>&);
#ifdef MUST_FAIL
template rlhf::status call(rlhf::reference_backend&,
                           const rlhf::linear_inputs<float, rlhf::host_space, std::uint32_t>&);
#endif
