#include <rlhf/backend/eigen.hpp>

#include "dpo.hpp"

int main() { return run<rlhf::eigen_backend>("eigen"); }
