#pragma once
// What the tests of files share: small models, a folder of their own, and how much a call allocated.

#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "align/files/model_file.hpp"
#include "rlhf/math/random.hpp"

/// A folder that goes away with the test.
class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "rlhf-files-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::filesystem::path operator/(const char* name) const { return path_ / name; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void put(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// The bytes of a value put over those at `at`.
template <class T>
std::string with(std::string bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

/// What a call that must be refused says.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const std::runtime_error& problem) {
    return problem.what();
  }
  return "(it was not refused)";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// All sizes differ and keys are shared; every parameter is another number.
inline align::model_file small_model() {
  align::model_file model;
  model.options = {
      .vocabulary = 11, .dimension = 24, .hidden = 10, .layers = 3, .heads = 6, .kv_heads = 2, .context = 7};
  const rlhf::random_numbers numbers{{.seed = 5}};
  for (std::int64_t i = 0; i < align::parameter_count(model.options); ++i)
    model.parameters.push_back(static_cast<float>(numbers.normal({.position = static_cast<std::uint32_t>(i)})));
  return model;
}

/// The values of one tensor of the flat array.
inline std::vector<float> tensor_of(const align::model_file& model, const std::string& name) {
  for (const align::parameter_slice& s : align::parameter_slices(model.options))
    if (s.name == name) return {model.parameters.begin() + s.offset, model.parameters.begin() + s.offset + s.size};
  throw std::logic_error("no tensor " + name);
}
