// expect: rlhf: the loss at the reference is that of an objective of pairs or of single responses
#include <rlhf/objective/preference.hpp>
#include <rlhf/objective/token.hpp>
#include <rlhf/train/diagnose.hpp>

double call() {
#ifdef MUST_FAIL
  return rlhf::loss_at_reference(rlhf::ppo_clip{});
#endif
  return rlhf::loss_at_reference(rlhf::dpo_sigmoid{});
}
