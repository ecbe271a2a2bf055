// Files in llama2.c's format: what is read is written again as it was, up to the rotary tables.

#include "align/files/llama2c.hpp"

#include "fuzz.hpp"
#include "models.hpp"

std::vector<std::string> fuzz::seeds() {
  align::model_file least{
      .options = {.vocabulary = 1, .dimension = 2, .hidden = 1, .layers = 1, .heads = 1, .kv_heads = 1, .context = 1},
      .parameters = {}};
  least.parameters.assign(static_cast<std::size_t>(align::parameter_count(least.options)), 0.5f);
  return {text_of(align::write_llama2c(least, "least")), text_of(align::write_llama2c(tiny_model(), "tiny"))};
}

void fuzz::one_input(std::span<const std::byte> bytes) {
  refused_or([&] { return align::read_llama2c(bytes, "input"); },
             [&](const align::model_file& model) {
               const std::string again = text_of(align::write_llama2c(model, "again"));
               require(again.size() == bytes.size(), "the size is the same");
               const std::size_t same = 28 + 4 * model.parameters.size();
               require(again.substr(0, same) == text_of(bytes.first(same)), "the bytes are the same");
             });
}
