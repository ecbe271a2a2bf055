#pragma once
// Safetensors files: named arrays behind a JSON header.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace align {

enum class tensor_type { f64, f32, f16, bf16, i64, i32, u8 };

/// As files write it: "F32".
[[nodiscard]] std::string_view name_of(tensor_type type);
/// Bytes of an element.
[[nodiscard]] std::int64_t size_of(tensor_type type);

struct tensor {
  std::string name;
  tensor_type type = tensor_type::f32;
  std::vector<std::int64_t> shape;  ///< empty: one number
  std::vector<std::byte> bytes;     ///< row-major, little-endian
};

[[nodiscard]] tensor float_tensor(std::string name, std::vector<std::int64_t> shape, std::span<const float> values);
/// The elements of an F32, BF16 or F16 tensor, exactly; another type is a std::runtime_error that begins with `file`.
[[nodiscard]] std::vector<float> floats(const tensor& from, const std::string& file);

struct tensor_file {
  std::map<std::string, std::string> metadata;
  std::vector<tensor> tensors;

  /// The tensor of that name; null where there is none.
  [[nodiscard]] const tensor* find(std::string_view name) const;
};

/// The tensors of such a file by their place in it.
///
/// Everything is compared with the file before anything is allocated by it: the header's length, its JSON (no key
/// twice, not nested), types, shapes against bytes, and that the data follow each other to the end without gap or
/// overlap. Errors are std::runtime_error that begin with `name` and name the tensor.
/// Source: the format's description in huggingface/safetensors.
[[nodiscard]] tensor_file read_safetensors(std::span<const std::byte> bytes, const std::string& name);
[[nodiscard]] tensor_file load_safetensors(const std::filesystem::path& path);

/// The bytes of such a file: the same for the same contents, whatever the order of `tensors`. Data of wider elements
/// come first and then those of smaller names, so that all are aligned. `name` is for errors.
[[nodiscard]] std::vector<std::byte> write_safetensors(const tensor_file& file, const std::string& name);
void save_safetensors(const std::filesystem::path& path, const tensor_file& file);

}  // namespace align
