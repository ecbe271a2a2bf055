#pragma once
// The figures, drawn by gnuplot where there is one.

#include <filesystem>
#include <string>
#include <vector>

#include "denoiser/pictures.hpp"

namespace denoising {

/// What one policy draws, and how it came there: reward and KL after some of its iterations.
struct portrait {
  std::string name;
  std::vector<point> drawn[kinds];
  std::vector<double> kl, reward;
};

/// Writes denoiser.svg (what each draws) and denoiser-reward-kl.svg into a folder; false where gnuplot is missing or fails.
[[nodiscard]] bool draw(const std::filesystem::path& folder, const std::vector<portrait>& portraits);

}  // namespace denoising
