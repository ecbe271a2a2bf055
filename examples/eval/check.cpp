#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "failure.hpp"

namespace eval {

namespace {

std::string compare_numbers(double got, double want, double tolerance, double& worst, const std::string& name) {
  if (std::isnan(want) || std::isinf(want) ? got == want || (std::isnan(want) && std::isnan(got))
                                           : std::abs(got - want) <= tolerance * (1 + std::abs(want))) {
    if (std::isfinite(want)) worst = std::max(worst, std::abs(got - want) / (1 + std::abs(want)));
    return {};
  }
  const double error = std::abs(got - want) / (1 + std::abs(want));
  worst = std::isfinite(error) ? std::max(worst, error) : HUGE_VAL;
  char text[160];
  std::snprintf(text, sizeof text, " is %.17g, wants %.17g (scaled error %.2g, tolerance %.2g)", got, want, error,
                tolerance);
  return name + text;
}

std::string compare_arrays(const json& got, const json& want, double tolerance, double& worst,
                           const std::string& name) {
  const array g = read_array(got, name), w = read_array(want, text("expect.", name));
  if (g.shape != w.shape) return name + " is " + words(g.shape) + ", wants " + words(w.shape);
  std::string first;
  for (std::size_t i = 0; i < w.data.size(); ++i) {
    std::string at;  // the indices of element i
    std::size_t rest = i;
    for (std::size_t k = w.shape.size(); k-- > 0;) {
      const auto extent = static_cast<std::size_t>(w.shape[k]);
      at = text("[", std::to_string(rest % extent), "]", at);
      rest /= extent;
    }
    const std::string wrong = compare_numbers(g.data[i], w.data[i], tolerance, worst, name + at);
    if (first.empty()) first = wrong;
  }
  return first;
}

}  // namespace

std::string mismatch(const json& got, const json& expect, double tolerance, double& worst) {
  std::string first;
  const auto compare = [&](const json& from, const json& want, const std::string& key, const std::string& name) {
    const std::string wrong = from.contains(key) ? compare_arrays(from[key], want, tolerance, worst, name)
                                                 : name + " is expected, but not computed";
    if (first.empty()) first = wrong;
  };
  for (const auto& [name, want] : expect.items()) {
    const bool gradients = name == "grad";
    if (!want.is_object()) {
      compare(got["outputs"], want, name, name);
      continue;
    }
    const json& from = gradients ? got["grad"] : got["outputs"].contains(name) ? got["outputs"][name] : json::object();
    for (const auto& [key, value] : want.items()) compare(from, value, key, name + "." + key);
  }
  return first;
}

scoreboard::count& scoreboard::at(const std::string& row) {
  const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const count& c) { return c.name == row; });
  if (found != rows_.end()) return *found;
  rows_.push_back({.name = row});
  return rows_.back();
}

void scoreboard::passed(const std::string& row, double worst) {
  count& c = at(row);
  ++c.passed;
  c.worst = std::max(c.worst, worst);
}
void scoreboard::failed(const std::string& row, double worst) {
  count& c = at(row);
  ++c.failed;
  c.worst = std::max(c.worst, worst);
}
void scoreboard::skipped(const std::string& row) { ++at(row).skipped; }

std::int64_t scoreboard::failures() const {
  std::int64_t n = 0;
  for (const count& c : rows_) n += c.failed;
  return n;
}

std::vector<std::string> scoreboard::skipped_rows() const {
  std::vector<std::string> out;
  for (const count& c : rows_)
    if (c.skipped > 0) out.push_back(c.name);
  return out;
}

void scoreboard::print(std::ostream& out) const {
  std::size_t width = 20;
  count all{.name = "total"};
  for (const count& c : rows_) {
    width = std::max(width, c.name.size());
    all.passed += c.passed;
    all.failed += c.failed;
    all.skipped += c.skipped;
    all.worst = std::max(all.worst, c.worst);
  }
  const auto line = [&](const count& c) {
    char numbers[96];
    std::snprintf(numbers, sizeof numbers, "%8lld %7lld %8lld", static_cast<long long>(c.passed),
                  static_cast<long long>(c.failed), static_cast<long long>(c.skipped));
    char error[32] = "";
    if (c.passed + c.failed > 0) std::snprintf(error, sizeof error, "   %.1e", c.worst);
    out << c.name << std::string(width - c.name.size(), ' ') << numbers << error << '\n';
  };
  out << "op/objective" << std::string(width - 12, ' ') << "  passed  failed  skipped   worst error\n";
  for (const count& c : rows_) line(c);
  line(all);
}

}  // namespace eval
