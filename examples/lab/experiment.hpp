#pragma once
// What an experiment is: a claim, how it is put to the test, and what came out.

#include <cstdint>
#include <string>
#include <vector>

#include "lab/crew.hpp"
#include "rlhf/math/random.hpp"

namespace lab {

/// One comparison of a measured number with what the claim says. Passes where the two bands meet: the measured interval
/// [low, high] and [least, most], what is expected with its tolerance.
struct check {
  std::string what;
  std::string expected;  ///< in words or figures, as a reader wants it
  double measured = 0;
  double low = 0,
         high = 0;  ///< interval of the measurement: 4 standard errors; measured itself where nothing is random
  double least = 0, most = 0;  ///< accepted
  bool pass = false;
};

/// One line of a plot: `x[i]`, `y[i]`. Points are not joined.
struct curve {
  std::string name;
  std::vector<double> x, y;
  bool points = false;
};
struct plot {
  std::string title, x_label, y_label;
  std::vector<curve> curves;
  bool log_x = false, log_y = false;
};

struct outcome {
  std::vector<check> checks;
  std::vector<plot> plots;
  std::string note;  ///< what a reader should know about the numbers; HTML

  [[nodiscard]] bool pass() const {
    bool all = !checks.empty();
    for (const check& c : checks) all = all && c.pass;
    return all;
  }
};

/// Numbers of repetitions as mean and standard error of the mean.
struct estimate {
  double mean = 0, error = 0;
};
[[nodiscard]] estimate estimate_of(const std::vector<double>& samples);

// Checks. The interval of a sampled quantity is 4 standard errors wide on each side, so that a true claim fails one seed in
// fifteen thousand; `resolution` guards against passing by noise: with a wider interval than that the check fails.

/// |error| of an identity.
[[nodiscard]] check identity(std::string what, double error, double tolerance);
/// A number that nothing random enters.
[[nodiscard]] check close(std::string what, double measured, double expected, double tolerance);
[[nodiscard]] check at_most(std::string what, double measured, double bound);
[[nodiscard]] check at_least(std::string what, double measured, double bound);
/// The mean of independent repetitions.
[[nodiscard]] check close(std::string what, const std::vector<double>& samples, double expected, double tolerance,
                          double resolution);
[[nodiscard]] check at_most(std::string what, const std::vector<double>& samples, double bound);
[[nodiscard]] check at_least(std::string what, const std::vector<double>& samples, double bound);
[[nodiscard]] check holds(std::string what, bool so);

/// Slope of the least-squares line through (log x, log y).
[[nodiscard]] double log_slope(const std::vector<double>& x, const std::vector<double>& y);
/// n numbers from a to b with equal ratios.
[[nodiscard]] std::vector<double> geometric(double a, double b, int n);

/// What an experiment may use: random numbers of its own, and the machine's threads.
class laboratory {
 public:
  laboratory(lab::crew& crew, std::uint64_t seed, std::uint64_t number, bool quick)
      : crew_(&crew), seed_(seed), number_(number), quick_(quick) {}

  /// Fewer repetitions are wanted. The bands widen with the noise; the claims stay the same.
  [[nodiscard]] bool quick() const { return quick_; }
  [[nodiscard]] int repetitions(int full, int quick) const { return quick_ ? quick : full; }

  /// Random numbers of repetition `i`: a function of the seed, the experiment and `i` alone.
  [[nodiscard]] rlhf::random_numbers numbers(std::size_t i = 0) const {
    return rlhf::random_numbers({seed_, number_ << 32 | i});
  }
  /// f(0) ... f(n - 1), computed on all threads; the results in order.
  template <class F>
  [[nodiscard]] auto repeat(int n, F&& f) const {
    std::vector<decltype(f(std::size_t{}))> out(static_cast<std::size_t>(n));
    crew_->for_each(out.size(), [&](std::size_t i) { out[i] = f(i); });
    return out;
  }

 private:
  lab::crew* crew_;
  std::uint64_t seed_, number_;
  bool quick_;
};

/// Text fields are HTML: <sup>, <sub> and &lt; are at hand.
struct experiment {
  std::string id;  ///< as in "X6"
  std::string title;
  std::string claim;   ///< one sentence
  std::string source;  ///< whose claim it is
  std::string equation;
  std::string setup;
  outcome (*run)(const laboratory&);
};

/// All experiments in their order; the table is in registry.cpp.
[[nodiscard]] std::vector<experiment> all_experiments();

}  // namespace lab
