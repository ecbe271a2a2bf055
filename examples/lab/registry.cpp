// The table of experiments. A new one: a file in experiments/, its declaration, its place.

#include "lab/experiment.hpp"

namespace lab {

experiment x01_soft_bellman();
experiment x02_rto_fixed_point();
experiment x03_gap_identity();
experiment x06_rebel_is_natural_gradient();

std::vector<experiment> all_experiments() {
  return {
      x01_soft_bellman(),
      x02_rto_fixed_point(),
      x03_gap_identity(),
      x06_rebel_is_natural_gradient(),
  };
}

}  // namespace lab
