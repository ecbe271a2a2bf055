#include <rlhf/backend/thrust.hpp>

#include "dpo.hpp"

int main() { return run<rlhf::thrust_backend>("thrust"); }
