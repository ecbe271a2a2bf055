// Small files of every kind that rlhf-align takes, and broken ones: align-inputs FOLDER

#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "align/files/bytes.hpp"
#include "align/files/load.hpp"
#include "align/files/save.hpp"
#include "align/files/tokenizer.hpp"
#include "align/model/transformer.hpp"

namespace {

using namespace align;

/// Marks, bytes, then words with the space before them.
tokenizer small_tokenizer(const std::vector<std::string>& words) {
  std::vector<tokenizer::piece> pieces = {{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    pieces.push_back({name, 0});
  }
  for (char c = 'a'; c <= 'z'; ++c) pieces.push_back({std::string(1, c), -1});
  pieces.push_back({" ", -1});
  float score = -2;
  for (const std::string& word : words)
    for (std::size_t end = 2; end <= word.size(); ++end) {
      bool known = false;
      for (const auto& p : pieces) known = known || p.bytes == word.substr(0, end);
      if (!known) pieces.push_back({word.substr(0, end), score += 0.01f});
    }
  return {std::move(pieces), "the small tokenizer"};
}

/// A row of pairs: whoever is polite is preferred.
std::string pair(int i) {
  const std::string question = "say word " + std::to_string(i);
  return "{\"prompt\": \"" + question + "\", \"chosen\": \"good day dear friend " + std::to_string(i % 7) +
         "\", \"rejected\": \"bad day " + std::to_string(i % 5) + "\"}\n";
}
std::string labelled(int i) {
  return "{\"prompt\": \"say " + std::to_string(i) + "\", \"completion\": \"" + (i % 2 == 0 ? "good day" : "bad day") +
         "\", \"label\": " + (i % 2 == 0 ? "true" : "false") + "}\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string folder = argv[1];
  const tokenizer tokens = small_tokenizer({" good", " bad", " day", " dear", " friend", " word", " say"});
  save_file(folder + "/tok.bin", write_tokenizer(tokens));

  model_file model{{.vocabulary = tokens.vocabulary(),
                    .dimension = 16,
                    .hidden = 24,
                    .layers = 1,
                    .heads = 2,
                    .kv_heads = 1,
                    .context = 48},
                   {}};
  const transformer<float> net(model.options);
  model.parameters.resize(static_cast<std::size_t>(net.size()));
  net.initialize(model.parameters, {5, 5});
  save_model(folder + "/model.bin", model);
  save_model(folder + "/model.safetensors", model);
  model_file broken = model;
  std::vector<std::byte> bytes = read_whole(folder + "/model.bin", 1 << 24);
  save_file(folder + "/short.bin", std::span(bytes).first(bytes.size() / 2));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + 28 + 4 * 100, &nan, sizeof nan);
  save_file(folder + "/nan.bin", bytes);
  broken.options.vocabulary += 1;
  broken.parameters.resize(static_cast<std::size_t>(transformer<float>(broken.options).size()), 0.1f);
  save_model(folder + "/other-vocabulary.bin", broken);

  save_file(folder + "/lexicon.txt", "good\t1.9\nbad\t-2.5\ndear\t1.6\nfriend\t2.2\n");
  std::string pairs, singles;
  for (int i = 0; i < 60; ++i) pairs += pair(i), singles += labelled(i);
  save_file(folder + "/pairs.jsonl", pairs);
  save_file(folder + "/singles.jsonl", singles);
  save_file(folder + "/bad.jsonl", pairs + "{\"prompt\": \"x\", \"chosen\": \"y\"}\n");
  save_file(folder + "/one.jsonl", pair(1));
  save_file(folder + "/empty.jsonl", "");
  const std::string long_prompt(400, 'a');
  save_file(folder + "/long.jsonl",
            pairs + "{\"prompt\": \"" + long_prompt + "\", \"chosen\": \"good\", \"rejected\": \"bad\"}\n" +
                "{\"prompt\": \"q\", \"chosen\": \"" + long_prompt + "\", \"rejected\": \"bad\"}\n");
  return 0;
}
