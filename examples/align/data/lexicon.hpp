#pragma once
// Words with a sentiment, and a reward made of them.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace align {

/// A word list with a valence for each entry. Lookups take a view and copy nothing.
class lexicon {
 public:
  /// The sum of the valences of what a text says.
  ///
  /// The text is cut at blanks. A piece that is an entry as it stands (an emoticon, say) counts as that; else what is left
  /// without the punctuation around it, in lower case. Entries of several words ("fed up") are found over pieces next to
  /// each other, the longest first. A piece that is no entry is cut further, at everything but letters, digits and
  /// apostrophes.
  [[nodiscard]] double sum(std::string_view text) const;
  /// The sentiment reward: sum / 3, so that an ordinary sentence lies within a few units of 0.
  [[nodiscard]] double reward(std::string_view text) const { return sum(text) / 3; }

  /// The valence of an entry, as it is written in the file.
  [[nodiscard]] const double* find(std::string_view entry) const;
  [[nodiscard]] std::size_t size() const { return valences_.size(); }
  /// Lines that gave an entry again; the last one counts, as it does for VADER's own program.
  [[nodiscard]] std::int64_t repeated() const { return repeated_; }

  void add(const std::string& entry, double valence);

 private:
  [[nodiscard]] double sum_of_runs(std::string_view piece) const;

  struct hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  std::unordered_map<std::string, double, hash, std::equal_to<>> valences_;
  std::size_t most_words_ = 1;
  std::int64_t repeated_ = 0;
};

/// Reads a word list, plain or gzip, an entry a line: word, tab, valence (AFINN), or word, mean, standard deviation and the
/// list of ratings, tabs between (VADER). Empty lines are skipped. Throws std::runtime_error: "FILE:LINE: reason".
[[nodiscard]] lexicon read_lexicon(const std::string& path);

/// The same from memory; `name` stands in messages.
[[nodiscard]] lexicon parse_lexicon(std::string_view bytes, const std::string& name);

}  // namespace align
