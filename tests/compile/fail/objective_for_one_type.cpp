// expect: rlhf: a token objective is a struct with
// Without a template over the number there is no gradient.
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>

struct for_double {
  double operator()(const rlhf::token<double>& t) const { return -t.logp; }
};
struct for_any_number {
  template <rlhf::number V>
  V operator()(const rlhf::token<V>& t) const {
    return -t.logp;
  }
};

rlhf::status call(rlhf::token_inputs<> in, rlhf::token_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::policy_loss<for_double>{}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::policy_loss<for_any_number>{}(cpu, rlhf::padded(2, 3), in, out);
}
