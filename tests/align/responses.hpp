#pragma once
// A ragged batch for the tests of models: four prompts of different lengths, each with one response.

#include <cstdint>
#include <vector>

#include "rlhf/policy/responses.hpp"

inline rlhf::responses some_responses() {
  rlhf::responses out;
  for (int i = 0; i < 4; ++i) {
    std::vector<std::int32_t> prompt{0}, response;
    for (int t = 0; t < i; ++t) prompt.push_back(2 + (5 * i + t) % 11);
    for (int t = 0; t < 3 + i; ++t) response.push_back(1 + (7 * t + 3 * i) % 12);
    out.add(prompt, response);
  }
  return out;
}
