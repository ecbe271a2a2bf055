#include "align/data/split.hpp"

#include <stdexcept>
#include <string>

#include "rlhf/math/random.hpp"

namespace align {

namespace {

/// FNV-1a of 64 bits.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

template <class Record>
split_rows split(std::span<const Record> records, const split_options& options) {
  if (!(options.held_out >= 0 && options.held_out <= 1))
    throw std::invalid_argument("split_by_prompt: held_out is " + std::to_string(options.held_out) + ", wants 0 to 1");
  split_rows out;
  for (std::size_t i = 0; i < records.size(); ++i)
    (is_held_out(to_text(records[i].prompt), options) ? out.held_out : out.train).push_back(i);
  return out;
}

}  // namespace

bool is_held_out(std::string_view prompt, const split_options& options) {
  const std::uint64_t hash = hash_of(prompt);
  const auto low = static_cast<std::uint32_t>(hash), high = static_cast<std::uint32_t>(hash >> 32);
  // The generator scatters what FNV leaves close together.
  const rlhf::random_numbers numbers({.seed = options.seed});
  return numbers.uniform({.prompt = low, .sample = high}) < options.held_out;
}

split_rows split_by_prompt(std::span<const preference> records, const split_options& options) {
  return split(records, options);
}
split_rows split_by_prompt(std::span<const labelled> records, const split_options& options) {
  return split(records, options);
}

}  // namespace align
