// A real pretrained model, where its files are at hand: RLHF_DATA names the folder that has model/stories260K.bin and
// model/tok512.bin. Its greedy text is the one that llama2.c's own program prints.

#include <cstdlib>
#include <filesystem>

#include "align/files/llama2c.hpp"
#include "align/files/load.hpp"
#include "align/files/tokenizer.hpp"
#include "align/model/models.hpp"
#include "align/model/sampling.hpp"
#include "models.hpp"
#include "rlhf/backend/thread_pool.hpp"
#include "support/catch.hpp"

namespace {

std::string greedy(const align::model_file& file, const align::tokenizer& tokens, int steps) {
  align::language_model<float> model(file.options);
  model.parameters = file.parameters;
  rlhf::thread_pool pool(1);
  align::token_sequences prompt;
  prompt.append(tokens.encode(""));
  const auto drawn = align::sample(pool, model, prompt,
                                   {.temperature = 0, .max_new_tokens = steps, .end_token = align::tokenizer::begin});
  return tokens.decode(drawn.sequences[0]);
}

}  // namespace

TEST_CASE("stories260K says at temperature 0 what it says elsewhere, from either format") {
  const char* const data = std::getenv("RLHF_DATA");
  if (data == nullptr) {
    WARN("RLHF_DATA is not set: the real model is not tried (docs/model-files.md says where to get it)");
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(data) / "model";
  const align::model_file model = align::load_model(folder / "stories260K.bin");
  CHECK(model.options ==
        align::transformer_options{
            .vocabulary = 512, .dimension = 64, .hidden = 172, .layers = 5, .heads = 8, .kv_heads = 4, .context = 512});
  const align::tokenizer tokens = align::load_tokenizer(folder / "tok512.bin", model.options.vocabulary);
  // The program ends what it prints with a line end.
  const std::string wanted = contents(RLHF_TESTS_DIR "/data/stories260K-greedy-200.txt");
  REQUIRE(wanted.size() > 400);
  CHECK(greedy(model, tokens, 200) + "\n" == wanted);

  const temporary_folder to;
  align::save_model(to / "model.safetensors", model);
  const align::model_file again = align::load_model(to.path());
  CHECK(again.options == model.options);
  CHECK(again.parameters == model.parameters);

  // Written in its own format it is the same file but for the tables of angles, which are the same to rounding.
  const std::string original = contents(folder / "stories260K.bin");
  const std::string written = text_of(align::write_llama2c(model, "again"));
  REQUIRE(written.size() == original.size());
  const std::size_t tables = 28 + 4 * model.parameters.size();
  CHECK(written.substr(0, tables) == original.substr(0, tables));
  for (std::size_t at = tables; at < written.size(); at += 4) {
    float a, b;
    std::memcpy(&a, written.data() + at, 4);
    std::memcpy(&b, original.data() + at, 4);
    if (!(std::abs(a - b) < 1e-4f)) FAIL("the tables differ at byte " << at << ": " << a << " and " << b);
  }
  CHECK(text_of(align::write_tokenizer(tokens)) == contents(folder / "tok512.bin"));
}
