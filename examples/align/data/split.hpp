#pragma once
// Training and held-out rows that share no prompt.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "align/data/preferences.hpp"

namespace align {

/// Rows by number, in their order.
struct split_rows {
  std::vector<std::size_t> train = {};
  std::vector<std::size_t> held_out = {};
};

struct split_options {
  double held_out = 0.2;  ///< share of the prompts
  std::uint64_t seed = 1;
};

/// Whether rows of this prompt are held out: a function of its text and the seed alone, so that neither the order of a file
/// nor rows added to it move a prompt to the other side.
[[nodiscard]] bool is_held_out(std::string_view prompt, const split_options& options);

/// Splits by the text of the prompts. Throws std::invalid_argument when `held_out` is no share.
[[nodiscard]] split_rows split_by_prompt(std::span<const preference> records, const split_options& options = {});
[[nodiscard]] split_rows split_by_prompt(std::span<const labelled> records, const split_options& options = {});

/// The given rows, in the given order.
template <class Record>
[[nodiscard]] std::vector<Record> select_rows(std::span<const Record> records, std::span<const std::size_t> rows) {
  std::vector<Record> out;
  out.reserve(rows.size());
  for (const std::size_t row : rows) out.push_back(records[row]);
  return out;
}

}  // namespace align
