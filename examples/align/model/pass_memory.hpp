#pragma once
// Memory for passes through a network, which models may share.

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "align/model/transformer.hpp"

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

/// What passes needed.
struct pass_count {
  std::int64_t most = 0;                        ///< bytes at once, of activations and all other memory of a pass
  std::map<const float*, std::int64_t> models;  ///< bytes of the parameters that were read, by where they lie
  std::map<const float*, std::int64_t> copies;  ///< of what a model makes of other parameters for a pass alone
};

/// Activations and logits of the last pass of whatever model used it last. Each pass has a number, by which a model finds out
/// whether what it left is still there; where it is not, the model computes it again.
struct pass_memory {
  pass_limits limits = {};
  workspace<float> work = {};
  std::vector<float> logits = {}, logp = {}, lse = {}, d_hidden = {};
  std::uint64_t pass = 0;
  pass_count counted = {};

  pass_memory() = default;
  explicit pass_memory(const pass_limits& l) : limits(l) {}
  [[nodiscard]] bool holds(std::uint64_t number) const { return number != 0 && number == pass; }
  [[nodiscard]] std::int64_t bytes() const {
    return work.bytes() +
           static_cast<std::int64_t>((logits.size() + logp.size() + lse.size() + d_hidden.size()) * sizeof(float));
  }
  void count() { counted.most = std::max(counted.most, bytes()); }
  void count_model(std::span<const float> parameters) {
    counted.models[parameters.data()] = static_cast<std::int64_t>(parameters.size_bytes());
  }
  void count_copy(std::span<const float> made) {
    counted.copies[made.data()] = static_cast<std::int64_t>(made.size_bytes());
  }
  /// What models left here is gone, as after another one's pass; the memory stays.
  void forget() {
    for (std::vector<float>* of : {&logits, &logp, &lse, &d_hidden}) of->clear();
    ++pass;
  }
  /// Gives all memory back, and counts anew.
  void release() {
    forget();
    work = {};
    for (std::vector<float>* of : {&logits, &logp, &lse, &d_hidden}) of->shrink_to_fit();
    counted = {};
  }
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
