// A model from a path: the format is told by what the file holds.

#include "align/files/load.hpp"

#include "align/files/llama2c.hpp"
#include "models.hpp"
#include "support/catch.hpp"

namespace {

std::string refusal(const std::filesystem::path& path) {
  return error_of([&] { (void)align::load_model(path); });
}

}  // namespace

TEST_CASE("both formats are saved and loaded by their names") {
  const temporary_folder folder;
  const align::model_file model = small_model();
  for (const char* const name : {"m.bin", "model.safetensors"}) {
    align::save_model(folder / name, model);
    const align::model_file again = align::load_model(folder / name);
    CHECK(again.options == model.options);
    CHECK(again.parameters == model.parameters);
  }
  CHECK(std::filesystem::exists(folder / "config.json"));
  CHECK(align::load_model(folder.path()).parameters == model.parameters);
  CHECK(contains(error_of([&] { align::save_model(folder / "m.gguf", model); }),
                 "ends in .bin (llama2.c) or .safetensors"));
  CHECK(!std::filesystem::exists(folder / "m.gguf"));
}

TEST_CASE("without a known name the contents decide") {
  const temporary_folder folder;
  const align::model_file model = small_model();
  align::save_model(folder / "model.safetensors", model);
  std::filesystem::rename(folder / "model.safetensors", folder / "tensors");
  CHECK(align::load_model(folder / "tensors").parameters == model.parameters);
  align::save_model(folder / "m.bin", model);
  std::filesystem::rename(folder / "m.bin", folder / "plain");
  CHECK(align::load_model(folder / "plain").parameters == model.parameters);
}

TEST_CASE("one format becomes the other") {
  const temporary_folder folder;
  const auto from = folder / "model.bin", to = folder / "model.safetensors";
  align::save_model(from, small_model());
  //! [convert]
  align::save_model(to, align::load_model(from));
  //! [convert]
  CHECK(align::load_model(to).parameters == small_model().parameters);
  align::save_model(folder / "again.bin", align::load_model(to));
  CHECK(contents(folder / "again.bin") == contents(from));
}

TEST_CASE("123 layers look like the brace of JSON and are not") {
  align::model_file model;
  model.options = {
      .vocabulary = 1, .dimension = 2, .hidden = 1, .layers = 123, .heads = 1, .kv_heads = 1, .context = 1};
  model.parameters.assign(static_cast<std::size_t>(align::parameter_count(model.options)), 1);
  const temporary_folder folder;
  align::save_model(folder / "m.bin", model);
  CHECK(align::load_model(folder / "m.bin").options == model.options);
}

TEST_CASE("files of other programs are refused by what they are") {
  const temporary_folder folder;
  put(folder / "pytorch_model.bin", std::string("PK\x03\x04", 4) + std::string(100, 'x'));
  CHECK(contains(refusal(folder / "pytorch_model.bin"), "is PyTorch's own format, wants safetensors or llama2.c's"));
  put(folder / "m.gguf", "GGUF" + std::string(100, 'x'));
  CHECK(contains(refusal(folder / "m.gguf"), "is GGUF"));
  put(folder / "config.json", "{\"model_type\": \"llama\"}");
  CHECK(contains(refusal(folder / "config.json"), "is JSON, wants the file of the parameters"));
  put(folder / "empty.bin", "");
  CHECK(contains(refusal(folder / "empty.bin"), "at byte 0: wanted a header"));
  CHECK(refusal(folder / "none.bin") ==
        "cannot read " + (folder / "none.bin").string() + ": No such file or directory");
  CHECK(refusal(folder.path()) == folder.path().string() + ": this folder has no model.safetensors");
}
