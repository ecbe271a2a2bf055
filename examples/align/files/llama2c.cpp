#include "align/files/llama2c.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>

#include "align/files/bytes.hpp"
#include "align/files/save.hpp"

namespace align {

namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw std::runtime_error(name + ": " + what);
}

/// The sizes in the header's order.
std::array<int transformer_options::*, 7> header_fields() {
  using o = transformer_options;
  return {&o::dimension, &o::hidden, &o::layers, &o::heads, &o::kv_heads, &o::vocabulary, &o::context};
}

constexpr std::int64_t header_bytes = 7 * 4;

std::int64_t rotary_floats(const transformer_options& o) { return std::int64_t{o.context} * (o.dimension / o.heads); }

/// Calls f(slice) in the order of the file: kind by kind, where the flat array goes layer by layer.
template <class F>
void in_file_order(const transformer_options& options, F&& f) {
  const std::vector<parameter_slice> slices = parameter_slices(options);
  f(slices.front());
  // Within a layer of the flat array: norm, q, k, v, o, norm, w1, w3, w2.
  for (const int kind : {0, 1, 2, 3, 4, 5, 6, 8, 7})
    for (int layer = 0; layer < options.layers; ++layer)
      f(slices[static_cast<std::size_t>(1 + layer * slices_per_layer + kind)]);
  f(slices.back());
}

}  // namespace

model_file read_llama2c(std::span<const std::byte> bytes, const std::string& name) {
  byte_reader in(bytes, name);
  if (bytes.size() >= 4 && as_text(bytes.first(4)) == "24ka")
    refuse(name,
           "begins with \"ak42\", a later version of llama2.c's format; wants version 0 (export with --version 0)");
  model_file model;
  for (int transformer_options::*const field : header_fields())
    model.options.*field = in.take<std::int32_t>("a header of 7 sizes");
  const transformer_options& o = model.options;
  if (o.vocabulary < 0)
    refuse(name, "vocabulary is " + std::to_string(o.vocabulary) +
                     ": the mark of an output head that is not the embedding; wants a model with a tied head");
  check_sizes(o, name);
  const std::int64_t count = parameter_count(o);
  const std::int64_t wanted = header_bytes + 4 * (count + rotary_floats(o));
  if (static_cast<std::uint64_t>(wanted) != bytes.size())
    refuse(name, "has " + std::to_string(bytes.size()) + " bytes, but its header (dimension " +
                     std::to_string(o.dimension) + ", hidden " + std::to_string(o.hidden) + ", layers " +
                     std::to_string(o.layers) + ", heads " + std::to_string(o.heads) + ", kv_heads " +
                     std::to_string(o.kv_heads) + ", vocabulary " + std::to_string(o.vocabulary) + ", context " +
                     std::to_string(o.context) + ") wants " + std::to_string(wanted));
  model.parameters.resize(static_cast<std::size_t>(count));
  in_file_order(o, [&](const parameter_slice& slice) {
    const auto to = std::span(model.parameters)
                        .subspan(static_cast<std::size_t>(slice.offset), static_cast<std::size_t>(slice.size));
    in.take(to, slice.name);
    check_finite(to, name, slice.name);
  });
  return model;
}

std::vector<std::byte> write_llama2c(const model_file& model, const std::string& name) {
  check_model(model, name);
  const transformer_options& o = model.options;
  const transformer_options fixed;
  if (o.rope_theta != fixed.rope_theta || o.norm_epsilon != fixed.norm_epsilon)
    refuse(name, "llama2.c's format has no place for rope_theta " + std::to_string(o.rope_theta) +
                     " and norm_epsilon " + std::to_string(o.norm_epsilon) +
                     ", wants 10000 and 1e-5 (safetensors holds any)");
  byte_writer out(static_cast<std::uint64_t>(header_bytes + 4 * (parameter_count(o) + rotary_floats(o))));
  for (int transformer_options::*const field : header_fields()) out.put(std::int32_t{o.*field});
  in_file_order(o, [&](const parameter_slice& slice) {
    out.put(std::as_bytes(std::span(model.parameters)
                              .subspan(static_cast<std::size_t>(slice.offset), static_cast<std::size_t>(slice.size))));
  });
  const int half = o.dimension / o.heads / 2;
  for (const bool imaginary : {false, true})
    for (int position = 0; position < o.context; ++position)
      for (int i = 0; i < half; ++i) {
        const double angle = position * std::pow(o.rope_theta, -static_cast<double>(i) / half);
        out.put(static_cast<float>(imaginary ? std::sin(angle) : std::cos(angle)));
      }
  return out.take();
}

model_file load_llama2c(const std::filesystem::path& path) {
  return read_llama2c(read_whole(path, largest_model_file), path.string());
}

void save_llama2c(const std::filesystem::path& path, const model_file& model) {
  save_file(path, write_llama2c(model, path.string()));
}

}  // namespace align
