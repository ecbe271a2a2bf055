// Views of ggml's tensors: a stand-in with the members and functions of ggml.h and ggml-backend.h, so that this is tested where
// ggml is not.

#include "rlhf/interop/ggml.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

namespace lookalike {

enum element {
  GGML_TYPE_F32 = 0,
  GGML_TYPE_F16 = 1,
  GGML_TYPE_Q4_0 = 2,
  GGML_TYPE_I8 = 24,
  GGML_TYPE_I32 = 26,
  GGML_TYPE_I64 = 27,
  GGML_TYPE_F64 = 28,
  GGML_TYPE_BF16 = 30
};
struct place {
  const char* name;
  bool host;
};
const char* ggml_type_name(element e) { return e == GGML_TYPE_Q4_0 ? "q4_0" : e == GGML_TYPE_F32 ? "f32" : "f16"; }
bool ggml_backend_buffer_is_host(const place* p) { return p->host; }
const char* ggml_backend_buffer_name(const place* p) { return p->name; }

struct tensor {
  element type = GGML_TYPE_F32;
  place* buffer = nullptr;
  std::int64_t ne[4] = {1, 1, 1, 1};
  std::size_t nb[4] = {4, 4, 4, 4};
  void* data = nullptr;
};
static_assert(rlhf::ggml_tensor_like<tensor>);
static_assert(!rlhf::ggml_tensor_like<std::vector<float>>);

}  // namespace lookalike

using namespace rlhf;
using lookalike::tensor;

namespace {

float memory[240];

/// As ggml_new_tensor lays it out.
tensor compact(std::int64_t n0, std::int64_t n1 = 1, std::int64_t n2 = 1, std::int64_t n3 = 1, std::size_t size = 4) {
  tensor x{.ne = {n0, n1, n2, n3}, .nb = {size, 0, 0, 0}, .data = memory};
  for (int k = 1; k < 4; ++k) x.nb[k] = x.nb[k - 1] * static_cast<std::size_t>(x.ne[k - 1]);
  return x;
}

template <class T, int Rank = 1, class Space = host_space>
std::string refusal(const tensor& x) {
  view<T, Rank, Space> out;
  const status s = as_view(x, out, "logits", "score");
  CHECK(out.data == nullptr);
  return s.message().c_str();
}

template <class T>
bool views(lookalike::element e) {
  tensor x = compact(3, 1, 1, 1, sizeof(T));
  x.type = e;
  return static_cast<const void*>(as_view<T>(x).data) == memory && as_view<T>(x).extent == 3;
}

}  // namespace

TEST_CASE("ne[0] are the columns, all else is rows") {
  const tensor logits = compact(5, 3, 2);
  const auto v = as_view<const float, 2>(logits);
  CHECK((v.data == memory && v.rows == 6 && v.columns == 5 && v.pitch == 5));
  CHECK(as_view<float>(logits).extent == 30);
  tensor part = compact(8, 6);  // ggml_view_2d: 5 of 8 columns
  part.ne[0] = 5;
  CHECK((as_view<float, 2>(part).columns == 5 && as_view<float, 2>(part).pitch == 8));
  const tensor picked = compact(1, 7);  // a number a token
  CHECK((as_view<float>(picked).extent == 7 && as_view<float>(picked).stride == 1));
  CHECK(as_view<float, 2>(compact(5)).rows == 1);
  CHECK(as_view<float>(compact(0)).extent == 0);
}

TEST_CASE("each element type of ours has its own of ggml's") {
  CHECK(views<float>(lookalike::GGML_TYPE_F32));
  CHECK(views<const double>(lookalike::GGML_TYPE_F64));
  CHECK(views<bfloat16>(lookalike::GGML_TYPE_BF16));
  CHECK(views<const float16>(lookalike::GGML_TYPE_F16));
  CHECK(views<std::int64_t>(lookalike::GGML_TYPE_I64));
  CHECK(views<const std::int32_t>(lookalike::GGML_TYPE_I32));
  CHECK(views<const std::uint8_t>(lookalike::GGML_TYPE_I8));
}

TEST_CASE("memory is taken where the space reaches it") {
  tensor x = compact(3);
  const auto in = [&](lookalike::place p, auto space) {
    x.buffer = &p;
    view<const float, 1, decltype(space)> out;
    return bool(as_view(x, out));
  };
  CHECK(in({"CPU", true}, host_space{}));
  CHECK(in({"CUDA_Host", true}, host_space{}));
  CHECK(!in({"CUDA0", false}, host_space{}));
  CHECK(in({"CUDA0", false}, cuda_space{}));
  CHECK(in({"CUDA11", false}, cuda_space{}));
  CHECK(!in({"CUDA_Split", false}, cuda_space{}));
  CHECK(!in({"CUD", false}, cuda_space{}));
  CHECK(!in({"CUDA", false}, cuda_space{}));
  CHECK(!in({"Metal", false}, cuda_space{}));
  CHECK(!in({"CPU", true}, cuda_space{}));
  lookalike::place cuda{"CUDA0", false}, metal{"Metal", false};
  x.buffer = &cuda;
  CHECK(refusal<float>(x) == "score: logits is in CUDA memory, wants host memory");
  x.buffer = &metal;
  CHECK(refusal<float, 1, cuda_space>(x) == "score: logits is on another device, wants CUDA memory");
  x.buffer = nullptr;
  CHECK(refusal<float, 1, cuda_space>(x) == "score: logits is in host memory, wants CUDA memory");
}

TEST_CASE("what cannot be viewed is refused by name") {
  tensor x = compact(3);
  x.type = lookalike::GGML_TYPE_Q4_0;
  CHECK(refusal<const float>(x) == "score: logits is q4_0, wants f32");
  x = compact(3);
  CHECK(refusal<const float16>(x) == "score: logits is f32, wants f16");
  x.data = nullptr;  // of a graph that was not allocated
  CHECK(refusal<float>(x) == "score: logits is null, wants a pointer to its elements");
  x = compact(5, 3);
  x.nb[1] = 22;
  CHECK(refusal<const float, 2>(x) == "score: logits has a stride in bytes of 22, wants a multiple of its elements");
  x = compact(3, 5);  // ggml_transpose
  std::swap(x.ne[0], x.ne[1]);
  std::swap(x.nb[0], x.nb[1]);
  CHECK(refusal<const float, 2>(x) == "score: logits has columns at a distance of 3, wants 1");
  x = compact(5, 3, 2);
  x.nb[2] = 80;
  CHECK(refusal<const float, 2>(x) ==
        "score: logits has gaps between dimensions, of which it has 4, wants one distance between all rows, for a view "
        "of rank 2");
}
