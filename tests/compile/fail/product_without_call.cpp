// expect: rlhf: a matrix product is a struct with
// A product policy that does not multiply.

#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/fused_linear.hpp>
#include <rlhf/objective/token.hpp>

struct no_product {
  int threads = 1;
};

rlhf::status call(rlhf::reference_backend& be, const rlhf::linear_inputs<float>& in,
                  const rlhf::linear_outputs<float>& out) {
#ifdef MUST_FAIL
  const rlhf::fused_linear<no_product> fused;
#else
  const rlhf::fused_linear<> fused;
#endif
  return fused(be, in,
               rlhf::over_tokens{rlhf::policy_loss{rlhf::ppo_clip{}}, rlhf::padded(1, 1), rlhf::token_inputs<float>{},
                                 rlhf::token_outputs<float>{}},
               out);
}
