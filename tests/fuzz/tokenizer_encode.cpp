// Any text becomes the tokens that the plain algorithm gives, and the tokens become the text.

#include "align/files/tokenizer.hpp"
#include "fuzz.hpp"
#include "pieces.hpp"

std::vector<std::string> fuzz::seeds() {
  return {"a banana, abba and an ananas", "nanananananananana",
          "\xc3\xa9t\xc3\xa9 \xe2\x82\xac\xf0\x9f\x98\x80 <s></s><0x41>",
          std::string("\0\x80\x80\x80\x80\x80\xff b", 9)};
}

void fuzz::one_input(std::span<const std::byte> bytes) {
  static const align::tokenizer tokens = small_tokenizer();
  const std::string text = text_of(bytes.first(std::min<std::size_t>(bytes.size(), 500)));
  const auto encoded = tokens.encode(text);
  require(tokens.decode(encoded) == text, "the text comes back");
  // The plain algorithm takes the square of the length.
  if (text.size() <= 100) require(encoded == plain_encode(tokens, text), "these are the plain algorithm's tokens");
}
