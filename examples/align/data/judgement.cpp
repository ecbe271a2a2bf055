#include "align/data/judgement.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <vector>

namespace align {

namespace {

using json = nlohmann::ordered_json;

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

/// Adds a pair that went this way: positive is right.
void add(pair_share& s, double margin) {
  ++s.pairs;
  s.ties += margin == 0 ? 1 : 0;
  s.share += margin > 0 ? 1 : margin == 0 ? 0.5 : 0;
}

/// Wilson 1927: the shares p that lie within 1.96 of their own standard errors of the one that was seen.
void finish(pair_share& s) {
  if (s.pairs == 0) {
    s.share = nothing;
    return;
  }
  constexpr double z = 1.959963984540054;
  const double n = static_cast<double>(s.pairs);
  s.share /= n;
  const double center = (s.share + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(s.share * (1 - s.share) / n + z * z / (4 * n * n));
  s.low = std::max(0.0, center - half);
  s.high = std::min(1.0, center + half);
}

std::string number(double x) {
  if (std::isnan(x)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", x);
  return text;
}

std::string row(const char* name, const pair_share& s) {
  char text[160];
  std::snprintf(text, sizeof text, "%-34s %7s  [%s, %s]  %lld pairs, %lld ties\n", name, number(s.share).c_str(),
                number(s.low).c_str(), number(s.high).c_str(), static_cast<long long>(s.pairs),
                static_cast<long long>(s.ties));
  return text;
}
std::string row(const char* name, double x) {
  char text[80];
  std::snprintf(text, sizeof text, "%-34s %7s\n", name, number(x).c_str());
  return text;
}

json finite(double x) { return std::isfinite(x) ? json(x) : json(nullptr); }

json to_json(const pair_share& s) {
  return {{"share", finite(s.share)}, {"low", s.low}, {"high", s.high}, {"pairs", s.pairs}, {"ties", s.ties}};
}

}  // namespace

judgement judge(std::span<const double> chosen, std::span<const double> rejected,
                std::span<const std::int64_t> chosen_length, std::span<const std::int64_t> rejected_length,
                const win_law& law) {
  const std::size_t n = chosen.size();
  if (n == 0) throw std::invalid_argument("judge: there are no pairs");
  if (rejected.size() != n || chosen_length.size() != n || rejected_length.size() != n)
    throw std::invalid_argument("judge: got " + std::to_string(n) + " and " + std::to_string(rejected.size()) +
                                " scores, " + std::to_string(chosen_length.size()) + " and " +
                                std::to_string(rejected_length.size()) + " lengths, wants as many of each");
  judgement out;
  std::vector<double> margins(n);
  double both = 0, scores = 0, lengths = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double margin = chosen[i] - rejected[i];
    if (!std::isfinite(margin))
      throw std::invalid_argument("judge: the scores of pair " + std::to_string(i) + " are not finite");
    const auto longer = static_cast<double>(chosen_length[i] - rejected_length[i]);
    add(out.accuracy, margin);
    add(out.longer_wins, longer);
    if (longer != 0) add(longer > 0 ? out.longer_chosen : out.shorter_chosen, margin);
    both += margin * longer;
    scores += margin * margin;
    lengths += longer * longer;
    margins[i] = law ? law(margin) : margin;
  }
  for (pair_share* s : {&out.accuracy, &out.longer_wins, &out.longer_chosen, &out.shorter_chosen}) finish(*s);
  out.length_correlation = scores > 0 && lengths > 0 ? both / (std::sqrt(scores) * std::sqrt(lengths)) : nothing;
  out.calibration = calibrate(margins);
  return out;
}

std::string to_table(const judgement& found) {
  const calibration& c = found.calibration;
  return row("accuracy", found.accuracy) + row("the longer one wins", found.longer_wins) +
         row("accuracy, longer one chosen", found.longer_chosen) +
         row("accuracy, shorter one chosen", found.shorter_chosen) +
         row("correlation with length", found.length_correlation) + row("loss, nats", c.nll) + row("Brier", c.brier) +
         row("calibration error", c.ece) + row("calibration error, equal counts", c.adaptive_ece) +
         row("fitted temperature", c.temperature) + row("calibration error at it", c.scaled_ece) +
         row("loss at it, nats", c.scaled_nll);
}

nlohmann::ordered_json to_json(const judgement& found) {
  const calibration& c = found.calibration;
  json bins = json::array();
  for (const reliability_bin& bin : c.bins)
    bins.push_back({{"low", bin.low},
                    {"high", bin.high},
                    {"confidence", bin.confidence},
                    {"accuracy", bin.accuracy},
                    {"count", bin.count}});
  return {{"accuracy", to_json(found.accuracy)},
          {"longer_wins", to_json(found.longer_wins)},
          {"longer_chosen", to_json(found.longer_chosen)},
          {"shorter_chosen", to_json(found.shorter_chosen)},
          {"length_correlation", finite(found.length_correlation)},
          {"calibration",
           {{"ece", c.ece},
            {"adaptive_ece", c.adaptive_ece},
            {"brier", c.brier},
            {"nll", c.nll},
            {"temperature", finite(c.temperature)},
            {"scaled_ece", finite(c.scaled_ece)},
            {"scaled_nll", finite(c.scaled_nll)},
            {"bins", bins}}}};
}

}  // namespace align
