// Hugging Face's Llama: names, the order of rows, config.json, and everything that is refused.

#include "align/files/llama_safetensors.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "align/files/llama_config.hpp"
#include "allocation.hpp"
#include "models.hpp"
#include "support/catch.hpp"

using nlohmann::json;

namespace {

const align::model_file model = small_model();

json config() { return json::parse(align::write_llama_config(model.options)); }

align::tensor& tensor_in(align::tensor_file& file, const std::string& name) {
  return *std::find_if(file.tensors.begin(), file.tensors.end(), [&](const auto& t) { return t.name == name; });
}

std::string refusal(const align::tensor_file& file) {
  return error_of([&] { (void)align::model_from_tensors(file, model.options, "FILE"); });
}

std::string config_refusal(const json& changed) {
  return error_of([&] { (void)align::read_llama_config(changed.dump(), "config.json"); });
}

std::string config_refusal(const char* key, const json& value) {
  json changed = config();
  changed[key] = value;
  return config_refusal(changed);
}

/// A file of 16-bit floats of the model's tensors, cut off or as they are.
align::tensor_file in_bfloat16(align::tensor_file file) {
  for (align::tensor& t : file.tensors) {
    std::vector<std::byte> halves;
    for (std::size_t i = 0; i < t.bytes.size(); i += 4) {
      halves.push_back(t.bytes[i + 2]);
      halves.push_back(t.bytes[i + 3]);
    }
    t.type = align::tensor_type::bf16;
    t.bytes = halves;
  }
  return file;
}

}  // namespace

TEST_CASE("a model comes back from its files, with and without config.json") {
  const temporary_folder folder;
  align::save_llama_safetensors(folder / "model.safetensors", model);
  for (const bool beside : {true, false}) {
    if (!beside) std::filesystem::remove(folder / "config.json");
    const align::model_file again = align::load_llama_safetensors(folder / "model.safetensors");
    CHECK(again.options == model.options);
    CHECK(again.parameters == model.parameters);
  }
  align::model_file other = model;
  other.options.rope_theta = 500000;
  other.options.norm_epsilon = 1e-6;
  align::save_llama_safetensors(folder / "model.safetensors", other);
  CHECK(align::load_llama_safetensors(folder / "model.safetensors").options == other.options);
}

TEST_CASE("tensors have Hugging Face's names and shapes") {
  const align::tensor_file file = align::tensors_from_model(model);
  CHECK(file.tensors.size() == 2 + 9 * 3);
  CHECK(file.metadata.at("format") == "pt");
  using shape = std::vector<std::int64_t>;
  for (const auto& [name, wanted, ours] :
       {std::tuple{"model.embed_tokens.weight", shape{11, 24}, "tok_embeddings.weight"},
        std::tuple{"model.layers.1.input_layernorm.weight", shape{24}, "layers.1.attention_norm.weight"},
        std::tuple{"model.layers.1.self_attn.v_proj.weight", shape{8, 24}, "layers.1.attention.wv.weight"},
        std::tuple{"model.layers.2.self_attn.o_proj.weight", shape{24, 24}, "layers.2.attention.wo.weight"},
        std::tuple{"model.layers.0.post_attention_layernorm.weight", shape{24}, "layers.0.ffn_norm.weight"},
        std::tuple{"model.layers.0.mlp.gate_proj.weight", shape{10, 24}, "layers.0.feed_forward.w1.weight"},
        std::tuple{"model.layers.0.mlp.up_proj.weight", shape{10, 24}, "layers.0.feed_forward.w3.weight"},
        std::tuple{"model.layers.0.mlp.down_proj.weight", shape{24, 10}, "layers.0.feed_forward.w2.weight"},
        std::tuple{"model.norm.weight", shape{24}, "norm.weight"}}) {
    CAPTURE(name);
    const align::tensor* const t = file.find(name);
    REQUIRE(t != nullptr);
    CHECK(t->shape == wanted);
    CHECK(align::floats(*t, "FILE") == tensor_of(model, ours));
  }
}

TEST_CASE("rows of queries and keys go from pairs of neighbours to halves of a head") {
  const align::tensor_file file = align::tensors_from_model(model);
  // view(heads, width / 2, 2, dimension).transpose(1, 2), with a head width of 4: rows 0 2 1 3, 4 6 5 7, ...
  for (const auto& [name, ours, heads] : {std::tuple{"q_proj", "wq", 6}, std::tuple{"k_proj", "wk", 2}}) {
    const auto theirs = align::floats(*file.find(std::string("model.layers.1.self_attn.") + name + ".weight"), "FILE");
    const auto mine = tensor_of(model, std::string("layers.1.attention.") + ours + ".weight");
    std::size_t at = 0;
    for (int head = 0; head < heads; ++head)
      for (int part = 0; part < 2; ++part)
        for (int pair = 0; pair < 2; ++pair)
          for (int column = 0; column < 24; ++column, ++at)
            if (theirs[at] != mine[static_cast<std::size_t>(((head * 2 + pair) * 2 + part) * 24 + column)])
              FAIL(name << " at " << at);
    CHECK(at == mine.size());
    CHECK(theirs != mine);
  }
}

TEST_CASE("the turned rows give the same scores as halves turned together") {
  // One head of width 6: query . key after rotation is the same in both conventions, at any two positions.
  align::model_file one;
  one.options = {.vocabulary = 2, .dimension = 6, .hidden = 2, .layers = 1, .heads = 1, .kv_heads = 1, .context = 4};
  const rlhf::random_numbers numbers{{.seed = 8}};
  for (std::int64_t i = 0; i < align::parameter_count(one.options); ++i)
    one.parameters.push_back(static_cast<float>(numbers.normal({.position = static_cast<std::uint32_t>(i)})));
  const align::tensor_file file = align::tensors_from_model(one);
  CHECK(align::model_from_tensors(file, one.options, "FILE").parameters == one.parameters);
  using vector = std::vector<double>;
  const vector x = {1, -2, 0.5, 3, -1, 0.25};
  const auto times = [&](const std::vector<float>& w) {
    vector y(6);
    for (std::size_t i = 0; i < 6; ++i)
      for (std::size_t j = 0; j < 6; ++j) y[i] += static_cast<double>(w[6 * i + j]) * x[j];
    return y;
  };
  const auto turned = [](vector v, int position, bool halves) {
    for (std::size_t i = 0; i < 3; ++i) {
      const double angle = position * std::pow(10000.0, -static_cast<double>(i) / 3);
      double &a = v[halves ? i : 2 * i], &b = v[halves ? i + 3 : 2 * i + 1];
      std::tie(a, b) = std::tuple(a * std::cos(angle) - b * std::sin(angle), a * std::sin(angle) + b * std::cos(angle));
    }
    return v;
  };
  const auto score = [](const vector& a, const vector& b) {
    double sum = 0;
    for (std::size_t i = 0; i < 6; ++i) sum += a[i] * b[i];
    return sum;
  };
  const auto q = times(tensor_of(one, "layers.0.attention.wq.weight"));
  const auto k = times(tensor_of(one, "layers.0.attention.wk.weight"));
  const auto hf_q = times(align::floats(*file.find("model.layers.0.self_attn.q_proj.weight"), "FILE"));
  const auto hf_k = times(align::floats(*file.find("model.layers.0.self_attn.k_proj.weight"), "FILE"));
  for (const auto& [i, j] : {std::pair{0, 0}, std::pair{3, 1}, std::pair{2, 0}})
    CHECK(score(turned(q, i, false), turned(k, j, false)) ==
          Approx(score(turned(hf_q, i, true), turned(hf_k, j, true))).epsilon(1e-12));
}

TEST_CASE("bfloat16 is read, a head that is the embedding and old frequencies are let pass") {
  align::tensor_file file = in_bfloat16(align::tensors_from_model(model));
  align::tensor head = *file.find("model.embed_tokens.weight");
  head.name = "lm_head.weight";
  file.tensors.push_back(head);
  file.tensors.push_back(
      align::float_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, std::vector<float>{1, 2}));
  const align::model_file again = align::model_from_tensors(file, model.options, "FILE");
  for (std::size_t i = 0; i < model.parameters.size(); ++i)
    if (!(std::abs(again.parameters[i] - model.parameters[i]) <= std::abs(model.parameters[i]) / 128)) FAIL("at " << i);
  tensor_in(file, "lm_head.weight").bytes[5] ^= std::byte{1};
  CHECK(refusal(file) ==
        "FILE: lm_head.weight is not model.embed_tokens.weight, wants a model whose output head is its embedding");
}

TEST_CASE("tensors that do not fit are refused by name") {
  const align::tensor_file good = align::tensors_from_model(model);
  align::tensor_file file = good;
  auto* t = &tensor_in(file, "model.layers.1.self_attn.k_proj.weight");
  std::swap(t->shape[0], t->shape[1]);
  CHECK(refusal(file) == "FILE: tensor model.layers.1.self_attn.k_proj.weight has shape [24, 8], wants [8, 24]");
  file = good;
  tensor_in(file, "model.layers.2.mlp.up_proj.weight").name = "model.layers.2.mlp.other.weight";
  CHECK(refusal(file) == "FILE: tensor model.layers.2.mlp.up_proj.weight is missing");
  file = good;
  file.tensors.push_back(align::float_tensor("model.layers.3.input_layernorm.weight", {24}, std::vector<float>(24)));
  CHECK(refusal(file) == "FILE: tensor model.layers.3.input_layernorm.weight is no part of a Llama model of 3 layers");
  file = good;
  t = &tensor_in(file, "model.norm.weight");
  t->type = align::tensor_type::i32;
  CHECK(refusal(file) == "FILE: tensor model.norm.weight is I32, wants F32, BF16 or F16");
  file = good;
  t = &tensor_in(file, "model.layers.0.mlp.down_proj.weight");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(t->bytes.data() + 4 * 17, &nan, 4);
  CHECK(refusal(file) == "FILE: tensor model.layers.0.mlp.down_proj.weight has NaN at index 17, wants finite numbers");
  file = good;
  file.tensors.pop_back();
  CHECK(contains(refusal(file), "FILE: has 28 tensors of "));
}

TEST_CASE("a file that is cut anywhere is refused") {
  align::model_file least;
  least.options = {.vocabulary = 1, .dimension = 2, .hidden = 1, .layers = 1, .heads = 1, .kv_heads = 1, .context = 1};
  least.parameters.assign(static_cast<std::size_t>(align::parameter_count(least.options)), 1);
  const std::string bytes = text_of(align::write_safetensors(align::tensors_from_model(least), "least"));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::string message = error_of(
        [&] { (void)align::read_llama_safetensors(bytes_of(bytes.substr(0, length)), "FILE", "", "config.json"); });
    if (!message.starts_with("FILE: ")) FAIL("at " << length << ": " << message);
  }
}

TEST_CASE("both places of the sizes must agree, and one must be there") {
  const std::string bytes = text_of(align::write_safetensors(align::tensors_from_model(model), "model"));
  align::tensor_file without = align::tensors_from_model(model);
  without.metadata.clear();
  const std::string bare = text_of(align::write_safetensors(without, "model"));
  const auto read = [&](const std::string& file, const std::string& text) {
    return error_of([&] { (void)align::read_llama_safetensors(bytes_of(file), "FILE", text, "config.json"); });
  };
  CHECK(read(bare, "") == "FILE: does not say its numbers of heads; wants a config.json beside it");
  CHECK(align::read_llama_safetensors(bytes_of(bare), "FILE", config().dump(), "config.json").parameters ==
        model.parameters);
  json other = config();
  other["rope_theta"] = 20000;
  CHECK(read(bytes, other.dump()) == "FILE: the sizes in its metadata are not those of config.json");
  other = config();
  other["tie_word_embeddings"] = false;
  CHECK(read(bare, other.dump()) == "FILE: tensor lm_head.weight is missing, and tie_word_embeddings is false");
  other["vocab_size"] = 12;
  CHECK(contains(read(bare, other.dump()), "lm_head.weight is missing"));
  other.erase("tie_word_embeddings");
  CHECK(read(bare, other.dump()) == "FILE: tensor model.embed_tokens.weight has shape [11, 24], wants [12, 24]");
  const temporary_folder folder;
  put(folder / "model.safetensors", bytes);
  put(folder / "config.json", "");
  CHECK(error_of([&] { (void)align::load_llama_safetensors(folder / "model.safetensors"); }) ==
        (folder / "config.json").string() + ": is empty");
}

TEST_CASE("configurations in older and newer words") {
  json old = config();
  for (const char* const key : {"num_key_value_heads", "rope_theta", "hidden_act", "tie_word_embeddings"})
    old.erase(key);
  old["rope_scaling"] = nullptr;
  old["transformers_version"] = "4.0";
  align::transformer_options wanted = model.options;
  wanted.kv_heads = wanted.heads;
  CHECK(align::read_llama_config(old.dump(), "config.json") == wanted);
  json fresh = config();
  fresh.erase("rope_theta");
  fresh["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500000.0}};
  fresh["head_dim"] = 4;
  wanted = model.options;
  wanted.rope_theta = 500000;
  CHECK(align::read_llama_config(fresh.dump(), "config.json") == wanted);
  fresh["rope_parameters"]["rope_type"] = "llama3";
  CHECK(config_refusal(fresh) == "config.json: rope_parameters: rope_type is \"llama3\", wants \"default\"");
}

TEST_CASE("configurations that this model cannot compute are refused by key") {
  CHECK(config_refusal("model_type", "mistral") == "config.json: model_type is \"mistral\", wants \"llama\"");
  CHECK(config_refusal(json::object()) == "config.json: model_type is missing, wants \"llama\"");
  CHECK(config_refusal(json::array()) == "config.json: wants a JSON object");
  CHECK(config_refusal("hidden_act", "gelu") == "config.json: hidden_act is \"gelu\", wants \"silu\"");
  CHECK(contains(config_refusal("rope_scaling", {{"factor", 8.0}}),
                 "config.json: rope_scaling is {\"factor\":8.0}, wants null"));
  CHECK(contains(config_refusal("attention_bias", true), "attention_bias is true, wants false"));
  CHECK(contains(config_refusal("mlp_bias", true), "mlp_bias is true, wants false"));
  CHECK(contains(config_refusal("quantization_config", {{"bits", 4}}), "quantization_config is"));
  CHECK(contains(config_refusal("head_dim", 8), "head_dim is 8, wants hidden_size / num_attention_heads = 4"));
  CHECK(config_refusal("hidden_size", 25) ==
        "config.json: heads must divide dimension into an even width: dimension is 25, heads 6, kv_heads 2");
  CHECK(config_refusal("hidden_size", "24") == "config.json: hidden_size is \"24\", wants a whole number of 1 or more");
  for (const json& bad :
       {json(0), json(-1), json(2.5), json(1ull << 40), json(-(1ll << 40)), json(~0ull), json(nullptr)})
    CHECK(contains(config_refusal("num_hidden_layers", bad), "num_hidden_layers is " + bad.dump()));
  CHECK(contains(config_refusal("rms_norm_eps", 0), "norm_epsilon is 0.000000, wants more than 0"));
  CHECK(contains(config_refusal("rope_theta", -1), "rope_theta is -1.000000, wants 1 or more"));
  CHECK(contains(config_refusal("rope_theta", "x"), "rope_theta is \"x\", wants a number"));
  for (const char* const key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                                "num_attention_heads", "max_position_embeddings", "rms_norm_eps"}) {
    json changed = config();
    changed.erase(key);
    CHECK(config_refusal(changed) == std::string("config.json: ") + key + " is missing");
  }
}

TEST_CASE("a configuration that lies does not allocate") {
  align::tensor_file file = align::tensors_from_model(model);
  file.metadata.clear();
  const std::string bytes = text_of(align::write_safetensors(file, "model"));
  for (const char* const key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings"})
    for (const int lie : {48, 1000, 1 << 18}) {
      json changed = config();
      changed[key] = lie;
      const std::string text = changed.dump();
      reset_allocations();
      (void)error_of([&] { (void)align::read_llama_safetensors(bytes_of(bytes), "FILE", text, "config.json"); });
      CAPTURE(key, lie);
      CHECK(largest_allocation < 4 * bytes.size());
    }
}

TEST_CASE("a model that is none is not written, and what was there stays") {
  const temporary_folder folder;
  put(folder / "model.safetensors", "old");
  align::model_file bad = model;
  bad.parameters[0] = std::numeric_limits<float>::infinity();
  CHECK(contains(error_of([&] { align::save_llama_safetensors(folder / "model.safetensors", bad); }),
                 "tok_embeddings.weight has an infinity at index 0"));
  CHECK(contents(folder / "model.safetensors") == "old");
  CHECK(!std::filesystem::exists(folder / "config.json"));
}
