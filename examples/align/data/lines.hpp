#pragma once
// Text a line at a time, and JSON a row at a time, without ever holding more than one.

#include <cstddef>
#include <cstdint>
#include <string>

#include "align/data/bytes.hpp"

namespace align {

/// A longer line, or element of an array, is refused before it fills the memory.
inline constexpr std::size_t longest_row = std::size_t{64} << 20;

/// The lines of a source, without their ends (a line feed, or carriage return and line feed) and without a byte order
/// mark. Throws std::runtime_error, "FILE:LINE: ...", for a line over `limit` bytes.
class line_reader {
 public:
  explicit line_reader(byte_source source, std::size_t limit = longest_row);

  /// Puts the next line into `line`; false at the end.
  [[nodiscard]] bool next(std::string& line);
  /// The number of the line that next() gave last; the first is 1.
  [[nodiscard]] std::int64_t number() const { return number_; }
  [[nodiscard]] const std::string& name() const { return source_.name(); }

 private:
  byte_source source_;
  std::size_t limit_;
  std::int64_t number_ = 0;
};

/// The text of one JSON value and the line it begins in.
struct json_text {
  std::string text = {};
  std::int64_t line = 0;
};

/// The rows of JSON data, in either of two forms: a value a line (blank lines are skipped), or, where the first byte that
/// is no blank is `[`, the elements of one array, whatever its line breaks. The values are cut out, not parsed.
///
/// Throws std::runtime_error, "FILE:LINE: ...", for a row over `limit` bytes and for an array that is not well put together.
class json_rows {
 public:
  explicit json_rows(byte_source source, std::size_t limit = longest_row);

  [[nodiscard]] bool next(json_text& row);
  [[nodiscard]] const std::string& name() const { return source_.name(); }

 private:
  enum class form { unknown, lines, array, done };

  /// The next byte that is no blank, which stays; a negative number at the end.
  [[nodiscard]] int skip_blanks();
  [[nodiscard]] bool next_line(json_text& row);
  [[nodiscard]] bool next_element(json_text& row);
  void copy_element(std::string& text);
  void append(std::string& text, std::size_t bytes, std::int64_t line);
  [[noreturn]] void fail(std::int64_t line, const std::string& problem) const;

  byte_source source_;
  std::size_t limit_;
  form form_ = form::unknown;
  std::int64_t line_ = 1, opened_ = 1;
  bool first_ = true;
};

}  // namespace align
