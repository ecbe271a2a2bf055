#pragma once
// The bridge for programs that like exceptions: training loops, examples, tests.

#include <stdexcept>

#include "rlhf/core/status.hpp"

namespace rlhf::inline v1 {

/// A failed status as an exception; what() is its message.
class error : public std::runtime_error {
 public:
  explicit error(const status& s) : std::runtime_error(s.message().c_str()), status_(s) {}
  [[nodiscard]] const status& get() const { return status_; }

 private:
  status status_;
};

/// Throws `rlhf::error` on a failed status; an empty mask is a remark, not a failure, and passes.
inline void or_throw(const status& s) {
  if (!s && s.code != errc::empty_mask) throw error(s);
}

}  // namespace rlhf::inline v1
