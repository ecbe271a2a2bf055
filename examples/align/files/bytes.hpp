#pragma once
// Bytes from outside, read with bounds: every reader of a file starts here.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace align {

static_assert(std::endian::native == std::endian::little, "model files are little-endian, and so must the machine be");

/// The whole of a regular file. std::runtime_error with the path if it cannot be read or holds more than `limit` bytes.
[[nodiscard]] std::vector<std::byte> read_whole(const std::filesystem::path& path, std::uint64_t limit);

/// Files of parameters may be this large; anything larger is a mistake.
inline constexpr std::uint64_t largest_model_file = std::uint64_t{1} << 36;

/// Takes little-endian values off the front of some bytes. What is not there is a std::runtime_error:
/// "FILE: at byte N: wanted WHAT, got ...".
class byte_reader {
 public:
  /// `name` is what errors call the bytes: the path of their file.
  byte_reader(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

  /// The next value; `what` says in errors what it is.
  template <class T>
    requires std::is_arithmetic_v<T>
  [[nodiscard]] T take(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }
  /// The next `count` bytes.
  [[nodiscard]] std::span<const std::byte> take(std::uint64_t count, std::string_view what);
  /// The next to.size() floats.
  void take(std::span<float> to, std::string_view what);

  [[nodiscard]] std::uint64_t at() const { return at_; }
  [[nodiscard]] std::uint64_t remaining() const { return bytes_.size() - at_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
  std::uint64_t at_ = 0;
};

/// Collects little-endian values.
class byte_writer {
 public:
  explicit byte_writer(std::uint64_t expected) { bytes_.reserve(expected); }

  void put(std::span<const std::byte> more);
  void put(std::string_view text) { put(std::as_bytes(std::span(text))); }
  template <class T>
    requires std::is_arithmetic_v<T>
  void put(T value) {
    put(std::as_bytes(std::span(&value, 1)));
  }

  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

/// Bytes as the characters they are.
[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A name out of a file as an error shows it: no control characters, not without end.
[[nodiscard]] std::string shown(std::string_view text);

}  // namespace align
