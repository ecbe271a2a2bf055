// Safetensors: bytes that are known, both ways, and everything that is refused.

#include "align/files/safetensors.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>
#include "align/files/strict_json.hpp"

#include "allocation.hpp"
#include "models.hpp"
#include "support/catch.hpp"

using align::tensor_type;

namespace {

/// A file of that header, as it stands, and so many bytes of data.
std::string file_of(const std::string& header, std::size_t data = 0) {
  return with(std::string(8, '\0'), 0, std::uint64_t{header.size()}) + header + std::string(data, 'd');
}

std::string refusal(const std::string& bytes) {
  return error_of([&] { (void)align::read_safetensors(bytes_of(bytes), "FILE"); });
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"t":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

align::tensor raw(std::string name, tensor_type type, std::vector<std::int64_t> shape, const std::string& bytes) {
  const auto b = bytes_of(bytes);
  return {std::move(name), type, std::move(shape), {b.begin(), b.end()}};
}

align::tensor_file several() {
  const std::vector<float> six = {1, -2, 3, 4.5f, 5, 6};
  return {{{"format", "pt"}, {"who", "me"}},
          {align::float_tensor("m", {2, 3}, six), raw("bytes", tensor_type::u8, {3}, "xyz"),
           raw("long", tensor_type::i64, {1}, "12345678"), align::float_tensor("c", {}, std::vector<float>{7}),
           raw("none", tensor_type::i32, {4, 0}, ""), raw("double", tensor_type::f64, {1}, "abcdefgh")}};
}

}  // namespace

TEST_CASE("a file is these bytes") {
  const align::tensor_file file{{{"k", "v"}},
                                {raw("b", tensor_type::u8, {2, 1}, "XY"), raw("a", tensor_type::u8, {}, "Z")}};
  const std::string header = R"({"__metadata__":{"k":"v"},"a":{"data_offsets":[0,1],"dtype":"U8","shape":[]},)"
                             R"("b":{"data_offsets":[1,3],"dtype":"U8","shape":[2,1]}})";
  std::string padded = header;
  while (padded.size() % 8 != 0) padded += ' ';
  CHECK(text_of(align::write_safetensors(file, "file")) == file_of(padded) + "ZXY");
}

TEST_CASE("tensors come back, whatever their order was, aligned") {
  align::tensor_file file = several();
  const std::string bytes = text_of(align::write_safetensors(file, "file"));
  const align::tensor_file again = align::read_safetensors(bytes_of(bytes), "FILE");
  CHECK(again.metadata == file.metadata);
  REQUIRE(again.tensors.size() == file.tensors.size());
  for (const align::tensor& t : file.tensors) {
    const align::tensor* const other = again.find(t.name);
    REQUIRE(other != nullptr);
    CHECK(other->type == t.type);
    CHECK(other->shape == t.shape);
    CHECK(other->bytes == t.bytes);
  }
  CHECK(again.find("nobody") == nullptr);
  std::vector<std::string> order;
  for (const align::tensor& t : again.tensors) order.push_back(t.name);
  CHECK(order == std::vector<std::string>{"double", "long", "c", "m", "none", "bytes"});
  std::reverse(file.tensors.begin(), file.tensors.end());
  CHECK(text_of(align::write_safetensors(file, "file")) == bytes);
  const temporary_folder folder;
  align::save_safetensors(folder / "a.safetensors", file);
  CHECK(contents(folder / "a.safetensors") == bytes);
  CHECK(align::load_safetensors(folder / "a.safetensors").tensors.size() == 6);
}

TEST_CASE("floats out of 32 and 16 bits") {
  const std::vector<float> values = {0, -1.5f, 3e38f, 1e-45f};
  CHECK(align::floats(align::float_tensor("f", {4}, values), "FILE") == values);
  const auto sixteen = [](tensor_type type, std::vector<std::uint16_t> bits) {
    return align::floats(
        raw("t", type, {static_cast<std::int64_t>(bits.size())}, text_of(std::as_bytes(std::span(bits)))), "FILE");
  };
  CHECK(sixteen(tensor_type::bf16, {0x3f80, 0xc040, 0x0000, 0x7f80}) ==
        std::vector<float>{1, -3, 0, std::numeric_limits<float>::infinity()});
  // 1, -2, the largest, the least normal, the largest and the least below it, minus zero, both infinities.
  const auto half = sixteen(tensor_type::f16,
                            {0x3c00, 0xc000, 0x7bff, 0x0400, 0x03ff, 0x0001, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0x3555});
  CHECK(half[0] == 1);
  CHECK(half[1] == -2);
  CHECK(half[2] == 65504);
  CHECK(half[3] == std::ldexp(1.0f, -14));
  CHECK(half[4] == 1023 * std::ldexp(1.0f, -24));
  CHECK(half[5] == std::ldexp(1.0f, -24));
  CHECK((half[6] == 0 && std::signbit(half[6])));
  CHECK((std::isinf(half[7]) && half[7] > 0 && std::isinf(half[8]) && half[8] < 0));
  CHECK(std::isnan(half[9]));
  CHECK(half[10] == 0.333251953125f);
  CHECK(error_of([] { (void)align::floats(raw("ids", tensor_type::i32, {1}, "1234"), "FILE"); }) ==
        "FILE: tensor ids is I32, wants F32, BF16 or F16");
}

TEST_CASE("a file that is cut anywhere, or longer, is refused") {
  const std::string bytes = text_of(align::write_safetensors(several(), "file"));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::string message = refusal(bytes.substr(0, length));
    if (!message.starts_with("FILE: ")) FAIL("at " << length << ": " << message);
  }
  CHECK(contains(refusal(bytes + "x"), "of the data, the file has"));
  CHECK(refusal("abc") == "FILE: at byte 0: wanted the length of the header (8 bytes), got only 3");
}

TEST_CASE("headers that lie are refused by what is wrong") {
  CHECK(contains(refusal(file_of("{}").substr(0, 9)),
                 "FILE: the header's length is 2, wants at most 1 (the file is cut short)"));
  CHECK(contains(refusal(with(file_of("{}"), 0, ~std::uint64_t{0})), "(is this a safetensors file?)"));
  CHECK(contains(refusal(file_of("[]")), "the header does not begin with {"));
  CHECK(contains(refusal(file_of("")), "the header does not begin with {"));
  CHECK(contains(refusal(file_of("{\"a\"")), "FILE: no JSON: parse error"));
  CHECK(contains(refusal(file_of("{\"\xff\": 1}")), "FILE: no JSON: parse error"));
  CHECK(contains(refusal(file_of("{} {}")), "FILE: no JSON: parse error"));
  CHECK(refusal(file_of(R"({"t":1})")) == "FILE: tensor t wants exactly dtype, shape and data_offsets");
  CHECK(contains(refusal(file_of(R"({"t":{"dtype":"U8","shape":[],"data_offsets":[0,1],"more":1}})", 1)),
                 "wants exactly"));
  CHECK(refusal(file_of(one("\"F8\"", "[1]", "[0,1]"), 1)) ==
        "FILE: tensor t: dtype is \"F8\", wants F64, F32, F16, BF16, I64, I32 or U8");
  CHECK(contains(refusal(file_of(one("7", "[1]", "[0,1]"), 1)), "dtype is 7"));
  CHECK(refusal(file_of(one("\"U8\"", "[-1]", "[0,1]"), 1)) == "FILE: tensor t: shape is -1, wants a whole number");
  CHECK(contains(refusal(file_of(one("\"U8\"", "[1.0]", "[0,1]"), 1)), "shape is 1.0, wants a whole number"));
  CHECK(contains(refusal(file_of(one("\"U8\"", "1", "[0,1]"), 1)), "shape wants at most 8 sizes"));
  CHECK(contains(refusal(file_of(one("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1)), "shape wants at most 8 sizes"));
  CHECK(contains(refusal(file_of(one("\"U8\"", "[1]", "[0]"), 1)), "data_offsets wants a begin and an end"));
  CHECK(refusal(file_of(one("\"U8\"", "[2]", "[0,2]"), 1)) ==
        "FILE: tensor t: data_offsets are 0 to 2, outside the 1 bytes of data");
  CHECK(contains(refusal(file_of(one("\"U8\"", "[1]", "[1,0]"), 1)), "data_offsets are 1 to 0, outside"));
  CHECK(refusal(file_of(one("\"F32\"", "[2]", "[0,4]"), 4)) ==
        "FILE: tensor t: shape [2] of F32 does not make the 4 bytes it is given");
  // Products beyond 64 bits, some of which would come out right.
  CHECK(contains(refusal(file_of(one("\"F32\"", "[4611686018427387904,4]", "[0,0]"))), "does not make the 0 bytes"));
  CHECK(contains(refusal(file_of(one("\"U8\"", "[4294967296,4294967296]", "[0,0]"))), "does not make the 0 bytes"));
  CHECK(contains(refusal(file_of(one("\"U8\"", "[18446744073709551615]", "[0,1]"), 1)), "wants a whole number"));
  CHECK(contains(refusal(file_of(R"({"__metadata__":{"a":1}})")), "__metadata__ a is no string"));
  CHECK(contains(refusal(file_of(R"({"__metadata__":[]})")), "__metadata__ wants an object of strings"));
  // A name cannot write on the terminal.
  CHECK(contains(refusal(file_of("{\"\\u001b[31m\":1}")), "tensor ?[31m wants exactly"));
}

TEST_CASE("tensors without bytes may have any other size") {
  const auto file =
      align::read_safetensors(bytes_of(file_of(one("\"F32\"", "[0,4611686018427387904,9]", "[0,0]"))), "FILE");
  CHECK(file.tensors.at(0).bytes.empty());
}

TEST_CASE("data with a gap, an overlap or a rest are refused") {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}";
  };
  CHECK(align::read_safetensors(bytes_of(file_of(two("[2,4]", "[0,2]"), 4)), "FILE").tensors[0].name == "b");
  CHECK(refusal(file_of(two("[0,2]", "[3,5]"), 5)) ==
        "FILE: tensor b begins at byte 3 of the data, the one before ends at 2: wants neither gap nor overlap");
  CHECK(contains(refusal(file_of(two("[0,2]", "[1,3]"), 3)), "wants neither gap nor overlap"));
  CHECK(contains(refusal(file_of(two("[0,2]", "[0,2]"), 2)), "wants neither gap nor overlap"));
  CHECK(contains(refusal(file_of(two("[1,3]", "[3,5]"), 5)), "the one before ends at 0"));
  CHECK(refusal(file_of(two("[0,2]", "[2,4]"), 6)) == "FILE: the tensors end at byte 4 of the data, the file has 6");
}

TEST_CASE("a name or key given twice is refused") {
  const std::string t = R"("t":{"dtype":"U8","shape":[],"data_offsets":[0,1]})";
  CHECK(refusal(file_of("{" + t + "," + t + "}", 1)) == "FILE: \"t\" is given twice in one JSON object");
  CHECK(contains(refusal(file_of(R"({"t":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}})", 1)),
                 "\"dtype\" is given twice"));
  align::tensor_file file = several();
  file.tensors.push_back(file.tensors.front());
  CHECK(error_of([&] { (void)align::write_safetensors(file, "file"); }) == "file: tensor m is given twice");
}

TEST_CASE("what makes no file is not written") {
  const auto refused = [](const align::tensor& t) {
    return error_of([&] { (void)align::write_safetensors({{}, {t}}, "file"); });
  };
  CHECK(contains(refused(raw("t", tensor_type::f32, {2}, "1234")),
                 "file: tensor t: shape [2] of F32 does not make its 4 bytes"));
  CHECK(contains(refused(raw("t", tensor_type::u8, {-1}, "")), "does not make its 0 bytes"));
  CHECK(contains(refused(raw("__metadata__", tensor_type::u8, {}, "1")), "has a reserved name"));
  CHECK(refused(raw("\xff", tensor_type::u8, {}, "1")) == "file: a name or metadata is no UTF-8");
}

TEST_CASE("a hostile header allocates in proportion to the file") {
  const auto allocated = [](const std::string& bytes) {
    reset_allocations();
    (void)refusal(bytes);
    return static_cast<double>(largest_allocation) / static_cast<double>(bytes.size());
  };
  CHECK(contains(refusal(file_of("{\"a\":" + std::string(100000, '['))), "FILE: JSON is nested deeper than 3"));
  CHECK(allocated(file_of("{\"a\":" + std::string(100000, '['))) < 8);
  std::string wide = "{\"t\":{\"shape\":[";
  for (int i = 0; i < 100000; ++i) wide += "1,";
  CHECK(allocated(file_of(wide + "1]}}")) < 40);
  CHECK(allocated(file_of(one("\"U8\"", "[4611686018427387904]", "[0,4611686018427387904]"))) < 40);
  CHECK(allocated(with(file_of("{}"), 0, std::uint64_t{99'999'999})) < 40);
}

TEST_CASE("JSON is taken as it is or refused") {
  CHECK(align::parse_strictly(R"({"a":[1,{"a":2}]})", "FILE", 3)["a"][1]["a"] == 2);
  CHECK(error_of([] { (void)align::parse_strictly("[[1]]", "FILE", 1); }) == "FILE: JSON is nested deeper than 1");
  CHECK(error_of([] { (void)align::parse_strictly(R"([{"a":1},{"a":1,"b":2,"a":3}])", "FILE", 2); }) ==
        "FILE: \"a\" is given twice in one JSON object");
  CHECK(contains(error_of([] { (void)align::parse_strictly("", "FILE", 2); }), "FILE: no JSON: parse error at line 1"));
  CHECK(contains(error_of([] { (void)align::parse_strictly("1e999", "FILE", 2); }), "FILE: no JSON: number overflow"));
}
