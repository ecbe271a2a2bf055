// expect: ignoring return.*value.*(status|nodiscard)
#include <rlhf/core/status.hpp>

rlhf::status work();

rlhf::status call() {
#ifdef MUST_FAIL
  work();
#endif
  return work();
}
