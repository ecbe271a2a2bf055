// llama2.c's format: where each number lies, both ways, and everything that is refused.

#include "align/files/llama2c.hpp"

#include <cmath>
#include <limits>

#include "align/model/transformer.hpp"
#include "allocation.hpp"
#include "models.hpp"
#include "support/catch.hpp"

namespace {

std::string file_of(const align::model_file& model) { return text_of(align::write_llama2c(model, "model")); }

std::string refusal(const std::string& bytes) {
  return error_of([&] { (void)align::read_llama2c(bytes_of(bytes), "FILE"); });
}

}  // namespace

TEST_CASE("the count and the places of parameters are the transformer's") {
  const align::model_file model = small_model();
  const align::transformer<float> net(model.options);
  CHECK(net.size() == align::parameter_count(model.options));
  CHECK(net.slices().back().offset + net.slices().back().size == net.size());
  CHECK(net.slices().size() == 2 + 3 * std::size_t{align::slices_per_layer});
}

TEST_CASE("a model comes back as it was") {
  const align::model_file model = small_model();
  const align::model_file again = align::read_llama2c(bytes_of(file_of(model)), "FILE");
  CHECK(again.options == model.options);
  CHECK(again.parameters == model.parameters);
}

TEST_CASE("tensors lie kind by kind over all layers, angles at the end") {
  const align::model_file model = small_model();
  const std::string bytes = file_of(model);
  std::size_t at = 0;
  for (const int size : {24, 10, 3, 6, 2, 11, 7}) {
    int got;
    std::memcpy(&got, bytes.data() + at, 4);
    CHECK(got == size);
    at += 4;
  }
  const auto expect = [&](const std::vector<float>& values) {
    REQUIRE(at + 4 * values.size() <= bytes.size());
    CHECK(bytes.substr(at, 4 * values.size()) == text_of(std::as_bytes(std::span(values))));
    at += 4 * values.size();
  };
  expect(tensor_of(model, "tok_embeddings.weight"));
  for (const char* const kind : {"attention_norm", "attention.wq", "attention.wk", "attention.wv", "attention.wo",
                                 "ffn_norm", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"})
    for (int layer = 0; layer < 3; ++layer)
      expect(tensor_of(model, "layers." + std::to_string(layer) + "." + kind + ".weight"));
  expect(tensor_of(model, "norm.weight"));
  // Head width 4: two angles for each of seven positions.
  for (const bool imaginary : {false, true})
    for (int position = 0; position < 7; ++position)
      for (const double frequency : {1.0, 0.01}) {
        float got;
        std::memcpy(&got, bytes.data() + at, 4);
        const double angle = position * frequency;
        CHECK(got == Approx(imaginary ? std::sin(angle) : std::cos(angle)).margin(1e-7));
        at += 4;
      }
  CHECK(at == bytes.size());
}

TEST_CASE("a file that is cut anywhere, or longer, is refused") {
  const std::string bytes = file_of(small_model());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::string message = refusal(bytes.substr(0, length));
    if (!contains(message, "FILE: ") || contains(message, "not refused")) FAIL("at " << length << ": " << message);
  }
  CHECK(refusal("") == "FILE: at byte 0: wanted a header of 7 sizes (4 bytes), got the end of the file");
  CHECK(refusal(bytes.substr(0, 26)) == "FILE: at byte 24: wanted a header of 7 sizes (4 bytes), got only 2");
  const std::string sizes = std::to_string(bytes.size());
  CHECK(refusal(bytes.substr(0, 1000)) ==
        "FILE: has 1000 bytes, but its header (dimension 24, hidden 10, layers 3, heads 6, kv_heads 2, vocabulary 11, "
        "context 7) wants " +
            sizes);
  CHECK(contains(refusal(bytes + '\0'), "wants " + sizes));
}

TEST_CASE("headers that make no model are refused by the size that is wrong") {
  const std::string bytes = file_of(small_model());
  const auto header = [&](std::size_t field, std::int32_t value) { return refusal(with(bytes, 4 * field, value)); };
  CHECK(header(0, 0) == "FILE: dimension is 0, wants 1 to 262144");
  CHECK(header(1, -5) == "FILE: hidden is -5, wants 1 to 1048576");
  CHECK(header(2, 2000) == "FILE: layers is 2000, wants 1 to 1024");
  CHECK(header(3, 5) == "FILE: heads must divide dimension into an even width: dimension is 24, heads 5, kv_heads 2");
  CHECK(contains(header(3, 24), "heads must divide dimension into an even width"));
  CHECK(contains(header(4, 4), "kv_heads must divide heads"));
  CHECK(contains(header(6, std::numeric_limits<int>::max()), "context is 2147483647, wants 1 to 16777216"));
  CHECK(contains(header(5, std::numeric_limits<int>::min()), "vocabulary is -2147483648"));
  CHECK(
      header(5, -11) ==
      "FILE: vocabulary is -11: the mark of an output head that is not the embedding; wants a model with a tied head");
  CHECK(contains(refusal("24ka" + bytes), "a later version of llama2.c's format; wants version 0"));
  // Another file altogether.
  CHECK(contains(refusal(std::string(100, 'x')), "FILE: dimension is 2021161080, wants"));
}

TEST_CASE("a lying header does not allocate") {
  const std::string bytes = file_of(small_model());
  for (std::size_t field = 0; field < 7; ++field)
    for (const std::int32_t lie : {1, 2, 1 << 10, 1 << 16, 1 << 18, 1 << 24, std::numeric_limits<int>::max()}) {
      const std::string changed = with(bytes, 4 * field, lie);
      if (changed == bytes) continue;
      reset_allocations();
      const std::string message = refusal(changed);
      CAPTURE(field, lie, message);
      CHECK(!contains(message, "not refused"));
      CHECK(all_allocations < 8192);
    }
  // As large as the format allows, in 28 bytes.
  std::string most = bytes.substr(0, 28);
  const std::int32_t sizes[] = {1 << 18, 1 << 20, 1 << 10, 1 << 16, 1 << 16, 1 << 24, 1 << 24};
  std::memcpy(most.data(), sizes, sizeof sizes);
  reset_allocations();
  CHECK(contains(refusal(most), "FILE: has 28 bytes, but its header"));
  CHECK(all_allocations < 8192);
}

TEST_CASE("a number that is not finite is refused by tensor and index, in and out") {
  const align::model_file model = small_model();
  const std::string bytes = file_of(model);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  CHECK(refusal(with(bytes, 28 + 4 * 100, nan)) ==
        "FILE: tok_embeddings.weight has NaN at index 100, wants finite numbers");
  // The last parameter of the file is that of the final norm; behind it are the two tables of 7 x 2 angles.
  CHECK(refusal(with(bytes, bytes.size() - 4 * 28 - 4, -infinity)) ==
        "FILE: norm.weight has an infinity at index 23, wants finite numbers");
  align::model_file bad = model;
  bad.parameters[3] = nan;
  CHECK(contains(error_of([&] { (void)file_of(bad); }), "tok_embeddings.weight has NaN at index 3"));
}

TEST_CASE("what the format cannot hold is not written") {
  align::model_file model = small_model();
  model.options.rope_theta = 500000;
  CHECK(
      contains(error_of([&] { (void)file_of(model); }), "model: llama2.c's format has no place for rope_theta 500000"));
  model = small_model();
  model.options.norm_epsilon = 1e-6;
  CHECK(contains(error_of([&] { (void)file_of(model); }), "norm_epsilon"));
  model = small_model();
  model.parameters.pop_back();
  CHECK(contains(error_of([&] { (void)file_of(model); }), "parameters, its sizes want"));
  model.options.heads = 5;
  CHECK(contains(error_of([&] { (void)file_of(model); }), "heads must divide dimension"));
}
