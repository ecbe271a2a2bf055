// Tokenizer files: what is read encodes any text and gives it back.

#include "align/files/tokenizer.hpp"

#include "fuzz.hpp"
#include "pieces.hpp"

std::vector<std::string> fuzz::seeds() { return {text_of(align::write_tokenizer(small_tokenizer()))}; }

void fuzz::one_input(std::span<const std::byte> bytes) {
  refused_or([&] { return align::read_tokenizer(bytes, "input"); },
             [&](const align::tokenizer& tokens) {
               const std::string text = text_of(bytes.last(std::min<std::size_t>(bytes.size(), 64)));
               require(tokens.decode(tokens.encode(text)) == text, "the text comes back");
               require(text_of(align::write_tokenizer(tokens)).substr(4) == text_of(bytes.subspan(4)),
                       "the bytes are the same");
             });
}
