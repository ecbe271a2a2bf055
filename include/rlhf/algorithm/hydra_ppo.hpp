#pragma once
// Hydra-PPO: PPO with one trunk for everything.
//
//   actor     = trunk + adapter, language head       reference = the same with the adapter off
//   critic    = trunk + adapter, scalar head         reward    = the reward head with the adapter off
//   joint:  one adapter, one pass forward and one back for
//     L = policy loss + c_v value loss
//
// Santacroce et al. 2023, "Efficient RLHF: Reducing the Memory Usage of PPO", arXiv 2309.00754. The mapping of heads is the
// common reading of it. Default: c_v = 0.1, as in PPO with a shared trunk (Ziegler et al. 2019).

#include "rlhf/algorithm/ppo.hpp"

namespace rlhf::inline v1 {

/// Any basic_ppo and the weight of its value loss.
template <class Ppo = ppo>
struct hydra_ppo {
  Ppo algorithm{};
  double value_weight = 0.1;  ///< c_v

  [[nodiscard]] constexpr status check() const {
    return value_weight >= 0 ? status{} : remark::argument("hydra_ppo", "value_weight", value_weight, "0 or more");
  }
};

/// Bytes of weights, gradients and optimiser of the ways to run PPO, without activations. A trained weight has a gradient of
/// its own width and `optimiser` bytes besides (12: Adam's two moments and a master copy in float32). Derived from what each
/// keeps: four models in full or in part, one trunk, one adapter or two.
struct ppo_memory {
  double parameters = 0;  ///< P, of a trunk
  double adapter = 0;     ///< p, of one adapter
  double width = 2;       ///< b, bytes of a weight
  double optimiser = 12;  ///< bytes for each trained weight

  /// Four models, two of them trained in full.
  [[nodiscard]] constexpr double full() const { return 4 * width * parameters + 2 * (width + optimiser) * parameters; }
  /// Four models, two of them with adapters.
  [[nodiscard]] constexpr double lora() const { return 4 * width * parameters + 2 * trained(); }
  /// One trunk, an adapter for the actor and one for the critic.
  [[nodiscard]] constexpr double hydra() const { return width * parameters + 2 * trained(); }
  /// One trunk, one adapter for both.
  [[nodiscard]] constexpr double joint_hydra() const { return width * parameters + trained(); }

 private:
  [[nodiscard]] constexpr double trained() const { return (2 * width + optimiser) * adapter; }
};

}  // namespace rlhf::inline v1
