#pragma once
// Pairs whose labels are known with their probabilities, so that the optimum of a loss is a formula and no sample's.

#include "rlhf/math/functions.hpp"
#include "rlhf/train/pairs.hpp"
#include "train/world.hpp"

namespace rlhf_test {

/// Two responses by their numbers in all_responses.
struct two {
  std::size_t i, j;
};

/// Every two responses, once: the one with the greater reward first.
inline std::vector<two> every_two(const world& w, std::size_t count) {
  std::vector<two> out;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j < i; ++j) out.push_back(w.reward.at(i) > w.reward.at(j) ? two{i, j} : two{j, i});
  return out;
}

inline rlhf::preference_pairs pairs_of(const std::vector<two>& which, const rlhf::responses& all) {
  rlhf::preference_pairs pairs;
  for (const two& t : which) {
    pairs.chosen.add(all, static_cast<std::int64_t>(t.i));
    pairs.rejected.add(all, static_cast<std::int64_t>(t.j));
  }
  return pairs;
}

/// `f(i, j)` of each two.
template <class F>
std::vector<float> numbers(const std::vector<two>& which, F&& f) {
  std::vector<float> out;
  for (const two& t : which) out.push_back(static_cast<float>(f(t.i, t.j)));
  return out;
}

/// How likely the reward's Bradley-Terry law calls i better than j.
inline double wins(const world& w, std::size_t i, std::size_t j) {
  return rlhf::sigmoid(w.reward.at(i) - w.reward.at(j));
}

/// p e^h, normalised.
inline std::vector<double> tilted_by(std::vector<double> p, const std::vector<double>& h) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] *= std::exp(h[i]);
  for (double& x : p) x /= sum;
  return p;
}

}  // namespace rlhf_test
