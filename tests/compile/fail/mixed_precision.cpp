// expect: no matching function for call to .min
#include <rlhf/math/functions.hpp>

double call(float narrow, double wide) {
#ifdef MUST_FAIL
  return rlhf::min(narrow, wide);
#endif
  return rlhf::min(static_cast<double>(narrow), wide);
}
