#include "align/data/names.hpp"

#include <fstream>
#include <map>
#include <stdexcept>
#include <utility>

namespace align {

namespace {

/// Adds the names of a file to the table, sorted by their letters whatever the order of the files.
void read_list(const std::string& path, std::size_t longest, bool labelled_name::*list,
               std::map<std::string, labelled_name>& names) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("names: cannot open " + path);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.size() > longest) continue;
    try {
      const std::string text = name_tokens::decode(name_tokens::encode(line));
      labelled_name& name = names[text];
      name.text = text;
      name.*list = true;
    } catch (const std::invalid_argument& problem) {
      throw std::runtime_error(path + ":" + std::to_string(number) + ": " + problem.what());
    }
  }
}

}  // namespace

std::vector<std::int32_t> name_tokens::encode(std::string_view name) {
  std::vector<std::int32_t> tokens{begin};
  for (const char c : name) {
    if (c >= 'a' && c <= 'z')
      tokens.push_back(letter_a + (c - 'a'));
    else if (c >= 'A' && c <= 'Z')
      tokens.push_back(letter_a + (c - 'A'));
    else if (c == '-')
      tokens.push_back(hyphen);
    else
      throw std::invalid_argument("a name holds a character that is no letter and no hyphen");
  }
  tokens.push_back(end);
  return tokens;
}

std::string name_tokens::decode(std::span<const std::int32_t> tokens) {
  std::string text;
  for (const std::int32_t token : tokens) {
    if (token == end) break;
    if (token == hyphen)
      text += '-';
    else if (token >= letter_a && token < hyphen)
      text += static_cast<char>('a' + (token - letter_a));
  }
  return text;
}

token_sequences name_tokens::prompts(std::size_t count) {
  token_sequences out;
  for (std::size_t i = 0; i < count; ++i) out.append(std::vector{begin});
  return out;
}

names_data read_names(const names_options& options) {
  const std::string directory = options.directory.empty() ? std::string(ALIGN_DATA_DIR) + "/names" : options.directory;
  std::map<std::string, labelled_name> names;
  read_list(directory + "/female.txt", options.longest, &labelled_name::female, names);
  read_list(directory + "/male.txt", options.longest, &labelled_name::male, names);

  if (names.empty()) throw std::runtime_error(directory + ": female.txt and male.txt hold no names");

  std::vector<labelled_name> all;
  for (auto& entry : names) all.push_back(std::move(entry.second));
  rlhf::shuffle(all, rlhf::random_numbers({.seed = options.seed}));
  if (!(options.held_out >= 0 && options.held_out <= 1)) throw std::invalid_argument("names: held_out is no share");
  const auto kept = static_cast<std::ptrdiff_t>(options.held_out * static_cast<double>(all.size()));
  names_data out;
  out.held_out.assign(all.begin(), all.begin() + kept);
  out.train.assign(all.begin() + kept, all.end());
  return out;
}

token_sequences encode(std::span<const labelled_name> names) {
  token_sequences out;
  for (const labelled_name& name : names) out.append(name_tokens::encode(name.text));
  return out;
}

preference_pairs female_over_male(std::span<const labelled_name> names, std::size_t count, rlhf::random_key key) {
  std::vector<const labelled_name*> female, male;
  for (const labelled_name& name : names) {
    if (name.female == name.male) continue;
    (name.female ? female : male).push_back(&name);
  }
  if (count > 0 && (female.empty() || male.empty()))
    throw std::invalid_argument("names: wants names that stand in one list only, of both");
  const rlhf::random_numbers numbers(key);
  preference_pairs out;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto pick = [&](const std::vector<const labelled_name*>& from, std::uint32_t draw) {
      return name_tokens::encode(
          from[numbers.integer(static_cast<std::uint32_t>(from.size()), {.prompt = i, .draw = draw})]->text);
    };
    out.chosen.append(pick(female, 0));
    out.rejected.append(pick(male, 1));
  }
  return out;
}

}  // namespace align
