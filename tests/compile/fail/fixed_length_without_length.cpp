// expect: (could not convert|no default constructor|no matching (constructor|function)|deleted function|must explicitly initialize|not initialized)
// A width that padding could change is no denominator: the constant is the caller's to give.
#include <rlhf/objective/aggregate.hpp>

#ifdef MUST_FAIL
constexpr rlhf::fixed_length none{};
#endif
constexpr rlhf::fixed_length some{.length = 512};
