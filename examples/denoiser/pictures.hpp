#pragma once
// The data: pictures that are points of the plane, two kinds of them, and how noise takes them apart.

#include <algorithm>
#include <array>
#include <cmath>

#include "rlhf/math/random.hpp"
#include "rlhf/policy/gaussian.hpp"

namespace denoising {

/// What may be asked for; the number is the first token of a prompt.
enum class kind : std::int32_t { ring, moons };
inline constexpr std::size_t kinds = 2;

using point = std::array<double, 2>;
inline double distance(const point& a, const point& b) { return std::hypot(a[0] - b[0], a[1] - b[1]); }

inline constexpr double pi = 3.141592653589793238463;
inline constexpr double width[kinds] = {0.08, 0.08};  ///< standard deviation around a mode, or across a moon

/// The middle of one of the ring's eight modes.
inline point mode(std::uint32_t m) { return {1.4 * std::cos(m * pi / 4), 1.4 * std::sin(m * pi / 4)}; }
/// A point of the upper or the lower moon, t from 0 to 1 along it. Mean 0 and variance about 1, as of the ring.
inline point moon(bool upper, double t) {
  const double c = std::cos(pi * t), s = std::sin(pi * t);
  return upper ? point{1.3 * (c - 0.5), 1.3 * (s - 0.25)} : point{1.3 * (0.5 - c), 1.3 * (0.25 - s)};
}

/// Picture number i of a kind.
inline point picture(kind what, const rlhf::random_numbers& numbers, std::uint32_t i) {
  const auto at = [&](std::uint32_t draw) { return rlhf::random_index{static_cast<std::uint32_t>(what), i, 0, draw}; };
  const point middle = what == kind::ring ? mode(numbers.integer(8, at(0)))
                                          : moon(numbers.integer(2, at(0)) == 0, numbers.uniform(at(1)));
  const double s = width[static_cast<std::size_t>(what)];
  return {middle[0] + s * numbers.normal(at(2)), middle[1] + s * numbers.normal(at(3))};
}

/// How far a point is from what pictures of this kind are scattered around.
inline double away(kind what, const point& x) {
  double least = 1e9;
  if (what == kind::ring)
    for (std::uint32_t m = 0; m < 8; ++m) least = std::min(least, distance(x, mode(m)));
  else
    for (int i = 0; i <= 64; ++i)
      for (const bool upper : {false, true}) least = std::min(least, distance(x, moon(upper, i / 64.0)));
  return least;
}

/// What a person likes: a ring's right-most mode, the top of the upper moon. From 0 to 1.
struct taste {
  static point favourite(kind what) { return what == kind::ring ? mode(0) : moon(true, 0.5); }
  static double of(kind what, const point& x) {
    const double d = distance(x, favourite(what));
    return std::exp(-d * d / (2 * 0.3 * 0.3));
  }
  void rewards(const rlhf::responses& batch, std::span<float> out) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const auto moves = batch.response(i);
      const point last = {static_cast<double>(rlhf::number_of(moves[moves.size() - 2])),
                          static_cast<double>(rlhf::number_of(moves[moves.size() - 1]))};
      out[static_cast<std::size_t>(i)] = static_cast<float>(of(static_cast<kind>(batch.prompt(i)[0]), last));
    }
  }
};

/// The share of a picture that is left before step k; the rest is noise: x_k = a_k x + sqrt(1 - a_k^2) noise.
inline double signal(std::size_t k, std::size_t steps) {
  const double first = 0.05;
  return std::sin(first + (pi / 2 - first) * static_cast<double>(k) / static_cast<double>(steps));
}

/// Pictures taken apart, read backwards: a prompt is the kind and the noise where one begins, the response the points from
/// there to the picture, x_1 ... x_steps. To find each likely is to learn to denoise.
inline rlhf::responses noised_pictures(std::uint32_t of_each_kind, std::size_t steps, rlhf::random_key key) {
  const rlhf::random_numbers numbers(key);
  rlhf::responses out;
  for (std::uint32_t i = 0; i < of_each_kind; ++i)
    for (const kind what : {kind::ring, kind::moons}) {
      point x = picture(what, numbers, i);
      std::vector<std::int32_t> tokens(2 * steps + 3);
      for (std::size_t k = steps + 1; k-- > 0;) {
        for (const std::uint32_t axis : {0u, 1u}) {
          tokens[1 + 2 * k + axis] = rlhf::token_of(static_cast<float>(x[axis]));
          if (k == 0) continue;
          const double keep = signal(k - 1, steps) / signal(k, steps);
          x[axis] = keep * x[axis] +
                    std::sqrt(1 - keep * keep) *
                        numbers.normal({static_cast<std::uint32_t>(what), i, static_cast<std::uint32_t>(k), 4 + axis});
        }
      }
      tokens[0] = static_cast<std::int32_t>(what);
      out.add(std::span(tokens).first(3), std::span(tokens).subspan(3));
    }
  return out;
}

}  // namespace denoising
