#include "align/files/model_file.hpp"

#include <cmath>
#include <stdexcept>

namespace align {

namespace {

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw std::runtime_error(file + ": " + what);
}

}  // namespace

void check_sizes(const transformer_options& o, const std::string& file) {
  struct bound {
    const char* name;
    int value, largest;
  };
  // The largest model within these has fewer than 2^62 bytes: sums and products of the sizes fit 64 bits.
  for (const bound& b :
       {bound{"dimension", o.dimension, 1 << 18}, bound{"hidden", o.hidden, 1 << 20},
        bound{"layers", o.layers, 1 << 10}, bound{"heads", o.heads, 1 << 16}, bound{"kv_heads", o.kv_heads, 1 << 16},
        bound{"vocabulary", o.vocabulary, 1 << 24}, bound{"context", o.context, 1 << 24}})
    if (b.value < 1 || b.value > b.largest)
      refuse(file,
             std::string(b.name) + " is " + std::to_string(b.value) + ", wants 1 to " + std::to_string(b.largest));
  if (const char* const wrong = what_is_wrong(o))
    refuse(file, std::string(wrong) + ": dimension is " + std::to_string(o.dimension) + ", heads " +
                     std::to_string(o.heads) + ", kv_heads " + std::to_string(o.kv_heads));
  if (!(o.rope_theta >= 1) || !(o.rope_theta < 1e30))
    refuse(file, "rope_theta is " + std::to_string(o.rope_theta) + ", wants 1 or more");
  if (!(o.norm_epsilon > 0) || !(o.norm_epsilon < 1))
    refuse(file, "norm_epsilon is " + std::to_string(o.norm_epsilon) + ", wants more than 0 and less than 1");
}

void check_finite(std::span<const float> values, const std::string& file, const std::string& tensor) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      refuse(file, tensor + " has " + (std::isnan(values[i]) ? "NaN" : "an infinity") + " at index " +
                       std::to_string(i) + ", wants finite numbers");
}

void check_model(const model_file& model, const std::string& file) {
  check_sizes(model.options, file);
  const std::int64_t wanted = parameter_count(model.options);
  if (static_cast<std::int64_t>(model.parameters.size()) != wanted)
    refuse(file, "the model has " + std::to_string(model.parameters.size()) + " parameters, its sizes want " +
                     std::to_string(wanted));
  for (const parameter_slice& slice : parameter_slices(model.options))
    check_finite(std::span(model.parameters)
                     .subspan(static_cast<std::size_t>(slice.offset), static_cast<std::size_t>(slice.size)),
                 file, slice.name);
}

}  // namespace align
