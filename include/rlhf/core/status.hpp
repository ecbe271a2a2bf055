#pragma once
// What every driver and backend returns: no exceptions, no allocation.

#include <cstdint>
#include <cstdio>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// The kinds of trouble a call can report.
enum class errc : std::uint8_t {
  ok,          ///< all went well
  null,        ///< a required view has no data
  shape,       ///< a view, layout or group has the wrong number of elements
  stride,      ///< a view's memory layout cannot be read or written by this call
  argument,    ///< a hyperparameter is outside its range
  index,       ///< an index points outside its range (a target outside the vocabulary, decreasing offsets, ...)
  empty_mask,  ///< no valid element at all: the outputs are defined (zeros), but the caller should know
  memory,      ///< the backend could not get its scratch memory
  backend,     ///< the device or its runtime failed; `what` holds its own words
  type         ///< foreign memory holds other elements, or lies elsewhere, than the call can use
};

/// Text of a status, by value so that nothing is allocated.
struct status_text {
  char text[256] = {};
  [[nodiscard]] const char* c_str() const { return text; }
};

/// The outcome of a call. Contextually true when the call did its work without a remark.
///
/// A failed status names the function, the argument, what it got and what it wants:
/// `policy_loss: advantage has 480 elements, wants 512`. Unless stated otherwise a failed call has written nothing;
/// `errc::empty_mask` is a remark: the outputs are written (zeros). The strings live as long as the program.
struct [[nodiscard]] status {
  errc code = errc::ok;
  const char* function = "";  ///< the driver or primitive that speaks
  const char* argument = "";  ///< the field or parameter it speaks of
  const char* what = "";      ///< the property and its verb ("is"); for a shape, what is counted ("elements")
  double got = 0;
  double want = 0;
  const char* wants = nullptr;  ///< the wanted range in words; when set it is shown instead of the number

  explicit constexpr operator bool() const { return code == errc::ok; }

  /// `function: argument what got, wants want`.
  [[nodiscard]] RLHF_INLINE status_text message() const {
    status_text out;
    if (code == errc::ok) {
      std::snprintf(out.text, sizeof out.text, "ok");
    } else if (code == errc::null || code == errc::memory || code == errc::backend || code == errc::empty_mask) {
      std::snprintf(out.text, sizeof out.text, "%s: %s %s%s%s", function, argument, what, wants ? ", wants " : "",
                    wants ? wants : "");
    } else if (code == errc::type && wants != nullptr) {
      std::snprintf(out.text, sizeof out.text, "%s: %s is %s, wants %s", function, argument, what, wants);
    } else if (code == errc::shape && wants == nullptr) {
      std::snprintf(out.text, sizeof out.text, "%s: %s has %.10g %s, wants %.10g", function, argument, got, what, want);
    } else if (wants != nullptr) {
      std::snprintf(out.text, sizeof out.text, "%s: %s %s %.10g, wants %s", function, argument, what, got, wants);
    } else {
      std::snprintf(out.text, sizeof out.text, "%s: %s %s %.10g, wants %.10g", function, argument, what, got, want);
    }
    return out;
  }
};

/// Makers of the common remarks, so that their wording is the same everywhere.
namespace remark {

[[nodiscard]] RLHF_INLINE constexpr status null(const char* function, const char* argument) {
  return {errc::null, function, argument, "is null", 0, 0, "a pointer to its elements"};
}
[[nodiscard]] RLHF_INLINE constexpr status shape(const char* function, const char* argument, std::int64_t got,
                                                 std::int64_t want, const char* counted = "elements") {
  return {errc::shape, function, argument, counted, static_cast<double>(got), static_cast<double>(want), nullptr};
}
[[nodiscard]] RLHF_INLINE constexpr status overlap(const char* function, const char* argument, std::int64_t pitch) {
  return {
      errc::stride, function, argument, "has a pitch of", static_cast<double>(pitch), 0, "rows that do not overlap"};
}
[[nodiscard]] RLHF_INLINE constexpr status argument(const char* function, const char* argument, double got,
                                                    const char* wants) {
  return {errc::argument, function, argument, "is", got, 0, wants};
}
[[nodiscard]] RLHF_INLINE constexpr status type(const char* function, const char* argument, const char* got,
                                                const char* wants) {
  return {errc::type, function, argument, got, 0, 0, wants};
}
[[nodiscard]] RLHF_INLINE constexpr status empty(const char* function, const char* argument) {
  return {errc::empty_mask, function, argument, "selects no element; all outputs are 0", 0, 0, nullptr};
}
[[nodiscard]] RLHF_INLINE constexpr status memory(const char* function) {
  return {errc::memory, function, "scratch", "could not be allocated", 0, 0, nullptr};
}

}  // namespace remark

}  // namespace rlhf::inline v1
