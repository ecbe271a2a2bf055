// config.json: the sizes that were read are sizes that can be written.

#include "align/files/llama_config.hpp"
#include "fuzz.hpp"
#include "models.hpp"

std::vector<std::string> fuzz::seeds() {
  return {align::write_llama_config(tiny_model().options),
          R"({"model_type":"llama","vocab_size":9,"hidden_size":8,"intermediate_size":6,"num_hidden_layers":1,)"
          R"("num_attention_heads":2,"max_position_embeddings":5,"rms_norm_eps":1e-6,"head_dim":4,)"
          R"("rope_parameters":{"rope_type":"default","rope_theta":500000},"rope_scaling":null})"};
}

void fuzz::one_input(std::span<const std::byte> bytes) {
  refused_or([&] { return align::read_llama_config(text_of(bytes), "input"); },
             [&](const align::transformer_options& options) {
               align::check_sizes(options, "again");
               require(align::read_llama_config(align::write_llama_config(options), "again") == options,
                       "the same sizes");
             });
}
