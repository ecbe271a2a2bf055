// Lines and rows of text, plain and gzip.

#include "align/data/lines.hpp"

#include <string>
#include <vector>

#include "align/data.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

namespace {

std::vector<std::string> lines_of(std::string_view bytes, std::size_t limit = align::longest_row) {
  align::line_reader reader(align::byte_source(bytes, "x"), limit);
  std::vector<std::string> out;
  for (std::string line; reader.next(line);) {
    out.push_back(line);
    CHECK(reader.number() == static_cast<std::int64_t>(out.size()));
  }
  return out;
}

/// "line:text" for each row.
std::vector<std::string> rows_of(std::string_view bytes, std::size_t limit = align::longest_row) {
  align::json_rows reader(align::byte_source(bytes, "x"), limit);
  std::vector<std::string> out;
  for (align::json_text row; reader.next(row);) out.push_back(std::to_string(row.line) + ":" + row.text);
  align::json_text row;
  CHECK_FALSE(reader.next(row));
  return out;
}

using texts = std::vector<std::string>;

/// `{"a": 1}` and a line feed as gzip makes them.
const std::string packed = [] {
  constexpr unsigned char bytes[] = {0x1F, 0x8B, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03,
                                     0xAB, 0x56, 0x4A, 0x54, 0xB2, 0x52, 0x30, 0xAC, 0xE5, 0x02,
                                     0x00, 0xFA, 0xA1, 0x47, 0x5C, 0x09, 0x00, 0x00, 0x00};
  return std::string(bytes, bytes + sizeof bytes);
}();

}  // namespace

TEST_CASE("lines end with a line feed, a carriage return before it is dropped, so is a byte order mark") {
  CHECK(lines_of("").empty());
  CHECK(lines_of("a") == texts{"a"});
  CHECK(lines_of("a\n") == texts{"a"});
  CHECK(lines_of("a\n\n b\r\nc\rd") == texts{"a", "", " b", "c\rd"});
  CHECK(lines_of("\xEF\xBB\xBF"
                 "a\n\xEF\xBB\xBF") == texts{"a", "\xEF\xBB\xBF"});
  const std::string longer(200'000, 'z');  // over several pieces
  CHECK(lines_of(longer + "\n" + longer + "y\n") == texts{longer, longer + "y"});
}

TEST_CASE("a line over the limit is refused") {
  CHECK(lines_of("12345\n1234", 5) == texts{"12345", "1234"});
  CHECK(refusal([] { lines_of("1\n123456\n", 5); }) == "x:2: the row is longer than 5 bytes");
  CHECK(refusal([] { rows_of("\n\n123456", 5); }) == "x:3: the row is longer than 5 bytes");
  CHECK(refusal([] { rows_of("[1,\n\n \"23456\"]", 5); }) == "x:3: the row is longer than 5 bytes");
}

TEST_CASE("rows are lines that are not blank, or the elements of an array") {
  CHECK(rows_of("").empty());
  CHECK(rows_of(" \n\t\r\n").empty());
  CHECK(rows_of("{}\n\n  {\"a\": [1, 2]} \r\n3") == texts{"1:{}", "3:{\"a\": [1, 2]}", "4:3"});
  CHECK(rows_of("[]").empty());
  CHECK(rows_of("\n [ ] \n").empty());
  CHECK(rows_of("\n[{}, {\"a\":\n[1, {}]\n},3 \n]\n") == texts{"2:{}", "2:{\"a\":\n[1, {}]\n}", "4:3"});
  CHECK(rows_of(R"(["]", ",\"[", "\\", 1])") == texts{R"(1:"]")", R"(1:",\"[")", R"(1:"\\")", "1:1"});
  CHECK(rows_of("[{]]") == texts{"1:{]"});  // for the parser of the row to refuse
  const std::string wide = "\"" + std::string(200'000, 'z') + "\"";
  CHECK(rows_of("[" + wide + "," + wide + "]") == texts{"1:" + wide, "1:" + wide});
}

TEST_CASE("an array that is not well put together is refused") {
  const std::string never = "the array never ends (it wants a `]`; is the file cut?)";
  CHECK(refusal([] { rows_of("["); }) == "x:1: " + never);
  CHECK(refusal([] { rows_of("\n[1\n"); }) == "x:2: " + never);
  CHECK(refusal([] { rows_of("[1,\n"); }) == "x:1: " + never);
  CHECK(refusal([] { rows_of("[{\"a]"); }) == "x:1: " + never);
  CHECK(refusal([] { rows_of("[1,\n]"); }) == "x:2: the array has a comma and no element after it");
  CHECK(refusal([] { rows_of("[,1]"); }) == "x:1: the array has a comma and no element before it");
  CHECK(refusal([] { rows_of("[1,,2]"); }) == "x:1: the array has a comma and no element before it");
  CHECK(refusal([] { rows_of("[1}"); }) == "x:1: the array has a bracket that nothing opened");
  CHECK(refusal([] { rows_of("[1]\n2"); }) == "x:2: something follows the array (wants the end of the file)");
}

TEST_CASE("gzip is seen by its content, members follow one another, damage is said") {
  CHECK(lines_of(packed) == texts{"{\"a\": 1}"});
  CHECK(rows_of(packed + packed) == texts{"1:{\"a\": 1}", "2:{\"a\": 1}"});
  const align_tests::temporary_file file("plain-name.jsonl", packed + packed);
  align::line_reader reader{align::byte_source(file.path())};
  std::string line;
  CHECK((reader.next(line) && reader.next(line) && line == "{\"a\": 1}" && !reader.next(line)));

  CHECK(refusal([] { lines_of(packed.substr(0, packed.size() - 1)); }) ==
        "x: the gzip data end too early (is the file cut?)");
  CHECK(refusal([] { lines_of(packed.substr(0, 2)); }) == "x: the gzip data end too early (is the file cut?)");
  std::string other = packed;
  other[other.size() - 5] = static_cast<char>(other[other.size() - 5] ^ 1);
  CHECK(refusal([&] { lines_of(other); }).starts_with("x: the gzip data are damaged ("));
  CHECK(refusal([] { lines_of(packed + "z"); }).starts_with("x: the gzip data "));
}

TEST_CASE("a file that cannot be read is said") {
  CHECK(refusal([] { align::byte_source("/nonexistent/file"); }) ==
        "/nonexistent/file: cannot be opened (No such file or directory)");
  const std::string folder = std::filesystem::temp_directory_path().string();
  CHECK(refusal([&] { align::line_reader(align::byte_source(folder)); }).starts_with(folder + ": cannot be "));
}
