#include "align/data/preferences.hpp"

#include <stdexcept>
#include <utility>

#include "align/data/forms.hpp"
#include "align/data/lines.hpp"
#include "align/data/row.hpp"

namespace align {

namespace {

preference_data read_all(byte_source source, const reading_options& options) {
  preference_data data;
  json_rows rows(std::move(source));
  for (json_text row; rows.next(row);) {
    ++data.rows;
    try {
      read_form(parse_row(row.text), row.line, options.keep_ties, data);
    } catch (const bad_row& bad) {
      const std::string message = rows.name() + ":" + std::to_string(row.line) + ": " + bad.what();
      if (!options.skip_bad) throw std::runtime_error(message);
      skipped_rows& skipped = data.skipped[bad.reason()];
      if (skipped.count++ == 0) skipped = {1, row.line, message};
    }
  }
  return data;
}

}  // namespace

preference_data read_preferences(const std::string& path, const reading_options& options) {
  return read_all(byte_source(path), options);
}

preference_data parse_preferences(std::string_view bytes, const std::string& name, const reading_options& options) {
  return read_all(byte_source(bytes, name), options);
}

}  // namespace align
