#include "align/files/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <tuple>

#include "align/files/bytes.hpp"
#include "align/files/save.hpp"
#include "align/files/strict_json.hpp"

namespace align {

namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw std::runtime_error(name + ": " + what);
}

struct type_row {
  tensor_type type;
  std::string_view name;
  std::int64_t size;
};
constexpr std::array<type_row, 7> types = {{{tensor_type::f64, "F64", 8},
                                            {tensor_type::f32, "F32", 4},
                                            {tensor_type::f16, "F16", 2},
                                            {tensor_type::bf16, "BF16", 2},
                                            {tensor_type::i64, "I64", 8},
                                            {tensor_type::i32, "I32", 4},
                                            {tensor_type::u8, "U8", 1}}};

const type_row& row_of(tensor_type type) {
  return *std::find_if(types.begin(), types.end(), [&](const type_row& row) { return row.type == type; });
}

constexpr std::uint64_t longest_header = 100'000'000;  // that of the format's own readers

/// Bytes of a tensor of that shape, if they are no more than `most`; -1 otherwise.
std::int64_t bytes_of(const std::vector<std::int64_t>& shape, std::int64_t element, std::int64_t most) {
  // A zero anywhere makes all of it zero, however large the rest is.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t bytes = element;
  for (const std::int64_t extent : shape) {
    if (extent < 0 || bytes > most / extent) return -1;
    bytes *= extent;
  }
  return bytes <= most ? bytes : -1;
}

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::int64_t natural(const json& value, const std::string& where) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{1} << 62)
    throw std::runtime_error(where + " is " + shown(value.dump()) + ", wants a whole number");
  return value.get<std::int64_t>();
}

/// What the header says of a tensor; its data are still in the file.
struct entry {
  tensor about;
  std::int64_t begin = 0, end = 0;
};

entry read_entry(const std::string& key, const json& value, std::int64_t data, const std::string& name) {
  const std::string where = name + ": tensor " + shown(key);
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets"))
    throw std::runtime_error(where + " wants exactly dtype, shape and data_offsets");
  const json &type = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];
  entry out;
  out.about.name = key;
  const auto row = std::find_if(types.begin(), types.end(), [&](const type_row& r) {
    return type.is_string() && type.get_ref<const std::string&>() == r.name;
  });
  if (row == types.end())
    throw std::runtime_error(where + ": dtype is " + shown(type.dump()) +
                             ", wants F64, F32, F16, BF16, I64, I32 or U8");
  out.about.type = row->type;
  if (!shape.is_array() || shape.size() > 8) throw std::runtime_error(where + ": shape wants at most 8 sizes");
  for (const json& extent : shape) out.about.shape.push_back(natural(extent, where + ": shape"));
  if (!offsets.is_array() || offsets.size() != 2)
    throw std::runtime_error(where + ": data_offsets wants a begin and an end");
  out.begin = natural(offsets[0], where + ": data_offsets");
  out.end = natural(offsets[1], where + ": data_offsets");
  if (out.begin > out.end || out.end > data)
    throw std::runtime_error(where + ": data_offsets are " + std::to_string(out.begin) + " to " +
                             std::to_string(out.end) + ", outside the " + std::to_string(data) + " bytes of data");
  if (bytes_of(out.about.shape, row->size, data) != out.end - out.begin)
    throw std::runtime_error(where + ": shape " + text_of(out.about.shape) + " of " + std::string(row->name) +
                             " does not make the " + std::to_string(out.end - out.begin) + " bytes it is given");
  return out;
}

/// The 16-bit float with 5 bits of exponent, exactly.
float from_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31u, fraction = bits & 0x3ffu;
  if (exponent == 0) {
    const float small = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -small : small;
  }
  const std::uint32_t wide = exponent == 31 ? 255u : exponent + 127 - 15;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

}  // namespace

std::string_view name_of(tensor_type type) { return row_of(type).name; }
std::int64_t size_of(tensor_type type) { return row_of(type).size; }

tensor float_tensor(std::string name, std::vector<std::int64_t> shape, std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {std::move(name), tensor_type::f32, std::move(shape), {bytes.begin(), bytes.end()}};
}

std::vector<float> floats(const tensor& from, const std::string& file) {
  const auto element = static_cast<std::size_t>(size_of(from.type));
  std::vector<float> out(from.bytes.size() / element);
  if (from.type == tensor_type::f32) {
    if (!out.empty()) std::memcpy(out.data(), from.bytes.data(), out.size() * sizeof(float));
  } else if (from.type == tensor_type::bf16 || from.type == tensor_type::f16) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::uint16_t bits;
      std::memcpy(&bits, from.bytes.data() + 2 * i, 2);
      out[i] = from.type == tensor_type::f16 ? from_half(bits)
                                             : std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
  } else {
    refuse(file, "tensor " + shown(from.name) + " is " + std::string(name_of(from.type)) + ", wants F32, BF16 or F16");
  }
  return out;
}

const tensor* tensor_file::find(std::string_view name) const {
  for (const tensor& t : tensors)
    if (t.name == name) return &t;
  return nullptr;
}

tensor_file read_safetensors(std::span<const std::byte> bytes, const std::string& name) {
  byte_reader in(bytes, name);
  const auto length = in.take<std::uint64_t>("the length of the header");
  if (length > longest_header || length > in.remaining())
    refuse(name, "the header's length is " + std::to_string(length) + ", wants at most " +
                     std::to_string(std::min(longest_header, in.remaining())) +
                     (length > longest_header ? " (is this a safetensors file?)" : " (the file is cut short)"));
  const std::string_view text = as_text(in.take(length, "the header"));
  if (text.empty() || text.front() != '{') refuse(name, "the header does not begin with {, wants a JSON object");
  const json header = parse_strictly(text, name, 3);
  if (!header.is_object()) refuse(name, "the header is no JSON object");

  tensor_file file;
  std::vector<entry> entries;
  const auto data = static_cast<std::int64_t>(in.remaining());
  for (const auto& [key, value] : header.items()) {
    if (key != "__metadata__") {
      entries.push_back(read_entry(key, value, data, name));
      continue;
    }
    if (!value.is_object()) refuse(name, "__metadata__ wants an object of strings");
    for (const auto& [word, meaning] : value.items()) {
      if (!meaning.is_string()) refuse(name, "__metadata__ " + shown(word) + " is no string");
      file.metadata[word] = meaning.get<std::string>();
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const entry& a, const entry& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::int64_t end = 0;
  for (const entry& e : entries) {
    if (e.begin != end)
      refuse(name, "tensor " + shown(e.about.name) + " begins at byte " + std::to_string(e.begin) +
                       " of the data, the one before ends at " + std::to_string(end) +
                       ": wants neither gap nor overlap");
    end = e.end;
  }
  if (end != data)
    refuse(name,
           "the tensors end at byte " + std::to_string(end) + " of the data, the file has " + std::to_string(data));
  for (entry& e : entries) {
    const auto from = in.take(static_cast<std::uint64_t>(e.end - e.begin), e.about.name);
    e.about.bytes.assign(from.begin(), from.end());
    file.tensors.push_back(std::move(e.about));
  }
  return file;
}

std::vector<std::byte> write_safetensors(const tensor_file& file, const std::string& name) {
  std::vector<const tensor*> order;
  std::set<std::string_view> names;
  for (const tensor& t : file.tensors) {
    order.push_back(&t);
    if (t.name == "__metadata__" || !names.insert(t.name).second)
      refuse(name, "tensor " + shown(t.name) + (t.name == "__metadata__" ? " has a reserved name" : " is given twice"));
    const auto most = static_cast<std::int64_t>(t.bytes.size());
    if (bytes_of(t.shape, size_of(t.type), most) != most)
      refuse(name, "tensor " + shown(t.name) + ": shape " + text_of(t.shape) + " of " + std::string(name_of(t.type)) +
                       " does not make its " + std::to_string(most) + " bytes");
  }
  std::sort(order.begin(), order.end(), [](const tensor* a, const tensor* b) {
    return std::tuple(-size_of(a->type), std::string_view(a->name)) <
           std::tuple(-size_of(b->type), std::string_view(b->name));
  });
  json header = json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  std::size_t end = 0;
  for (const tensor* const t : order) {
    header[t->name] = {
        {"dtype", name_of(t->type)}, {"shape", t->shape}, {"data_offsets", {end, end + t->bytes.size()}}};
    end += t->bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    refuse(name, "a name or metadata is no UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > longest_header) refuse(name, "the header would be longer than 100 MB");

  byte_writer out(8 + text.size() + end);
  out.put(std::uint64_t{text.size()});
  out.put(text);
  for (const tensor* const t : order) out.put(t->bytes);
  return out.take();
}

tensor_file load_safetensors(const std::filesystem::path& path) {
  return read_safetensors(read_whole(path, largest_model_file), path.string());
}

void save_safetensors(const std::filesystem::path& path, const tensor_file& file) {
  save_file(path, write_safetensors(file, path.string()));
}

}  // namespace align
