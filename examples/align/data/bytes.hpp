#pragma once
// The bytes of a file or of memory, unpacked where they are gzip.

#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace align {

/// Bytes in order, a piece at a time. Whether they are gzip is read from them, not from the name; several gzip members
/// one after the other are one text. Nothing is held but the piece at hand, however much it unpacks to.
class byte_source {
 public:
  /// Opens a file. Throws std::runtime_error.
  explicit byte_source(const std::string& path);
  /// Reads memory, which must outlive this; `name` stands in messages.
  byte_source(std::string_view bytes, std::string name);
  ~byte_source();
  byte_source(byte_source&&) noexcept;
  byte_source& operator=(byte_source&&) noexcept;

  /// What is at hand and not yet taken; empty at the end only. Throws std::runtime_error for damaged gzip data.
  [[nodiscard]] std::string_view peek();
  /// Drops the first n bytes of what peek() gave.
  void take(std::size_t n) { ready_.remove_prefix(n); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  struct gzip;
  [[nodiscard]] std::string_view raw();
  [[nodiscard]] std::string_view unpacked();

  std::string name_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::string_view memory_;
  std::unique_ptr<char[]> piece_;
  std::unique_ptr<gzip> gzip_;
  std::string_view ready_;
  bool begun_ = false;
};

}  // namespace align
