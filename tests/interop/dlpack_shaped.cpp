// Views of DLPack's tensors: stand-ins with the members and the numbers of dlpack.h, without strides, with an owner and flags.

#include "rlhf/interop/dlpack.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

namespace lookalike {

enum place : std::int32_t { cpu = 1, cuda = 2, pinned = 3, rocm = 10, managed = 13 };
struct device {
  place device_type = cpu;
  std::int32_t device_id = 0;
};
struct type {
  std::uint8_t code = 2, bits = 32;
  std::uint16_t lanes = 1;
};
struct tensor {
  void* data = nullptr;
  lookalike::device device{};
  std::int32_t ndim = 1;
  type dtype{};
  std::int64_t* shape = nullptr;
  std::int64_t* strides = nullptr;
  std::uint64_t byte_offset = 0;
};
struct owned {
  tensor dl_tensor{};
  void* manager_ctx = nullptr;
};
struct versioned {
  std::uint64_t flags = 0;
  tensor dl_tensor{};
};
static_assert(rlhf::dlpack_tensor<tensor> && !rlhf::dlpack_tensor<owned>);
static_assert(rlhf::managed_dlpack_tensor<owned> && rlhf::managed_dlpack_tensor<versioned>);
static_assert(!rlhf::managed_dlpack_tensor<tensor> && !rlhf::dlpack_tensor<std::vector<float>>);

}  // namespace lookalike

using namespace rlhf;
using lookalike::tensor;

namespace {

float memory[120];

struct shaped {
  std::vector<std::int64_t> shape, strides{};
  tensor x{};

  explicit shaped(std::vector<std::int64_t> extents, std::vector<std::int64_t> steps = {})
      : shape(std::move(extents)), strides(std::move(steps)) {
    x.data = memory;
    x.ndim = static_cast<std::int32_t>(shape.size());
    x.shape = shape.data();
    x.strides = strides.empty() ? nullptr : strides.data();
  }
};

template <class T, int Rank = 1, class Space = host_space, class Tensor>
std::string refusal(const Tensor& x) {
  view<T, Rank, Space> out;
  const status s = as_view(x, out, "logp", "score");
  CHECK(out.data == nullptr);
  return s.message().c_str();
}

template <class T>
bool views(int code, int bits) {
  shaped s({3}, {2});
  s.x.dtype = {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
  const auto v = as_view<T>(s.x);
  return static_cast<const void*>(v.data) == memory && v.extent == 3 && v.stride == 2;
}

}  // namespace

TEST_CASE("a view has the tensor's memory, extents and strides, told or compact") {
  const shaped told({3, 4}, {7, 1});
  CHECK(as_view<float, 2>(told.x).pitch == 7);
  const shaped compact({2, 3, 4});
  const auto rows = as_view<const float, 2>(compact.x);
  CHECK((rows.data == memory && rows.rows == 6 && rows.columns == 4 && rows.pitch == 4));
  CHECK(as_view<float>(compact.x).extent == 24);
  shaped later({5});
  later.x.byte_offset = 3 * sizeof(float);
  CHECK(as_view<float>(later.x).data == memory + 3);
  shaped nothing({0});
  nothing.x.data = nullptr;
  CHECK(as_view<float>(nothing.x).extent == 0);
  tensor number{.data = memory, .ndim = 0};
  CHECK(as_view<float>(number).extent == 1);
}

TEST_CASE("each element type of ours has its own of DLPack's") {
  CHECK(views<float>(2, 32));
  CHECK(views<const double>(2, 64));
  CHECK(views<bfloat16>(4, 16));
  CHECK(views<const float16>(2, 16));
  CHECK(views<std::int64_t>(0, 64));
  CHECK(views<const std::int32_t>(0, 32));
  CHECK(views<const std::uint8_t>(1, 8));
  CHECK(views<const std::uint8_t>(6, 8));  // a mask
}

TEST_CASE("memory is taken where the space reaches it") {
  shaped s({3});
  const auto taken = [&]<class Space>(Space, lookalike::place where) {
    s.x.device.device_type = where;
    view<const float, 1, Space> out;
    return bool(as_view(s.x, out));
  };
  CHECK(taken(host_space{}, lookalike::cpu));
  CHECK(taken(host_space{}, lookalike::pinned));
  CHECK(taken(host_space{}, lookalike::managed));
  CHECK(!taken(host_space{}, lookalike::cuda));
  CHECK(!taken(host_space{}, lookalike::rocm));
  CHECK(taken(cuda_space{}, lookalike::cuda));
  CHECK(taken(cuda_space{}, lookalike::managed));
  CHECK(!taken(cuda_space{}, lookalike::cpu));
  CHECK(!taken(cuda_space{}, lookalike::pinned));
}

TEST_CASE("what cannot be viewed is refused by name") {
  shaped s({3});
  s.x.dtype = {2, 64, 1};
  CHECK(refusal<const float>(s.x) == "score: logp is float64, wants float32");
  s.x.dtype = {2, 16, 1};
  CHECK(refusal<const bfloat16>(s.x) == "score: logp is float16, wants bfloat16");
  s.x.dtype = {10, 8, 1};
  CHECK(refusal<const std::uint8_t>(s.x) == "score: logp is another element type, wants uint8");
  s.x.dtype = {6, 8, 1};  // a mask is read
  CHECK(refusal<std::uint8_t>(s.x) == "score: logp is bool, wants uint8");
  s.x.dtype = {2, 32, 4};
  CHECK(refusal<const float>(s.x) == "score: logp is of vectors, wants single elements (lanes 1)");
  s.x.dtype = {};
  s.x.device.device_type = lookalike::cuda;
  CHECK(refusal<float>(s.x) == "score: logp is in CUDA memory, wants host memory");
  s.x.device.device_type = lookalike::rocm;
  CHECK(refusal<float>(s.x) == "score: logp is on another device, wants host memory");
  s.x.device.device_type = lookalike::pinned;
  CHECK(refusal<float, 1, cuda_space>(s.x) == "score: logp is in pinned host memory, wants CUDA memory");
  s.x.device = {};
  s.x.data = nullptr;
  CHECK(refusal<float>(s.x) == "score: logp is null, wants a pointer to its elements");
  CHECK(refusal<float>(tensor{.data = memory, .ndim = 2}) == "score: logp has no shape, wants its extents");
  CHECK(refusal<float, 2>(shaped({3}).x) == "score: logp has 1 dimensions, wants 2");
  CHECK(refusal<float, 2>(shaped({3, 4}, {1, 3}).x) == "score: logp has columns at a distance of 3, wants 1");
}

TEST_CASE("tensors with an owner, and read-only ones") {
  shaped s({3});
  CHECK(as_view<float>(lookalike::owned{.dl_tensor = s.x}).data == memory);
  lookalike::versioned v{.dl_tensor = s.x};
  CHECK(as_view<float>(v).data == memory);
  v.flags = 1;
  CHECK(as_view<const float>(v).data == memory);
  CHECK(refusal<float>(v) == "score: logp is read-only, wants memory to be written to");
  v.flags = 2;  // a copy: its own
  CHECK(as_view<float>(v).data == memory);
}
