#pragma once
// The words of a text.

#include <string>
#include <string_view>

namespace align {

/// ASCII letters in lower case; everything else, other alphabets too, as it is.
[[nodiscard]] inline std::string lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// Whether a byte belongs to a word: letters, digits, and every byte of a character outside ASCII.
[[nodiscard]] constexpr bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         static_cast<unsigned char>(c) >= 0x80;
}

}  // namespace align
