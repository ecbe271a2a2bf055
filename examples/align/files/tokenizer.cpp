#include "align/files/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <queue>
#include <stdexcept>
#include <unordered_map>

#include "align/files/bytes.hpp"

namespace align {

namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw std::runtime_error(name + ": " + what);
}

/// The largest file of pieces and the longest piece that make sense.
constexpr std::uint64_t largest_file = std::uint64_t{1} << 28;
constexpr std::int32_t longest_piece = 1 << 12;

std::string byte_name(int byte) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "<0x%02X>", static_cast<unsigned>(byte) & 255u);
  return text.data();
}

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u; }

/// A part of the text that is a token; its neighbours by the index at which they start.
struct symbol {
  std::int32_t token = -1;  ///< -1: it went into the one before
  std::size_t length = 0;
  std::size_t before = 0, after = 0;
};

/// Two neighbours whose union is a piece. Stale once either has changed.
struct candidate {
  float score;
  std::size_t left, right;
  std::int32_t left_token, right_token, token;
};

/// The best on top: the highest score, then the leftmost.
struct worse {
  bool operator()(const candidate& a, const candidate& b) const {
    return a.score != b.score ? a.score < b.score : a.left > b.left;
  }
};

}  // namespace

struct tokenizer::index {
  // Keys are the bytes of pieces_, which stay where they are.
  std::unordered_map<std::string_view, std::int32_t> of;

  [[nodiscard]] std::int32_t find(std::string_view bytes) const {
    const auto it = of.find(bytes);
    return it == of.end() ? -1 : it->second;
  }
};

tokenizer::~tokenizer() = default;
tokenizer::tokenizer(tokenizer&&) noexcept = default;
tokenizer& tokenizer::operator=(tokenizer&&) noexcept = default;

tokenizer::tokenizer(std::vector<piece> pieces, const std::string& name)
    : pieces_(std::move(pieces)), index_(std::make_unique<index>()) {
  if (pieces_.size() < first_piece || pieces_.size() > 1u << 24)
    refuse(name,
           "has " + std::to_string(pieces_.size()) + " pieces, wants 259 (three marks and 256 bytes) to 16777216");
  for (int byte = 0; byte < 256; ++byte) {
    const std::string& bytes = pieces_[static_cast<std::size_t>(first_byte + byte)].bytes;
    if (bytes != byte_name(byte))
      refuse(name, "piece " + std::to_string(first_byte + byte) + " is \"" + shown(bytes) + "\", wants " +
                       byte_name(byte) + ": the bytes begin at piece 3");
  }
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const piece& p = pieces_[i];
    if (!std::isfinite(p.score)) refuse(name, "piece " + std::to_string(i) + " has a score that is no finite number");
    if (i < first_piece || p.bytes.empty()) continue;
    longest_ = std::max(longest_, p.bytes.size());
    index_->of.emplace(p.bytes, static_cast<std::int32_t>(i));
  }
}

std::vector<std::int32_t> tokenizer::encode(std::string_view text, bool with_begin) const {
  std::vector<std::int32_t> out;
  if (with_begin) out.push_back(begin);
  if (text.empty()) return out;
  std::string spaced(1, ' ');
  spaced += text;
  const std::string_view all = spaced;

  std::vector<symbol> symbols(all.size());
  std::size_t last = 0;
  const auto add = [&](std::size_t at, std::size_t length, std::int32_t token) {
    symbols[at] = {token, length, last, at + length};
    last = at;
  };
  for (std::size_t at = 0; at < all.size();) {
    std::size_t length = 1;
    // The space stands for itself, even before bytes that are no UTF-8.
    while (at > 0 && length < 4 && at + length < all.size() && continues(all[at + length])) ++length;
    const std::int32_t token = index_->find(all.substr(at, length));
    if (token >= 0)
      add(at, length, token);
    else
      for (std::size_t i = at; i < at + length; ++i) add(i, 1, first_byte + static_cast<unsigned char>(all[i]));
    at += length;
  }

  std::priority_queue<candidate, std::vector<candidate>, worse> candidates;
  const auto consider = [&](std::size_t left) {
    const std::size_t right = symbols[left].after;
    if (right == all.size() || symbols[left].token < first_piece || symbols[right].token < first_piece) return;
    const std::size_t length = symbols[left].length + symbols[right].length;
    if (length > longest_) return;
    // Neighbours in the text are neighbours in memory: their union is a part of it.
    const std::int32_t token = index_->find(all.substr(left, length));
    if (token >= 0)
      candidates.push({pieces_[static_cast<std::size_t>(token)].score, left, right, symbols[left].token,
                       symbols[right].token, token});
  };
  for (std::size_t at = 0; at < all.size(); at = symbols[at].after) consider(at);
  while (!candidates.empty()) {
    const candidate best = candidates.top();
    candidates.pop();
    symbol &left = symbols[best.left], &right = symbols[best.right];
    // A part only grows, so the same token at the same place is the same part, and still ends where it did.
    if (left.token != best.left_token || right.token != best.right_token) continue;
    left.token = best.token;
    left.length += right.length;
    left.after = right.after;
    right.token = -1;
    if (left.after != all.size()) symbols[left.after].before = best.left;
    consider(best.left);
    if (best.left != 0) consider(left.before);
  }
  for (std::size_t at = 0; at < all.size(); at = symbols[at].after) out.push_back(symbols[at].token);
  return out;
}

std::string tokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int32_t token = tokens[i];
    if (token < 0 || token >= vocabulary())
      throw std::invalid_argument("tokenizer: token " + std::to_string(token) + " is outside the vocabulary of " +
                                  std::to_string(vocabulary()));
    if (token == begin || token == end) continue;
    const bool is_byte = token >= first_byte && token < first_piece;
    const char byte = static_cast<char>(token - first_byte);
    std::string_view bytes = is_byte ? std::string_view(&byte, 1) : pieces_[static_cast<std::size_t>(token)].bytes;
    if (i > 0 && tokens[i - 1] == begin && bytes.starts_with(' ')) bytes.remove_prefix(1);
    text += bytes;
  }
  return text;
}

tokenizer read_tokenizer(std::span<const std::byte> bytes, const std::string& name, int vocabulary) {
  byte_reader in(bytes, name);
  const auto longest = in.take<std::int32_t>("the length of the longest piece");
  if (longest < 1 || longest > longest_piece)
    refuse(name, "the longest piece has " + std::to_string(longest) + " bytes, wants 1 to " +
                     std::to_string(longest_piece) + " (is this a tokenizer of llama2.c?)");
  std::vector<tokenizer::piece> pieces;
  while (in.remaining() > 0) {
    const std::string which = "piece " + std::to_string(pieces.size());
    const auto score = in.take<float>("the score of " + which);
    const auto length = in.take<std::int32_t>("the length of " + which);
    if (length < 0 || length > longest)
      refuse(name, which + " has " + std::to_string(length) + " bytes, the longest has " + std::to_string(longest));
    pieces.push_back({std::string(as_text(in.take(static_cast<std::uint64_t>(length), which))), score});
  }
  if (vocabulary != 0 && pieces.size() != static_cast<std::size_t>(vocabulary))
    refuse(name, "has " + std::to_string(pieces.size()) + " pieces, the model wants " + std::to_string(vocabulary));
  return {std::move(pieces), name};
}

tokenizer load_tokenizer(const std::filesystem::path& path, int vocabulary) {
  return read_tokenizer(read_whole(path, largest_file), path.string(), vocabulary);
}

std::vector<std::byte> write_tokenizer(const tokenizer& tokens) {
  std::size_t longest = 1, bytes = 4;
  for (const auto& p : tokens.pieces()) longest = std::max(longest, p.bytes.size()), bytes += 8 + p.bytes.size();
  byte_writer out(bytes);
  out.put(static_cast<std::int32_t>(longest));
  for (const auto& p : tokens.pieces()) {
    out.put(p.score);
    out.put(static_cast<std::int32_t>(p.bytes.size()));
    out.put(p.bytes);
  }
  return out.take();
}

}  // namespace align
