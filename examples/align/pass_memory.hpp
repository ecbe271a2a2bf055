#pragma once
// Memory for passes through a network, which models may share.

#include <cstdint>
#include <utility>
#include <vector>

#include "align/transformer.hpp"

namespace align {

/// How much is computed at once, and what is kept of it.
struct pass_limits {
  std::int64_t tokens = 24576, sequences = 1024;
  activation_storage storage = activation_storage::full;  ///< of passes that a way back may follow
};

/// What only scores needs no more at once than keeps all threads busy.
[[nodiscard]] constexpr pass_limits scoring_limits() {
  return {.tokens = 8192, .sequences = 1024, .storage = activation_storage::none};
}

/// Activations and logits of the last pass of whatever model used it last. Each pass has a number, by which a model finds out
/// whether what it left is still there; where it is not, the model computes it again.
struct pass_memory {
  pass_limits limits = {};
  workspace<float> work = {};
  std::vector<float> logits = {}, logp = {}, lse = {}, d_hidden = {};
  std::uint64_t pass = 0;

  pass_memory() = default;
  explicit pass_memory(const pass_limits& l) : limits(l) {}
  [[nodiscard]] bool holds(std::uint64_t number) const { return number != 0 && number == pass; }
};

/// The number of a model's own last pass; 0: none that it could go back by. A copy of a model has made no pass: what is in the
/// memory that they share is the original's, to use up.
class pass_number {
 public:
  pass_number() = default;
  pass_number(const pass_number&) {}
  pass_number(pass_number&& from) noexcept : number_(std::exchange(from.number_, 0)) {}
  pass_number& operator=(const pass_number& from) {
    if (this != &from) number_ = 0;
    return *this;
  }
  pass_number& operator=(pass_number&& from) noexcept {
    number_ = std::exchange(from.number_, 0);
    return *this;
  }
  ~pass_number() = default;
  pass_number& operator=(std::uint64_t number) {
    number_ = number;
    return *this;
  }
  [[nodiscard]] operator std::uint64_t() const { return number_; }

 private:
  std::uint64_t number_ = 0;
};

}  // namespace align
