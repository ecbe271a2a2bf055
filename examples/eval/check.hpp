#pragma once
// Results against expectations, and the table of how they fared.

#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "cases.hpp"

namespace eval {

/// Compares `{"outputs", "grad"}` with the `expect` of a case. Everything expected must be there, in shape and value:
/// |got - want| <= tolerance (1 + |want|), non-finite numbers exactly. Returns the first that is not, or nothing;
/// `worst` receives the largest |got - want| / (1 + |want|).
[[nodiscard]] std::string mismatch(const json& got, const json& expect, double tolerance, double& worst);

/// Counts per op and objective, in the order of their first case.
class scoreboard {
 public:
  void passed(const std::string& row, double worst);
  void failed(const std::string& row, double worst);
  void skipped(const std::string& row);

  [[nodiscard]] std::int64_t failures() const;
  [[nodiscard]] std::vector<std::string> skipped_rows() const;
  void print(std::ostream& out) const;

 private:
  struct count {
    std::string name;
    std::int64_t passed = 0, failed = 0, skipped = 0;
    double worst = 0;
  };
  [[nodiscard]] count& at(const std::string& row);
  std::vector<count> rows_;
};

}  // namespace eval
