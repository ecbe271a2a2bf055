#pragma once
// A small tokenizer, and the plain algorithm: look at every pair of neighbours, join the best, start again.

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "align/files/tokenizer.hpp"

namespace fuzz {

/// The three marks and the bytes, as any vocabulary begins.
inline std::vector<align::tokenizer::piece> fixed_pieces() {
  std::vector<align::tokenizer::piece> pieces = {{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::array<char, 8> text{};
    std::snprintf(text.data(), text.size(), "<0x%02X>", byte);
    pieces.push_back({text.data(), 0});
  }
  return pieces;
}

/// With ties, pieces that only a certain order reaches, and characters of two to four bytes.
inline align::tokenizer small_tokenizer() {
  auto pieces = fixed_pieces();
  float score = 0;
  for (const char* const text :
       {"an", "na", " a", "nan", "ana", "ab", "ba", "anan", "bana", " ban", "\xc3\xa9t", " an", "ss", "bb"})
    pieces.push_back({text, score -= (pieces.size() % 3 == 0 ? 0.0f : 1.0f)});
  for (const char* const text :
       {" ", "a", "b", "n", "s", "t", ",", "<", ">", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "anananan"})
    pieces.push_back({text, score -= 1});
  return {std::move(pieces), "small"};
}

inline std::vector<std::int32_t> plain_encode(const align::tokenizer& tokens, std::string_view text) {
  const auto& pieces = tokens.pieces();
  const auto find = [&](const std::string& bytes) {
    for (std::size_t i = align::tokenizer::first_piece; i < pieces.size(); ++i)
      if (!bytes.empty() && pieces[i].bytes == bytes) return static_cast<std::int32_t>(i);
    return std::int32_t{-1};
  };
  std::vector<std::int32_t> out;
  const auto add = [&](const std::string& character) {
    if (const std::int32_t token = find(character); token >= 0)
      out.push_back(token);
    else
      for (const char c : character) out.push_back(align::tokenizer::first_byte + static_cast<unsigned char>(c));
  };
  if (!text.empty()) add(" ");
  std::string character;
  for (std::size_t i = 0; i < text.size(); ++i) {
    character += text[i];
    const bool more = i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xC0u) == 0x80u;
    if (more && character.size() < 4) continue;
    add(character);
    character.clear();
  }
  for (;;) {
    std::size_t best = out.size();
    std::int32_t joined = -1;
    for (std::size_t i = 0; i + 1 < out.size(); ++i) {
      if (out[i] < align::tokenizer::first_piece || out[i + 1] < align::tokenizer::first_piece) continue;
      const auto piece = [&](std::int32_t token) -> const auto& { return pieces[static_cast<std::size_t>(token)]; };
      const std::int32_t token = find(piece(out[i]).bytes + piece(out[i + 1]).bytes);
      if (token >= 0 && (joined < 0 || piece(token).score > piece(joined).score)) best = i, joined = token;
    }
    if (joined < 0) break;
    out[best] = joined;
    out.erase(out.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  out.insert(out.begin(), align::tokenizer::begin);
  return out;
}

}  // namespace fuzz
