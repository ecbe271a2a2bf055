#include "align/data/lexicon.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "align/data/lines.hpp"
#include "align/data/utf8.hpp"
#include "align/data/words.hpp"

namespace align {

namespace {

constexpr std::string_view blanks = " \t\r\n\f\v";
constexpr std::size_t longest_entry_line = 4096;

std::string_view stripped(std::string_view piece) {
  std::size_t begin = 0, end = piece.size();
  while (begin < end && !is_word_byte(piece[begin])) ++begin;
  while (end > begin && !is_word_byte(piece[end - 1])) --end;
  return piece.substr(begin, end - begin);
}

std::string quoted(std::string_view text) { return "`" + std::string(text.substr(0, 40)) + "`"; }

double number_of(std::string_view field, const char* name) {
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size() || !std::isfinite(value))
    throw std::runtime_error(std::string(name) + " is no number (got " + quoted(field) + ")");
  return value;
}

/// [2, 3, -1]: at least one whole number.
void check_ratings(std::string_view field) {
  const auto fail = [&] {
    throw std::runtime_error("the ratings are no list of whole numbers (got " + quoted(field) + ", wants [1, 2, ...])");
  };
  if (field.size() < 3 || field.front() != '[' || field.back() != ']') fail();
  const char *at = field.data() + 1, *const end = field.data() + field.size() - 1;
  for (;;) {
    while (at < end && *at == ' ') ++at;
    int rating = 0;
    const auto [next, error] = std::from_chars(at, end, rating);
    if (error != std::errc()) fail();
    if (next == end) return;
    if (*next != ',') fail();
    at = next + 1;
  }
}

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0;;) {
    const std::size_t tab = line.find('\t', begin);
    fields.push_back(line.substr(begin, std::min(tab, line.size()) - begin));
    if (tab == std::string_view::npos) return fields;
    begin = tab + 1;
  }
}

void read_entry(std::string_view line, lexicon& words) {
  if (const std::size_t at = first_invalid_utf8(line); at != std::string_view::npos)
    throw std::runtime_error("not UTF-8 (byte " + std::to_string(at + 1) + " of the line)");
  const std::vector<std::string_view> fields = fields_of(line);
  if (fields.size() != 2 && fields.size() != 4)
    throw std::runtime_error("the line has " + std::to_string(fields.size()) +
                             " fields (wants word and valence, or word, mean, deviation and ratings, tabs between)");
  if (fields[0].find_first_not_of(blanks) == std::string_view::npos) throw std::runtime_error("the word is empty");
  const double valence = number_of(fields[1], "the valence");
  if (fields.size() == 4) {
    if (number_of(fields[2], "the deviation") < 0)
      throw std::runtime_error("the deviation is negative (got " + quoted(fields[2]) + ")");
    check_ratings(fields[3]);
  }
  words.add(std::string(fields[0]), valence);
}

lexicon read_all(byte_source source) {
  lexicon words;
  line_reader lines(std::move(source), longest_entry_line);
  for (std::string line; lines.next(line);) {
    if (line.empty()) continue;
    try {
      read_entry(line, words);
    } catch (const std::runtime_error& problem) {
      throw std::runtime_error(lines.name() + ":" + std::to_string(lines.number()) + ": " + problem.what());
    }
  }
  if (words.size() == 0) throw std::runtime_error(lines.name() + ": the word list is empty");
  return words;
}

}  // namespace

void lexicon::add(const std::string& entry, double valence) {
  repeated_ += valences_.insert_or_assign(entry, valence).second ? 0 : 1;
  most_words_ = std::max(most_words_, 1 + static_cast<std::size_t>(std::count(entry.begin(), entry.end(), ' ')));
}

const double* lexicon::find(std::string_view entry) const {
  const auto found = valences_.find(entry);
  return found == valences_.end() ? nullptr : &found->second;
}

double lexicon::sum_of_runs(std::string_view piece) const {
  double sum = 0;
  for (std::size_t i = 0; i < piece.size();) {
    std::size_t end = i;
    while (end < piece.size() && (is_word_byte(piece[end]) || piece[end] == '\'')) ++end;
    if (const double* valence = find(lowered(stripped(piece.substr(i, end - i))))) sum += *valence;
    i = end + 1;
  }
  return sum;
}

double lexicon::sum(std::string_view text) const {
  std::vector<std::string_view> pieces;
  for (std::size_t at = text.find_first_not_of(blanks); at < text.size();) {
    const std::size_t end = std::min(text.find_first_of(blanks, at), text.size());
    pieces.push_back(text.substr(at, end - at));
    at = std::min(text.find_first_not_of(blanks, end), text.size());
  }
  // Pieces next to each other with one blank between: as they stand, else in lower case without punctuation around them.
  const auto entry_at = [&](std::size_t first, std::size_t count) -> const double* {
    std::string whole;
    for (std::size_t k = 0; k < count; ++k) whole.append(k > 0 ? " " : "").append(pieces[first + k]);
    if (const double* valence = find(whole)) return valence;
    const std::string_view bare = stripped(whole);
    // Where a piece was all punctuation, it does not belong to the entry.
    const bool all_there = std::count(bare.begin(), bare.end(), ' ') + 1 == static_cast<std::ptrdiff_t>(count);
    return all_there && !bare.empty() ? find(lowered(bare)) : nullptr;
  };
  double sum = 0;
  for (std::size_t i = 0; i < pieces.size();) {
    std::size_t count = std::min(most_words_, pieces.size() - i);
    const double* valence = entry_at(i, count);
    while (valence == nullptr && count > 1) valence = entry_at(i, --count);
    sum += valence != nullptr ? *valence : sum_of_runs(pieces[i]);
    i += count;
  }
  return sum;
}

lexicon read_lexicon(const std::string& path) { return read_all(byte_source(path)); }

lexicon parse_lexicon(std::string_view bytes, const std::string& name) { return read_all(byte_source(bytes, name)); }

}  // namespace align
