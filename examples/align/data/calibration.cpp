#include "align/data/calibration.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "rlhf/math/functions.hpp"
#include "rlhf/math/normal.hpp"

namespace align {

namespace {

using numbers = std::vector<double>;

double mean_of(std::span<const double> x, auto f) {
  double sum = 0;
  for (const double v : x) sum += f(v);
  return sum / static_cast<double>(x.size());
}

double confidence(double margin) { return rlhf::sigmoid(std::abs(margin)); }
double correct(double margin) { return margin > 0 ? 1 : margin == 0 ? 0.5 : 0; }
double surprise(double margin) { return -rlhf::log_sigmoid(margin); }

void add(reliability_bin& bin, double margin) {
  bin.confidence += confidence(margin);
  bin.accuracy += correct(margin);
  ++bin.count;
}

void finish(reliability_bin& bin) {
  if (bin.count == 0) return;
  bin.confidence /= static_cast<double>(bin.count);
  bin.accuracy /= static_cast<double>(bin.count);
}

std::vector<reliability_bin> equal_width(std::span<const double> margins, int bins) {
  std::vector<reliability_bin> out(static_cast<std::size_t>(bins));
  for (int b = 0; b < bins; ++b) {
    out[static_cast<std::size_t>(b)].low = 0.5 + 0.5 * b / bins;
    out[static_cast<std::size_t>(b)].high = 0.5 + 0.5 * (b + 1) / bins;
  }
  for (const double margin : margins) {
    const int b = std::min(static_cast<int>((confidence(margin) - 0.5) * 2 * bins), bins - 1);
    add(out[static_cast<std::size_t>(b)], margin);
  }
  std::for_each(out.begin(), out.end(), finish);
  return out;
}

/// Pairs with the same confidence may fall into neighbouring bins; which of them does must not depend on the order of the
/// file, so the sort looks at the sign too.
std::vector<reliability_bin> equal_count(std::span<const double> margins, int bins) {
  numbers sorted(margins.begin(), margins.end());
  std::sort(sorted.begin(), sorted.end(),
            [](double a, double b) { return std::abs(a) != std::abs(b) ? std::abs(a) < std::abs(b) : a < b; });
  std::vector<reliability_bin> out(std::min(static_cast<std::size_t>(bins), sorted.size()));
  for (std::size_t i = 0; i < sorted.size(); ++i) add(out[i * out.size() / sorted.size()], sorted[i]);
  std::for_each(out.begin(), out.end(), finish);
  return out;
}

double error_of(std::span<const reliability_bin> bins, std::size_t n) {
  double error = 0;
  for (const reliability_bin& bin : bins)
    error += static_cast<double>(bin.count) / static_cast<double>(n) * std::abs(bin.accuracy - bin.confidence);
  return error;
}

/// The loss is convex in a = 1/T: its slope, the mean of -d sigma(-a d), rises, and is bisected for its zero. The margins are
/// brought to at most 1 first, so that nothing overflows.
double fitted_temperature(std::span<const double> margins) {
  double largest = 0;
  for (const double d : margins) largest = std::max(largest, std::abs(d));
  const auto slope = [&](double a) {
    return mean_of(margins, [&](double d) { return -(d / largest) * rlhf::sigmoid(-a * (d / largest)); });
  };
  if (largest == 0 || !(slope(0) < 0)) return std::numeric_limits<double>::infinity();
  if (std::none_of(margins.begin(), margins.end(), [](double d) { return d < 0; })) return 0;
  double low = 1, high = 1;
  while (slope(high) < 0) high *= 2;
  while (slope(low) > 0) low /= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = std::sqrt(low) * std::sqrt(high);
    (slope(middle) < 0 ? low : high) = middle;
  }
  return largest / (std::sqrt(low) * std::sqrt(high));
}

}  // namespace

double thurstone_log_odds(double d) {
  const double x = d / std::sqrt(2.0);
  return rlhf::log_normal_cdf(x) - rlhf::log_normal_cdf(-x);
}
double rao_kupper_log_odds(double d, double log_theta) {
  return rlhf::softplus(log_theta + d) - rlhf::softplus(log_theta - d);
}

calibration calibrate(std::span<const double> margins, int bins) {
  if (margins.empty()) throw std::invalid_argument("calibrate: there are no margins");
  if (bins < 1) throw std::invalid_argument("calibrate: bins is " + std::to_string(bins) + ", wants 1 or more");
  for (const double margin : margins)
    if (!std::isfinite(margin)) throw std::invalid_argument("calibrate: a margin is not finite");

  calibration out;
  out.bins = equal_width(margins, bins);
  out.ece = error_of(out.bins, margins.size());
  out.adaptive_ece = error_of(equal_count(margins, bins), margins.size());
  out.brier = mean_of(margins, [](double d) { return rlhf::square(rlhf::sigmoid(-d)); });
  out.nll = mean_of(margins, surprise);
  out.temperature = fitted_temperature(margins);
  out.scaled_ece = out.scaled_nll = std::numeric_limits<double>::quiet_NaN();
  if (out.temperature > 0 && std::isfinite(out.temperature)) {
    numbers scaled(margins.begin(), margins.end());
    for (double& d : scaled) d /= out.temperature;
    out.scaled_ece = error_of(equal_width(scaled, bins), scaled.size());
    out.scaled_nll = mean_of(scaled, surprise);
  }
  return out;
}

}  // namespace align
