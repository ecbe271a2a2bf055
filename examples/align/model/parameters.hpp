#pragma once
// The sizes of a model, and where its tensors lie in the flat array of parameters.

#include <cstdint>
#include <string>
#include <vector>

namespace align {

/// The sizes of a model. The defaults are those of the names model.
struct transformer_options {
  int vocabulary = 29;
  int dimension = 32;
  int hidden = 88;  ///< width of the SwiGLU layer
  int layers = 2;
  int heads = 4;     ///< divides dimension into an even head width
  int kv_heads = 4;  ///< divides heads: groups of heads share keys and values
  int context = 16;  ///< the longest sequence
  double rope_theta = 10000;
  double norm_epsilon = 1e-5;

  bool operator==(const transformer_options&) const = default;
};

/// Where a named tensor lies in the flat array of parameters (and in that of gradients). Row-major, output first.
struct parameter_slice {
  std::string name;  ///< as "layers.0.attention.wq"
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;
  std::int64_t size = 0;
};

/// Tensors of each layer in parameter_slices().
inline constexpr int slices_per_layer = 9;

/// What is wrong with sizes that make no model; null where they make one.
[[nodiscard]] const char* what_is_wrong(const transformer_options& options);

/// Number of parameters.
[[nodiscard]] std::int64_t parameter_count(const transformer_options& options);

/// All tensors in the order of the flat array, without gaps: the embedding, those of each layer, the final norm.
[[nodiscard]] std::vector<parameter_slice> parameter_slices(const transformer_options& options);

}  // namespace align
