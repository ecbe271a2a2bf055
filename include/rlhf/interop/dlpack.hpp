#pragma once
// Tensors of DLPack as views, without a copy. Includes no header of DLPack: a tensor is whatever has a DLTensor's members.

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/core/numeric.hpp"
#include "rlhf/interop/strided.hpp"

namespace rlhf::inline v1 {

/// What is read of a tensor: DLTensor has it.
template <class X>
concept dlpack_tensor = requires(const X& x) {
  { x.data } -> std::convertible_to<void*>;
  { x.device.device_type } -> std::convertible_to<int>;
  { x.ndim } -> std::convertible_to<std::int64_t>;
  { x.dtype.code } -> std::convertible_to<int>;
  { x.dtype.bits } -> std::convertible_to<int>;
  { x.dtype.lanes } -> std::convertible_to<int>;
  { x.shape } -> std::convertible_to<const std::int64_t*>;
  { x.strides } -> std::convertible_to<const std::int64_t*>;
  { x.byte_offset } -> std::convertible_to<std::uint64_t>;
};
/// One with its owner: DLManagedTensor and DLManagedTensorVersioned.
template <class X>
concept managed_dlpack_tensor = requires(const X& x) {
  { x.dl_tensor } -> dlpack_tensor;
};

namespace dlpack_detail {

/// The numbers of dlpack.h, which are its interface.
enum class kind : int { integer = 0, natural = 1, real = 2, opaque = 3, brain = 4, complex = 5, boolean = 6 };
enum class device : int { cpu = 1, cuda = 2, cuda_pinned = 3, cuda_managed = 13 };
inline constexpr std::uint64_t read_only = 1;  ///< of a versioned tensor's flags

/// An element type as DLPack tells it.
struct element {
  kind code;
  int bits;
  const char* name;
  constexpr bool operator==(const element& e) const { return code == e.code && bits == e.bits; }
};
inline constexpr element elements[] = {
    {kind::real, 32, "float32"},   {kind::real, 64, "float64"},     {kind::brain, 16, "bfloat16"},
    {kind::real, 16, "float16"},   {kind::integer, 64, "int64"},    {kind::integer, 32, "int32"},
    {kind::integer, 16, "int16"},  {kind::integer, 8, "int8"},      {kind::natural, 8, "uint8"},
    {kind::natural, 16, "uint16"}, {kind::natural, 32, "uint32"},   {kind::natural, 64, "uint64"},
    {kind::boolean, 8, "bool"},    {kind::complex, 64, "complex64"}};

[[nodiscard]] constexpr element named(kind code, int bits) {
  for (const element& known : elements)
    if (known == element{code, bits, ""}) return known;
  return {code, bits, "another element type"};
}

template <class T>
inline constexpr bool unknown = false;

template <class T>
[[nodiscard]] constexpr element element_of() {
  constexpr int bits = 8 * static_cast<int>(sizeof(T));
  if constexpr (std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, float16>)
    return named(kind::real, bits);
  else if constexpr (std::same_as<T, bfloat16>)
    return named(kind::brain, bits);
  else if constexpr (std::same_as<T, std::int64_t> || std::same_as<T, std::int32_t>)
    return named(kind::integer, bits);
  else if constexpr (std::same_as<T, std::uint8_t>)
    return named(kind::natural, bits);
  else
    static_assert(unknown<T>,
                  "rlhf: as_view knows float, double, bfloat16, float16, std::int64_t, std::int32_t and std::uint8_t");
}
[[nodiscard]] constexpr const char* place_of(int where) {
  switch (static_cast<device>(where)) {
    case device::cpu:
      return "in host memory";
    case device::cuda:
      return "in CUDA memory";
    case device::cuda_pinned:
      return "in pinned host memory";
    case device::cuda_managed:
      return "in managed CUDA memory";
  }
  return "on another device";
}
template <class Space>
[[nodiscard]] constexpr bool reaches(int where) {
  const auto d = static_cast<device>(where);
  if (d == device::cuda_managed) return true;
  return std::same_as<Space, host_space> ? d == device::cpu || d == device::cuda_pinned : d == device::cuda;
}

template <class Tensor>
struct dimensions_of {
  const Tensor& tensor;
  std::int64_t count;
  [[nodiscard]] std::int64_t extent(std::int64_t k) const { return tensor.shape[k]; }
  /// Without strides a tensor is compact, the last dimension innermost.
  [[nodiscard]] std::int64_t stride(std::int64_t k) const {
    if (tensor.strides != nullptr) return tensor.strides[k];
    std::int64_t all = 1;
    for (std::int64_t j = k + 1; j < count; ++j) all *= tensor.shape[j];
    return all;
  }
};

}  // namespace dlpack_detail

/// A view of a tensor's own memory, as strided.hpp has it: what numpy, JAX, CuPy, torch and others hand over by `__dlpack__`.
///
/// Elements: float, double, bfloat16, float16, std::int64_t, std::int32_t, std::uint8_t (const, for a mask: of bool too). `host_space` takes
/// memory of the CPU, pinned or managed; `cuda_space` that of CUDA, or managed. The consumer of a managed tensor calls its `deleter`
/// when the view is no longer used; CUDA's work on it must be ordered by the caller, as DLPack leaves it.
template <class T, int Rank, class Space, dlpack_tensor Tensor>
  requires(Rank == 1 || Rank == 2)
status as_view(const Tensor& tensor, view<T, Rank, Space>& out, const char* argument = "tensor",
               const char* function = "as_view") {
  using element = std::remove_const_t<T>;
  constexpr dlpack_detail::element wanted = dlpack_detail::element_of<element>();
  const dlpack_detail::element got =
      dlpack_detail::named(static_cast<dlpack_detail::kind>(tensor.dtype.code), static_cast<int>(tensor.dtype.bits));
  if (tensor.dtype.lanes != 1) return remark::type(function, argument, "of vectors", "single elements (lanes 1)");
  const bool mask = std::same_as<T, const std::uint8_t> && got.code == dlpack_detail::kind::boolean && got.bits == 8;
  if (!(got == wanted) && !mask) return remark::type(function, argument, got.name, wanted.name);
  const int where = static_cast<int>(tensor.device.device_type);
  if (!dlpack_detail::reaches<Space>(where))
    return remark::type(function, argument, dlpack_detail::place_of(where),
                        std::same_as<Space, host_space> ? "host memory" : "CUDA memory");
  const auto count = static_cast<std::int64_t>(tensor.ndim);
  if (count > 0 && tensor.shape == nullptr)
    return {errc::null, function, argument, "has no shape", 0, 0, "its extents"};
  auto* const bytes = static_cast<char*>(static_cast<void*>(tensor.data));
  T* const data = bytes == nullptr ? nullptr : reinterpret_cast<T*>(bytes + tensor.byte_offset);
  return interop_detail::make_view(data, dlpack_detail::dimensions_of<Tensor>{tensor, count}, out, function, argument);
}

/// The same of a tensor with its owner. What its flags call read-only is not to be written to.
template <class T, int Rank, class Space, managed_dlpack_tensor Tensor>
  requires(Rank == 1 || Rank == 2)
status as_view(const Tensor& managed, view<T, Rank, Space>& out, const char* argument = "tensor",
               const char* function = "as_view") {
  if constexpr (requires { managed.flags; } && !std::is_const_v<T>)
    if ((static_cast<std::uint64_t>(managed.flags) & dlpack_detail::read_only) != 0)
      return remark::type(function, argument, "read-only", "memory to be written to");
  return as_view(managed.dl_tensor, out, argument, function);
}

}  // namespace rlhf::inline v1
