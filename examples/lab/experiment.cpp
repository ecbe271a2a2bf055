#include "lab/experiment.hpp"

#include <cmath>
#include <cstdio>
#include <limits>

namespace lab {
namespace {

constexpr double unbounded = std::numeric_limits<double>::infinity();

std::string text(double x) {
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, "%.4g", x);
  return buffer;
}

check judged(std::string what, std::string expected, const estimate& e, double least, double most, double resolution) {
  check c{std::move(what), std::move(expected), e.mean, e.mean - 4 * e.error, e.mean + 4 * e.error, least, most, false};
  c.pass = c.low <= most && c.high >= least && 4 * e.error <= resolution;  // false for NaN
  return c;
}

}  // namespace

estimate estimate_of(const std::vector<double>& samples) {
  const auto n = static_cast<double>(samples.size());
  estimate out;
  double square = 0;
  for (const double x : samples) out.mean += x / n;
  for (const double x : samples) square += (x - out.mean) * (x - out.mean);
  out.error = samples.size() > 1 ? std::sqrt(square / (n - 1) / n) : unbounded;
  return out;
}

check identity(std::string what, double error, double tolerance) {
  return judged(std::move(what), "0 &plusmn; " + text(tolerance), {std::fabs(error), 0}, -tolerance, tolerance, 0);
}
check close(std::string what, double measured, double expected, double tolerance) {
  return judged(std::move(what), text(expected) + " &plusmn; " + text(tolerance), {measured, 0}, expected - tolerance,
                expected + tolerance, 0);
}
check at_most(std::string what, double measured, double bound) {
  return judged(std::move(what), "at most " + text(bound), {measured, 0}, -unbounded, bound, 0);
}
check at_least(std::string what, double measured, double bound) {
  return judged(std::move(what), "at least " + text(bound), {measured, 0}, bound, unbounded, 0);
}
check close(std::string what, const std::vector<double>& samples, double expected, double tolerance,
            double resolution) {
  return judged(std::move(what), text(expected) + " &plusmn; " + text(tolerance), estimate_of(samples),
                expected - tolerance, expected + tolerance, resolution);
}
check at_most(std::string what, const std::vector<double>& samples, double bound) {
  return judged(std::move(what), "at most " + text(bound), estimate_of(samples), -unbounded, bound, unbounded);
}
check at_least(std::string what, const std::vector<double>& samples, double bound) {
  return judged(std::move(what), "at least " + text(bound), estimate_of(samples), bound, unbounded, unbounded);
}
check holds(std::string what, bool so) { return judged(std::move(what), "yes (1)", {so ? 1.0 : 0.0, 0}, 1, 1, 0); }

double log_slope(const std::vector<double>& x, const std::vector<double>& y) {
  double mx = 0, my = 0, xx = 0, xy = 0;
  const auto n = static_cast<double>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) mx += std::log(x[i]) / n, my += std::log(y[i]) / n;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = std::log(x[i]) - mx;
    xx += d * d;
    xy += d * (std::log(y[i]) - my);
  }
  return xy / xx;
}

std::vector<double> geometric(double a, double b, int n) {
  std::vector<double> out;
  for (int i = 0; i < n; ++i) out.push_back(a * std::pow(b / a, static_cast<double>(i) / (n > 1 ? n - 1 : 1)));
  return out;
}

}  // namespace lab
