#pragma once
// Tensors of ggml as views, without a copy. Includes no header of ggml: a tensor is whatever has a ggml_tensor's members.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "rlhf/core/numeric.hpp"
#include "rlhf/interop/strided.hpp"

namespace rlhf::inline v1 {

/// What is read of a tensor: ggml_tensor has it, with <ggml-backend.h> included, which knows where memory lies.
template <class X>
concept ggml_tensor_like = requires(const X& x) {
  { x.ne[0] } -> std::convertible_to<std::int64_t>;
  { x.nb[0] } -> std::convertible_to<std::size_t>;
  { x.data } -> std::convertible_to<void*>;
  { ggml_type_name(x.type) } -> std::convertible_to<const char*>;
  { ggml_backend_buffer_is_host(x.buffer) } -> std::convertible_to<bool>;
  { ggml_backend_buffer_name(x.buffer) } -> std::convertible_to<const char*>;
};

namespace ggml_detail {

template <class T>
inline constexpr bool unknown = false;

/// ggml's name of an element type, in its own enumeration.
template <class Kind, class T>
[[nodiscard]] constexpr Kind kind_of() {
  if constexpr (std::same_as<T, float>)
    return Kind::GGML_TYPE_F32;
  else if constexpr (std::same_as<T, double>)
    return Kind::GGML_TYPE_F64;
  else if constexpr (std::same_as<T, bfloat16>)
    return Kind::GGML_TYPE_BF16;
  else if constexpr (std::same_as<T, float16>)
    return Kind::GGML_TYPE_F16;
  else if constexpr (std::same_as<T, std::int64_t>)
    return Kind::GGML_TYPE_I64;
  else if constexpr (std::same_as<T, std::int32_t>)
    return Kind::GGML_TYPE_I32;
  else if constexpr (std::same_as<T, std::uint8_t>)
    return Kind::GGML_TYPE_I8;
  else
    static_assert(unknown<T>,
                  "rlhf: as_view knows float, double, bfloat16, float16, std::int64_t, std::int32_t and std::uint8_t");
}

/// ggml counts dimensions from the innermost, and strides in bytes.
template <class Tensor, int Size>
struct dimensions_of {
  const Tensor& tensor;
  static constexpr std::int64_t count = static_cast<std::int64_t>(std::extent_v<decltype(Tensor::ne)>);
  [[nodiscard]] std::int64_t extent(std::int64_t k) const { return tensor.ne[count - 1 - k]; }
  [[nodiscard]] std::int64_t stride(std::int64_t k) const {
    return static_cast<std::int64_t>(tensor.nb[count - 1 - k]) / Size;
  }
};

/// One device's own memory: "CUDA0", not "CUDA_Host" (the host's, pinned) nor "CUDA_Split" (of several devices).
[[nodiscard]] constexpr bool on_cuda(const char* buffer) {
  const char* const prefix = "CUDA";
  for (int i = 0; i < 4; ++i)
    if (buffer[i] != prefix[i]) return false;
  return buffer[4] >= '0' && buffer[4] <= '9';
}

}  // namespace ggml_detail

/// A view of a tensor's own memory, as strided.hpp has it; ggml's ne[0] are the columns. Logits [vocabulary, tokens, sequences] in ggml's
/// order are rows of logits.
///
/// Elements: float (F32), double (F64), bfloat16 (BF16), float16 (F16), std::int64_t (I64), std::int32_t (I32), std::uint8_t (I8: a
/// mask). Quantised types are refused. `host_space` takes tensors of a context's own memory and of host buffers, `cuda_space` those of
/// one CUDA device. A tensor of a graph has memory when the graph was allocated, and its values when it was computed: ask
/// ggml_set_output for what is read afterwards, or the allocator gives the memory to another tensor.
template <class T, int Rank, class Space, ggml_tensor_like Tensor>
  requires(Rank == 1 || Rank == 2)
status as_view(const Tensor& tensor, view<T, Rank, Space>& out, const char* argument = "tensor",
               const char* function = "as_view") {
  using element = std::remove_const_t<T>;
  using kind = std::remove_cvref_t<decltype(tensor.type)>;
  constexpr kind wanted = ggml_detail::kind_of<kind, element>();
  constexpr int size = static_cast<int>(sizeof(element));
  constexpr bool on_host = std::same_as<Space, host_space>;
  if (tensor.type != wanted)
    return remark::type(function, argument, ggml_type_name(tensor.type), ggml_type_name(wanted));
  const bool host = tensor.buffer == nullptr || ggml_backend_buffer_is_host(tensor.buffer);
  const bool cuda = !host && ggml_detail::on_cuda(ggml_backend_buffer_name(tensor.buffer));
  if (!(on_host ? host : cuda))
    return remark::type(function, argument,
                        host   ? "in host memory"
                        : cuda ? "in CUDA memory"
                               : "on another device",
                        on_host ? "host memory" : "CUDA memory");
  for (const std::size_t bytes : tensor.nb)
    if (bytes % sizeof(element) != 0)
      return {errc::stride,
              function,
              argument,
              "has a stride in bytes of",
              static_cast<double>(bytes),
              0,
              "a multiple of its elements"};
  return interop_detail::make_view(static_cast<T*>(static_cast<void*>(tensor.data)),
                                   ggml_detail::dimensions_of<Tensor, size>{tensor}, out, function, argument);
}

}  // namespace rlhf::inline v1
