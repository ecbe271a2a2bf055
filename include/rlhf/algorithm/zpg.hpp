#pragma once
// Zeroth-order policy gradient: ascent on comparisons of two policies' samples, without a reward model and without a
// derivative of the policy.
//
//   v      a random direction: uniform on the sphere (ZPG), or K random signs in K random coordinates over sqrt(K) (ZBCPG)
//   tau, tau'   samples of pi_theta and of pi_{theta + mu v}; M evaluators say how often tau' is better: p
//   D      = mean of F^-1(p)                 estimates V(theta + mu v) - V(theta), for any increasing link F
//   g      = (d / mu) D v
//
// Zhang and Ying 2024, "Zeroth-Order Policy Gradient for RLHF without Reward Inference", arXiv 2409.17401 (ICLR 2025). It
// holds for preferences beyond Bradley-Terry and for decisions whose outcomes are random. Catalogue spec-b-2.

#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/math/random.hpp"

namespace rlhf::inline v1 {

/// Bradley-Terry's link: F(z) is the logistic function.
struct logistic_link {
  [[nodiscard]] double operator()(double z) const { return sigmoid(z); }
  [[nodiscard]] double inverse(double p) const { return std::log(p) - std::log1p(-p); }
};

/// ZPG and, with a block, ZBCPG.
///
/// Shares of votes are kept `margin` away from 0 and 1, where the inverse link is infinite; more evaluators make its bias
/// smaller, as 1 / M. The estimate of a linear or quadratic value is unbiased; of a smooth one off by at most its smoothness
/// times `radius`. Its second moment is d times the gradient's square at least: use it on few parameters.
template <class Link = logistic_link>
struct basic_zpg {
  double radius = 0.5;          ///< mu
  std::int64_t block = 0;       ///< K coordinates; 0: the sphere
  std::int64_t votes = 0;       ///< M answers for each pair; 0: the judge's probability itself
  double margin = 1e-3;         ///< c
  std::int64_t directions = 1;  ///< whose estimates are averaged
  double kl_coefficient = 0;    ///< beta: the value is the reward less beta KL to the reference
  bool shared_draws = true;     ///< both policies draw with the same numbers, which takes off noise and no truth
  Link link{};

  [[nodiscard]] constexpr status check() const {
    if (!(radius > 0)) return remark::argument("zpg", "radius", radius, "more than 0");
    if (block < 0) return remark::argument("zpg", "block", static_cast<double>(block), "0 (the sphere) or more");
    if (votes < 0) return remark::argument("zpg", "votes", static_cast<double>(votes), "0 (probabilities) or more");
    if (!(margin > 0 && margin < 0.5)) return remark::argument("zpg", "margin", margin, "0 < margin < 0.5");
    if (directions < 1) return remark::argument("zpg", "directions", static_cast<double>(directions), "1 or more");
    if (!(kl_coefficient >= 0)) return remark::argument("zpg", "kl_coefficient", kl_coefficient, "0 or more");
    return {};
  }

  /// A unit vector of d elements. Direction k of a key is always the same.
  [[nodiscard]] std::vector<double> direction(std::int64_t d, random_key key, std::int64_t k) const {
    const random_numbers numbers(key);
    const auto sample = static_cast<std::uint32_t>(k);
    std::vector<double> v(static_cast<std::size_t>(d));
    if (block == 0) {
      double squares = 0;
      for (std::size_t i = 0; i < v.size(); ++i) {
        v[i] = numbers.normal({.sample = sample, .position = static_cast<std::uint32_t>(i)});
        squares += v[i] * v[i];
      }
      for (double& x : v) x /= std::sqrt(squares);
      return v;
    }
    std::vector<std::int64_t> order(v.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    shuffle(order, numbers, {.sample = sample});
    const std::int64_t size = block < d ? block : d;
    for (std::int64_t j = 0; j < size; ++j) {
      const bool up = numbers.uniform({.sample = sample, .position = static_cast<std::uint32_t>(j), .draw = 1}) < 0.5;
      v[static_cast<std::size_t>(order[static_cast<std::size_t>(j)])] =
          (up ? 1 : -1) / std::sqrt(static_cast<double>(size));
    }
    return v;
  }

  /// D from the shares of votes for the perturbed policy's samples.
  [[nodiscard]] double difference(std::span<const float> share) const {
    double sum = 0;
    for (const float s : share) {
      const double p = static_cast<double>(s);
      sum += link.inverse(p < margin ? margin : p > 1 - margin ? 1 - margin : p);
    }
    return share.empty() ? 0 : sum / static_cast<double>(share.size());
  }
};
using zpg = basic_zpg<>;

/// ZBCPG: K coordinates at a time.
[[nodiscard]] constexpr zpg zbcpg(std::int64_t block) { return {.block = block}; }

}  // namespace rlhf::inline v1
