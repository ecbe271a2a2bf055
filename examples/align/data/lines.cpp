#include "align/data/lines.hpp"

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace align {

namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

[[noreturn]] void too_long(const std::string& name, std::int64_t line, std::size_t limit) {
  throw std::runtime_error(name + ":" + std::to_string(line) + ": the row is longer than " + std::to_string(limit) +
                           " bytes");
}

/// A byte order mark is dropped where it stands whole in the first piece, and files' first pieces are large.
void skip_mark(byte_source& source) {
  if (source.peek().substr(0, 3) == "\xEF\xBB\xBF") source.take(3);
}

}  // namespace

line_reader::line_reader(byte_source source, std::size_t limit) : source_(std::move(source)), limit_(limit) {
  skip_mark(source_);
}

bool line_reader::next(std::string& line) {
  line.clear();
  std::string_view at = source_.peek();
  if (at.empty()) return false;
  ++number_;
  for (; !at.empty(); at = source_.peek()) {
    const std::size_t end = std::min(at.find('\n'), at.size());
    if (line.size() + end > limit_) too_long(name(), number_, limit_);
    line.append(at.substr(0, end));
    const bool whole = end < at.size();
    source_.take(whole ? end + 1 : end);
    if (whole) break;
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

json_rows::json_rows(byte_source source, std::size_t limit) : source_(std::move(source)), limit_(limit) {
  skip_mark(source_);
}

void json_rows::fail(std::int64_t line, const std::string& problem) const {
  throw std::runtime_error(name() + ":" + std::to_string(line) + ": " + problem);
}

int json_rows::skip_blanks() {
  for (std::string_view at = source_.peek(); !at.empty(); at = source_.peek()) {
    std::size_t n = 0;
    for (; n < at.size() && is_blank(at[n]); ++n) line_ += at[n] == '\n' ? 1 : 0;
    const int found = n < at.size() ? static_cast<unsigned char>(at[n]) : -1;
    source_.take(n);
    if (found >= 0) return found;
  }
  return -1;
}

void json_rows::append(std::string& text, std::size_t bytes, std::int64_t line) {
  if (text.size() + bytes > limit_) too_long(name(), line, limit_);
  text.append(source_.peek().substr(0, bytes));
  source_.take(bytes);
}

bool json_rows::next(json_text& row) {
  row.text.clear();
  const int found = skip_blanks();
  if (form_ == form::unknown) {
    form_ = found == '[' ? form::array : form::lines;
    if (form_ == form::array) {
      opened_ = line_;
      source_.take(1);
    }
  }
  return form_ == form::lines ? next_line(row) : form_ == form::array && next_element(row);
}

bool json_rows::next_line(json_text& row) {
  row.line = line_;
  for (std::string_view at = source_.peek(); !at.empty(); at = source_.peek()) {
    const std::size_t end = std::min(at.find('\n'), at.size());
    const bool whole = end < at.size();
    append(row.text, end, row.line);
    if (whole) break;  // the line feed is counted with the blanks before the next row
  }
  while (!row.text.empty() && is_blank(row.text.back())) row.text.pop_back();
  return !row.text.empty();
}

bool json_rows::next_element(json_text& row) {
  const std::string never = "the array never ends (it wants a `]`; is the file cut?)";
  int found = skip_blanks();
  if (found < 0) fail(opened_, never);
  if (!first_ && found == ',') {
    source_.take(1);
    found = skip_blanks();
    if (found < 0) fail(opened_, never);
    if (found == ']') fail(line_, "the array has a comma and no element after it");
  }
  if (found == ']') {
    source_.take(1);
    form_ = form::done;
    if (skip_blanks() >= 0) fail(line_, "something follows the array (wants the end of the file)");
    return false;
  }
  if (found == ',') fail(line_, "the array has a comma and no element before it");
  first_ = false;
  row.line = line_;
  copy_element(row.text);
  if (row.text.empty()) fail(row.line, "the array has a bracket that nothing opened");
  if (source_.peek().empty()) fail(opened_, never);
  return true;
}

// Up to the comma or bracket that ends the element, which stays. Brackets are only counted: whether they match, the
// parser of the row says.
void json_rows::copy_element(std::string& text) {
  const std::int64_t begin = line_;
  std::int64_t depth = 0;
  bool quoted = false, escaped = false;
  for (std::string_view at = source_.peek(); !at.empty(); at = source_.peek()) {
    std::size_t n = 0;
    bool ended = false;
    for (; n < at.size(); ++n) {
      const char c = at[n];
      line_ += c == '\n' ? 1 : 0;
      if (quoted) {
        if (!escaped && c == '"') quoted = false;
        escaped = !escaped && c == '\\';
        continue;
      }
      ended = depth == 0 && (c == ',' || c == ']' || c == '}');
      if (ended) break;
      quoted = c == '"';
      depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    }
    append(text, n, begin);
    if (ended) break;
  }
  while (!text.empty() && is_blank(text.back())) text.pop_back();
}

}  // namespace align
