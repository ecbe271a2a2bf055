#pragma once
// llama2.c's tokenizer: byte pair encoding by scores, with bytes to fall back on.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace align {

/// Text to tokens and back. Any bytes can be encoded, and decode(encode(text)) is the text again, whatever its bytes.
///
/// The first tokens are fixed: unknown, begin, end, then the 256 bytes as "<0x00>" to "<0xFF>". Text never becomes one of
/// the first three, whatever it spells.
class tokenizer {
 public:
  static constexpr std::int32_t unknown = 0, begin = 1, end = 2, first_byte = 3, first_piece = first_byte + 256;

  struct piece {
    std::string bytes;
    float score = 0;
  };

  /// A vocabulary; `name` is for errors (std::runtime_error): too few pieces, bytes that are not where they must be, a
  /// score that is not finite. Of pieces that are the same the first is used.
  tokenizer(std::vector<piece> pieces, const std::string& name);
  ~tokenizer();
  tokenizer(tokenizer&&) noexcept;
  tokenizer& operator=(tokenizer&&) noexcept;

  [[nodiscard]] int vocabulary() const { return static_cast<int>(pieces_.size()); }
  [[nodiscard]] const std::vector<piece>& pieces() const { return pieces_; }

  /// The tokens of a text: its characters (of UTF-8) that are pieces, bytes for others; then the neighbours whose union is
  /// the piece of the highest score, the leftmost among equals, become that piece, until no union is a piece. Single
  /// bytes stay what they are. A space goes before a text that is not empty.
  ///
  /// n bytes take n log n time: candidates wait in a heap.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, bool with_begin = true) const;

  /// The text of tokens. Begin and end are nothing, and one space after begin, which encode() put there, is left out.
  /// A token outside the vocabulary is a std::invalid_argument.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> tokens) const;

 private:
  struct index;

  std::vector<piece> pieces_;
  std::size_t longest_ = 0;
  std::unique_ptr<index> index_;
};

/// A tokenizer out of the bytes of a file: int32 longest piece, then for each piece to the end float32 score, int32 length,
/// bytes. `vocabulary` is the number of pieces that the model wants; 0 takes any. Errors are std::runtime_error that
/// begin with `name`.
/// Source: karpathy/llama2.c, the layout that its program reads.
[[nodiscard]] tokenizer read_tokenizer(std::span<const std::byte> bytes, const std::string& name, int vocabulary = 0);
[[nodiscard]] tokenizer load_tokenizer(const std::filesystem::path& path, int vocabulary = 0);

/// The bytes of such a file.
[[nodiscard]] std::vector<std::byte> write_tokenizer(const tokenizer& tokens);

}  // namespace align
