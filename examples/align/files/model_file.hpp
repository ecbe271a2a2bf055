#pragma once
// A model as it lies in files, and what every format checks of it.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "align/model/parameters.hpp"

namespace align {

struct model_file {
  transformer_options options;
  std::vector<float> parameters;  ///< as parameter_slices(options) says
};

/// Sizes out of a file, before anything is allocated by them: each within a range in which no product overflows, heads
/// that divide, sound constants. std::runtime_error that names `file` and the size.
void check_sizes(const transformer_options& options, const std::string& file);

/// No NaN and no infinity. std::runtime_error that names `file`, `tensor` and the first index.
void check_finite(std::span<const float> values, const std::string& file, const std::string& tensor);

/// All of it, before it is written: sizes, number of parameters, finite. std::runtime_error that names `file`.
void check_model(const model_file& model, const std::string& file);

}  // namespace align
