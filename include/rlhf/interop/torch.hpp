#pragma once
// Tensors of libtorch as views, without a copy. Includes no header of torch: a tensor is whatever has a tensor's members.

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/core/numeric.hpp"
#include "rlhf/core/status.hpp"
#include "rlhf/core/view.hpp"
#if defined(__cpp_exceptions)
#include "rlhf/core/throw.hpp"
#endif

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

}  // namespace torch_detail

/// A view of a tensor's own memory, with its strides (in elements); nothing is copied. `out` is set where all is well, and
/// left alone where it is not.
///
/// Elements: float, double, bfloat16, float16, std::int64_t (Long), std::int32_t (Int), std::uint8_t (Byte or Bool: a mask).
/// Rank 1 takes any stride, rank 2 wants adjacent columns and takes any distance between rows; what is written to must not
/// share memory with itself (an expanded tensor does). The tensor must outlive the view: keep what `contiguous()` or `to()`
/// gives in a variable. torch does not see what is written through a view: no graph, no version of the tensor counts it.
///
/// Errors name `function` and `argument`: null (not defined), type (elements, device, sparse, or a negation that torch has put
/// off), shape (dimensions), stride.
template <class T, int Rank, class Space, torch_tensor Tensor>
  requires(Rank == 1 || Rank == 2)
status as_view(const Tensor& tensor, view<T, Rank, Space>& out, const char* argument = "tensor",
               const char* function = "as_view") {
  using element = std::remove_const_t<T>;
  using kind = std::remove_cvref_t<decltype(tensor.scalar_type())>;
  using form = std::remove_cvref_t<decltype(tensor.layout())>;
  constexpr kind wanted = torch_detail::kind_of<kind, element>();
  constexpr bool written = !std::is_const_v<T>, on_host = std::same_as<Space, host_space>;

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
  if (tensor.dim() != Rank)
    return {errc::shape, function, argument, "dimensions", static_cast<double>(tensor.dim()), static_cast<double>(Rank),
            nullptr};

  auto* const data = static_cast<T*>(tensor.data_ptr());
  const std::int64_t count = tensor.size(0), step = tensor.stride(0);
  if constexpr (Rank == 1) {
    if (written && count > 1 && step == 0)
      return {errc::stride, function, argument, "has stride", 0, 0, "1 or more, to be written to"};
    out = view<T, 1, Space>(data, count, step);
  } else {
    const std::int64_t columns = tensor.size(1);
    if (columns > 1 && tensor.stride(1) != 1)
      return {
          errc::stride, function, argument, "has columns at a distance of", static_cast<double>(tensor.stride(1)), 1,
          nullptr};
    if (written && count > 1 && step < columns)
      return {errc::stride,
              function,
              argument,
              "has rows at a distance of",
              static_cast<double>(step),
              0,
              "at least the columns, to be written to"};
    out = view<T, 2, Space>(data, count, columns, step);
  }
  return {};
}

#if defined(__cpp_exceptions)
/// The same as a value, for use within a call: `as_view<const float, 2>(logits, "logits")`. Throws rlhf::error.
template <class T, int Rank = 1, class Space = host_space, torch_tensor Tensor>
[[nodiscard]] view<T, Rank, Space> as_view(const Tensor& tensor, const char* argument = "tensor",
                                           const char* function = "as_view") {
  view<T, Rank, Space> out;
  or_throw(as_view(tensor, out, argument, function));
  return out;
}
#endif

}  // namespace rlhf::inline v1
