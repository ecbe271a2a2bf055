#include <rlhf/backend/reference.hpp>

#include "dpo.hpp"

int main() { return run<rlhf::reference_backend>("reference"); }
