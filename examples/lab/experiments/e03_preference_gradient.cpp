// E3: ascent with gradients from preferences gets closer the more pairs and labels a step has.

#include "lab/preference_gradient.hpp"
#include "rlhf/theory/log_linear.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 6;
constexpr double alpha = 0.1;

struct path {
  double gradient = 0;  ///< mean squared gradient over the last half
  double value = 0;
  std::vector<double> squares;  ///< in tenths of the path
};

path ascend(const random_numbers& numbers, const vector& reward, const preference_gradient* estimator,
            std::int64_t size, int rounds) {
  log_linear policy = log_linear::tabular(vector::Zero(arms));
  const double radius = balanced_radius(size, size);
  path out;
  out.squares.assign(10, 0);
  for (int t = 0; t < rounds; ++t) {
    const vector exact = policy.gradient(reward);
    out.squares[static_cast<std::size_t>(10 * t / rounds)] += exact.squaredNorm() * 10 / rounds;
    if (2 * t >= rounds) out.gradient += exact.squaredNorm() * 2 / rounds;
    vector step = exact;
    if (estimator) {
      const random_index at{.prompt = static_cast<std::uint32_t>(t), .sample = static_cast<std::uint32_t>(size)};
      const vector v = search_direction(arms, 0, numbers, {.prompt = at.prompt, .sample = 1});
      log_linear beside = policy;
      beside.theta += radius * v;
      step = zeroth_order_gradient(estimator->difference(policy.logp(), beside.logp(), numbers, at), v, radius);
    }
    policy.theta += alpha * step;
  }
  out.value = expectation(policy.logp(), reward);
  return out;
}

outcome run(const laboratory& lab) {
  const std::int64_t sizes[] = {3, 10, 30, 100};
  const int rounds = 1500, paths = lab.repetitions(160, 96);
  vector reward(arms);
  for (Eigen::Index y = 0; y < arms; ++y)
    reward[y] = lab.numbers().uniform({.sample = 1, .position = static_cast<std::uint32_t>(y)});
  std::vector<preference_gradient> estimators;
  for (const std::int64_t n : sizes) estimators.emplace_back(reward, n, n, 1.0);
  const auto all = lab.repeat(paths, [&](std::size_t i) {
    std::vector<path> out;
    for (std::size_t k = 0; k < 4; ++k)
      out.push_back(ascend(lab.numbers(i + 1), reward, &estimators[k], sizes[k], rounds));
    return out;
  });
  const path exact = ascend(lab.numbers(), reward, nullptr, 0, rounds);

  outcome out;
  curve floor{"mean over the last half", {}, {}, false};
  plot progress{
      "Mean of " + std::to_string(paths) + " paths", "round", "squared gradient of the value", {}, false, true};
  for (std::size_t k = 0; k < 4; ++k) {
    double sum = 0;
    curve c{"N = M = " + std::to_string(sizes[k]), {}, {}, false};
    for (std::size_t j = 0; j < 10; ++j) {
      c.x.push_back(rounds * (static_cast<double>(j) + 0.5) / 10);
      c.y.push_back(0);
      for (const auto& p : all) c.y.back() += p[k].squares[j] / paths;
    }
    for (const auto& p : all) sum += p[k].gradient / paths;
    floor.x.push_back(static_cast<double>(sizes[k])), floor.y.push_back(sum);
    progress.curves.push_back(std::move(c));
  }
  curve without{"exact gradient", progress.curves[0].x, exact.squares, false};
  progress.curves.push_back(without);
  const auto change = [&](std::size_t k, auto what) {
    std::vector<double> d;
    for (const auto& p : all) d.push_back(what(p[k + 1]) - what(p[k]));
    return d;
  };
  const auto gradient = [](const path& p) { return p.gradient; };
  const auto value = [](const path& p) { return p.value; };
  for (std::size_t k = 0; k < 3; ++k) {
    const std::string step =
        " from " + std::to_string(sizes[k]) + " to " + std::to_string(sizes[k + 1]) + " pairs and labels";
    out.checks.push_back(at_most("change of the squared gradient" + step, change(k, gradient), 0));
    out.checks.push_back(at_least("change of the value reached" + step, change(k, value), 0));
  }
  std::vector<double> in_all;
  for (const auto& p : all) in_all.push_back(p[3].gradient - p[0].gradient);
  out.checks.push_back(clearly_below("change of the squared gradient from 3 to 100", in_all, 0));
  std::vector<double> excess, lacks, gain;
  double start = reward.mean();
  for (const auto& p : all) {
    excess.push_back(p[3].gradient / exact.gradient);
    lacks.push_back(exact.value - p[3].value);
    gain.push_back((p[0].value - start) / (reward.maxCoeff() - start));
  }
  out.checks.push_back(
      at_most("squared gradient with 100 over that of the exact ascent: what more labels could still save", excess, 3));
  out.checks.push_back(close("value of the exact ascent less that reached with 100", lacks, 0, 0.02, 0.05));
  out.checks.push_back(at_least("share of what can be gained that even 3 labels for 3 pairs gain", gain, 0));
  out.plots = {progress,
               {"The floor",
                "pairs, and labels for each",
                "squared gradient",
                {floor, {"exact gradient", floor.x, std::vector<double>(4, exact.gradient), false}},
                true,
                true}};
  out.note =
      "The floor falls with the number of pairs and labels until what is left is that of 1500 steps of exact ascent, "
      "the "
      "O(1/T) term of the theorem. Its bounds on the floor are far above what is measured, so that only their "
      "direction "
      "is tested.";
  return out;
}

}  // namespace

experiment e03_preference_gradient() {
  return {
      "E3",
      "Policy gradients from preferences",
      "Zeroth-order ascent with differences of values read off preferences approaches a stationary point, the closer "
      "the more pairs and labels each step has, down to the floor of the number of steps.",
      "Zhang and Ying 2024, arXiv 2409.17401, theorem on ZPG",
      "<i>g&#770; = d/&mu; &middot; (1/N &sum;<sub>n</sub> F<sup>&minus;1</sup>(p&#770;<sub>n</sub>)) v</i>",
      "Softmax over 6 responses, uniform random rewards, 1500 steps of size 0.1, N = M of 3 to 100, "
      "&mu; = (M<sup>&minus;1/2</sup> + N<sup>&minus;1/2</sup>)<sup>1/2</sup>; labels of Bradley and Terry.",
      run};
}

}  // namespace lab
