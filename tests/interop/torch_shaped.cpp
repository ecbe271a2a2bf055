// Views of tensors by their members alone: a stand-in with libtorch's names, so that this is tested where torch is not.

#include "rlhf/interop/torch.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

namespace lookalike {

enum class element { Byte, Int, Long, Half, Float, Double, Bool, BFloat16, ComplexFloat };
enum class form { Strided, Sparse };
enum class place { host, cuda, elsewhere };

const char* toString(element e) {
  static const char* const names[] = {"Byte",   "Int",  "Long",     "Half",        "Float",
                                      "Double", "Bool", "BFloat16", "ComplexFloat"};
  return names[static_cast<int>(e)];
}

struct tensor {
  void* data = nullptr;
  element type = element::Float;
  std::vector<std::int64_t> sizes{}, strides{};
  place where = place::host;
  form kind = form::Strided;
  bool negated = false;

  bool defined() const { return data != nullptr; }
  bool is_cpu() const { return where == place::host; }
  bool is_cuda() const { return where == place::cuda; }
  bool is_neg() const { return negated; }
  std::int64_t dim() const { return static_cast<std::int64_t>(sizes.size()); }
  std::int64_t size(std::int64_t i) const { return sizes[static_cast<std::size_t>(i)]; }
  std::int64_t stride(std::int64_t i) const { return strides[static_cast<std::size_t>(i)]; }
  void* data_ptr() const { return data; }
  form layout() const { return kind; }
  element scalar_type() const { return type; }
};
static_assert(rlhf::torch_tensor<tensor>);
static_assert(!rlhf::torch_tensor<std::vector<float>>);

}  // namespace lookalike

using namespace rlhf;
using lookalike::element;
using lookalike::tensor;

namespace {

float memory[24];

template <class T, int Rank = 1, class Space = host_space>
std::string refusal(const tensor& x) {
  view<T, Rank, Space> out;
  const status s = as_view(x, out, "logp", "score");
  CHECK(out.data == nullptr);  // left alone
  return s.message().c_str();
}

template <class T>
bool views(element e) {
  const tensor x{.data = memory, .type = e, .sizes = {3}, .strides = {2}};
  const auto v = as_view<T>(x);
  return static_cast<const void*>(v.data) == memory && v.extent == 3 && v.stride == 2;
}

}  // namespace

TEST_CASE("a view has the tensor's memory, extents and strides") {
  const tensor row{.data = memory, .sizes = {5}, .strides = {3}};
  const view<const float> v = as_view<const float>(row);
  CHECK(v.data == memory);
  CHECK(v.extent == 5);
  CHECK(v.stride == 3);

  const tensor matrix{.data = memory, .sizes = {3, 4}, .strides = {7, 1}};
  const view<float, 2> m = as_view<float, 2>(matrix);
  CHECK(m.row(2) == memory + 14);
  CHECK(m.columns == 4);

  const tensor far{.data = memory, .sizes = {3, 4}, .strides = {4, 1}, .where = lookalike::place::cuda};
  const view<const float, 2, cuda_space> d = as_view<const float, 2, cuda_space>(far);
  CHECK(d.data == memory);
  CHECK(d.rows == 3);

  const tensor nothing{.data = memory, .sizes = {0}, .strides = {1}};
  CHECK(as_view<float>(nothing).extent == 0);
}

TEST_CASE("each element type of ours has its own of torch's") {
  CHECK(views<float>(element::Float));
  CHECK(views<const double>(element::Double));
  CHECK(views<bfloat16>(element::BFloat16));
  CHECK(views<const float16>(element::Half));
  CHECK(views<const std::int32_t>(element::Int));
  CHECK(views<const std::int64_t>(element::Long));
  CHECK(views<const std::uint8_t>(element::Byte));
  const tensor mask{.data = memory, .type = element::Bool, .sizes = {4}, .strides = {1}};
  const mask_view<> m = as_view<const std::uint8_t>(mask);
  CHECK(m.extent == 4);
}

TEST_CASE("what cannot be viewed is refused by name") {
  const tensor good{.data = memory, .sizes = {3}, .strides = {1}};
  CHECK(refusal<float>({}) == "score: logp is not defined, wants a tensor");

  tensor x = good;
  x.type = element::Double;
  CHECK(refusal<const float>(x) == "score: logp is Double, wants Float");
  x.type = element::Half;
  CHECK(refusal<const bfloat16>(x) == "score: logp is Half, wants BFloat16");
  x.type = element::ComplexFloat;
  CHECK(refusal<const std::uint8_t>(x) == "score: logp is ComplexFloat, wants Byte");

  x = good;
  x.where = lookalike::place::cuda;
  CHECK(refusal<float>(x) == "score: logp is in CUDA memory, wants host memory");
  x.where = lookalike::place::elsewhere;
  CHECK(refusal<float>(x) == "score: logp is on another device, wants host memory");
  CHECK(refusal<float, 1, cuda_space>(good) == "score: logp is in host memory, wants CUDA memory");

  x = good;
  x.kind = lookalike::form::Sparse;
  CHECK(refusal<float>(x) == "score: logp is not strided, wants a dense tensor");
  x = good;
  x.negated = true;
  CHECK(refusal<float>(x) == "score: logp is a negation not carried out, wants values (tensor.resolve_neg())");
  CHECK(refusal<float, 2>(good) == "score: logp has 1 dimensions, wants 2");
}

TEST_CASE("strides that a call cannot walk, or write to, are refused") {
  const tensor transposed{.data = memory, .sizes = {3, 4}, .strides = {1, 3}};
  CHECK(refusal<const float, 2>(transposed) == "score: logp has columns at a distance of 3, wants 1");
  const tensor column{.data = memory, .sizes = {4, 1}, .strides = {6, 5}};  // one column has no neighbour
  CHECK(as_view<float, 2>(column).pitch == 6);

  const tensor spread{.data = memory, .sizes = {4}, .strides = {0}};
  CHECK(as_view<const float>(spread).stride == 0);
  CHECK(refusal<float>(spread) == "score: logp has stride 0, wants 1 or more, to be written to");
  const tensor overlapping{.data = memory, .sizes = {4, 3}, .strides = {2, 1}};
  CHECK(as_view<const float, 2>(overlapping).pitch == 2);
  CHECK(refusal<float, 2>(overlapping) ==
        "score: logp has rows at a distance of 2, wants at least the columns, to be written to");
}

TEST_CASE("as a value it throws the same") {
  const tensor x{.data = memory, .type = element::Double, .sizes = {3}, .strides = {1}};
  try {
    (void)as_view<float>(x, "advantage");
    FAIL("nothing was thrown");
  } catch (const error& e) {
    CHECK(std::string(e.what()) == "as_view: advantage is Double, wants Float");
    CHECK(e.get().code == errc::type);
  }
}
