#pragma once
// The tables: which objectives of which ops a backend evaluates, with their parameters and inputs.

#include <functional>
#include <string>
#include <vector>

#include "problem.hpp"
#include "results.hpp"

namespace eval {

/// One row of the table.
struct objective {
  using function = std::function<void(const problem&, results&)>;
  std::string op;
  std::string name;
  parameters settings;
  inputs arrays;
  function f64;
  function f32;
};

/// The objectives of one backend.
class registry {
 public:
  /// `run` is a generic lambda: `run.template operator()<T>(problem, results)` for T double and float.
  template <class Run>
  void add(std::string op, std::string name, parameters settings, inputs arrays, const Run& run) {
    rows_.push_back({std::move(op), std::move(name), std::move(settings), std::move(arrays),
                     [run](const problem& p, results& r) { run.template operator()<double>(p, r); },
                     [run](const problem& p, results& r) { run.template operator()<float>(p, r); }});
  }
  /// Throws `failure` (unknown_op, unknown_objective) where there is none.
  [[nodiscard]] const objective& find(const std::string& op, const std::string& name) const;
  [[nodiscard]] const std::vector<objective>& rows() const { return rows_; }

 private:
  std::vector<objective> rows_;
};

/// A backend that this program was built with, and how its table is filled.
struct backend {
  std::string name;
  registry table;
};

/// The backends of this build, the reference first.
[[nodiscard]] const std::vector<backend>& backends();

}  // namespace eval
