#pragma once
// What an objective gives back, by the names of the case format.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "array.hpp"

namespace eval {

/// Named arrays in the order they were put in: outputs, statistics, gradients.
struct results {
  using list = std::vector<std::pair<std::string, array>>;
  using shape = std::vector<std::int64_t>;
  list outputs;
  list stats;
  list gradients;

  void put(std::string name, double value) { outputs.emplace_back(std::move(name), array{{}, {value}}); }
  void put(std::string name, shape s, std::vector<double> values) {
    outputs.emplace_back(std::move(name), array{std::move(s), std::move(values)});
  }
  void stat(std::string name, double value) { stats.emplace_back(std::move(name), array{{}, {value}}); }
  void stat(std::string name, shape s, std::vector<double> values) {
    stats.emplace_back(std::move(name), array{std::move(s), std::move(values)});
  }
  void gradient(std::string name, shape s, std::vector<double> values) {
    gradients.emplace_back(std::move(name), array{std::move(s), std::move(values)});
  }
};

}  // namespace eval
