// Safetensors: what is read is the same when it was written and read again.

#include "align/files/safetensors.hpp"

#include "fuzz.hpp"

std::vector<std::string> fuzz::seeds() {
  using align::tensor_type;
  const std::vector<float> six = {1, 2, 3, 4, 5, 6};
  align::tensor_file file{{{"format", "pt"}},
                          {align::float_tensor("b", {2, 3}, six),
                           align::float_tensor("scalar", {}, std::vector<float>{7}),
                           {"h", tensor_type::f16, {2}, std::vector<std::byte>(4)},
                           {"g", tensor_type::bf16, {1, 2}, std::vector<std::byte>(4)},
                           {"d", tensor_type::f64, {1}, std::vector<std::byte>(8)},
                           {"i", tensor_type::i32, {1}, std::vector<std::byte>(4)},
                           {"l", tensor_type::i64, {0, 5}, {}},
                           {"u", tensor_type::u8, {3}, std::vector<std::byte>(3)}}};
  std::vector<std::string> out = {text_of(align::write_safetensors(file, "all")),
                                  text_of(align::write_safetensors({}, "none"))};
  file.tensors.resize(1);
  out.push_back(text_of(align::write_safetensors(file, "one")));
  return out;
}

void fuzz::one_input(std::span<const std::byte> bytes) {
  refused_or([&] { return align::read_safetensors(bytes, "input"); },
             [&](const align::tensor_file& file) {
               const std::vector<std::byte> once = align::write_safetensors(file, "once");
               const align::tensor_file again = align::read_safetensors(once, "again");
               require(again.tensors.size() == file.tensors.size(), "as many tensors");
               require(again.metadata == file.metadata, "the same metadata");
               for (const align::tensor& t : file.tensors) {
                 const align::tensor* const other = again.find(t.name);
                 require(
                     other != nullptr && other->type == t.type && other->shape == t.shape && other->bytes == t.bytes,
                     "the same tensor");
                 if (t.type == align::tensor_type::f16 || t.type == align::tensor_type::bf16)
                   require(2 * align::floats(t, "input").size() == t.bytes.size(), "a float for each element");
               }
               require(align::write_safetensors(again, "twice") == once, "the same bytes");
             });
}
