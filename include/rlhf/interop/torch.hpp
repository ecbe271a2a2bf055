#pragma once
// Tensors of libtorch as views, without a copy. Includes no header of torch: a tensor is whatever has a tensor's members.

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/core/numeric.hpp"
#include "rlhf/interop/strided.hpp"

namespace rlhf::inline v1 {

/// What is read of a tensor: torch::Tensor has it.
template <class X>
concept torch_tensor = requires(const X& x, std::int64_t i) {
  { x.defined() } -> std::convertible_to<bool>;
  { x.is_cpu() } -> std::convertible_to<bool>;
  { x.is_cuda() } -> std::convertible_to<bool>;
  { x.is_neg() } -> std::convertible_to<bool>;
  { x.dim() } -> std::convertible_to<std::int64_t>;
  { x.size(i) } -> std::convertible_to<std::int64_t>;
  { x.stride(i) } -> std::convertible_to<std::int64_t>;
  { x.data_ptr() } -> std::convertible_to<void*>;
  x.layout();
  toString(x.scalar_type());
};

namespace torch_detail {

template <class T>
inline constexpr bool unknown = false;

/// torch's name of an element type, in its own enumeration.
template <class Kind, class T>
[[nodiscard]] constexpr Kind kind_of() {
  if constexpr (std::same_as<T, float>)
    return Kind::Float;
  else if constexpr (std::same_as<T, double>)
    return Kind::Double;
  else if constexpr (std::same_as<T, bfloat16>)
    return Kind::BFloat16;
  else if constexpr (std::same_as<T, float16>)
    return Kind::Half;
  else if constexpr (std::same_as<T, std::int64_t>)
    return Kind::Long;
  else if constexpr (std::same_as<T, std::int32_t>)
    return Kind::Int;
  else if constexpr (std::same_as<T, std::uint8_t>)
    return Kind::Byte;
  else
    static_assert(unknown<T>,
                  "rlhf: as_view knows float, double, bfloat16, float16, std::int64_t, std::int32_t and std::uint8_t");
}

template <class Tensor>
struct dimensions_of {
  const Tensor& tensor;
  std::int64_t count;
  [[nodiscard]] std::int64_t extent(std::int64_t k) const { return tensor.size(k); }
  [[nodiscard]] std::int64_t stride(std::int64_t k) const { return tensor.stride(k); }
};

}  // namespace torch_detail

/// A view of a tensor's own memory, as strided.hpp has it.
///
/// Elements: float, double, bfloat16, float16, std::int64_t (Long), std::int32_t (Int), std::uint8_t (Byte or Bool: a mask).
/// The tensor must outlive the view: keep what `contiguous()` or `to()` gives in a variable. torch does not see what is written
/// through a view: no graph, no version of the tensor counts it. Further errors: null (not defined), type (sparse, or a negation
/// that torch has put off).
template <class T, int Rank, class Space, torch_tensor Tensor>
  requires(Rank == 1 || Rank == 2)
status as_view(const Tensor& tensor, view<T, Rank, Space>& out, const char* argument = "tensor",
               const char* function = "as_view") {
  using element = std::remove_const_t<T>;
  using kind = std::remove_cvref_t<decltype(tensor.scalar_type())>;
  using form = std::remove_cvref_t<decltype(tensor.layout())>;
  constexpr kind wanted = torch_detail::kind_of<kind, element>();
  constexpr bool on_host = std::same_as<Space, host_space>;

  if (!tensor.defined()) return {errc::null, function, argument, "is not defined", 0, 0, "a tensor"};
  const kind got = tensor.scalar_type();
  if (got != wanted && !(std::same_as<element, std::uint8_t> && got == kind::Bool))
    return remark::type(function, argument, toString(got), toString(wanted));
  if (!(on_host ? tensor.is_cpu() : tensor.is_cuda()))
    return remark::type(function, argument,
                        tensor.is_cpu()    ? "in host memory"
                        : tensor.is_cuda() ? "in CUDA memory"
                                           : "on another device",
                        on_host ? "host memory" : "CUDA memory");
  if (tensor.layout() != form::Strided) return remark::type(function, argument, "not strided", "a dense tensor");
  if (tensor.is_neg())
    return remark::type(function, argument, "a negation not carried out", "values (tensor.resolve_neg())");
  return interop_detail::make_view(static_cast<T*>(tensor.data_ptr()),
                                   torch_detail::dimensions_of<Tensor>{tensor, tensor.dim()}, out, function, argument);
}

}  // namespace rlhf::inline v1
