#pragma once
// The algorithms that rlhf-align knows by name.

#include <string>
#include <vector>

namespace align {

struct algorithm_entry {
  const char* name;
  const char* title;
  const char* source;
};

inline constexpr algorithm_entry algorithms[] = {
    {"dpo", "DPO", "Rafailov et al. 2023, arXiv 2305.18290"},
    {"kto", "KTO", "Ethayarajh et al. 2024, arXiv 2402.01306"},
    {"rebel", "REBEL", "Gao et al. 2024, arXiv 2404.16767"},
    {"ppo", "PPO", "Schulman et al. 2017, arXiv 1707.06347"},
    {"rto", "RTO", "Zhong et al. 2024, arXiv 2404.18922"},
};

[[nodiscard]] inline std::vector<std::string> algorithm_names() {
  std::vector<std::string> names;
  for (const algorithm_entry& a : algorithms) names.emplace_back(a.name);
  return names;
}

}  // namespace align
