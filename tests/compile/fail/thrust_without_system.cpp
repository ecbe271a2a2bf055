// expect: rlhf: name Thrust's device system for this compiler
#include <rlhf/backend/thrust.hpp>
