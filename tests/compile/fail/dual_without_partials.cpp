// expect: a dual without partial derivatives is a plain number
#include <rlhf/math/dual.hpp>

rlhf::dual<double, 1> one;
#ifdef MUST_FAIL
rlhf::dual<double, 0> none;
#endif
