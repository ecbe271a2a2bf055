#pragma once
// Random numbers that are a pure function of what they are for: no state, so no order of calls to keep.

#include <cmath>
#include <cstdint>
#include <utility>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// Four 32-bit words: the counter that goes into the generator and the random words that come out.
struct philox_block {
  std::uint32_t word[4] = {};
};

/// The key of the generator.
struct philox_key {
  std::uint32_t word[2] = {};
};

/// Philox4x32 with 10 rounds: a bijection of 128-bit counters for every key, whose outputs pass the known test
/// batteries.
///
/// Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3; the same words
/// as cuRAND's and Random123's generator of that name.
[[nodiscard]] RLHF_HD RLHF_INLINE constexpr philox_block philox4x32(philox_block counter, philox_key key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t even = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t odd = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(odd >> 32) ^ counter.word[1] ^ key.word[0], static_cast<std::uint32_t>(odd),
                static_cast<std::uint32_t>(even >> 32) ^ counter.word[3] ^ key.word[1],
                static_cast<std::uint32_t>(even)}};
    key.word[0] += 0x9E3779B9u;
    key.word[1] += 0xBB67AE85u;
  }
  return counter;
}

/// Which sequence of random numbers: a run has one `seed`; every use within it (initial weights, shuffling, rollouts of
/// iteration 7, ...) has a `stream` of its own.
struct random_key {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

/// Which number of the sequence. The names are those of a rollout; other uses take the fields as they like. Two calls
/// with the same index give the same number, so whoever needs several numbers at one place counts `draw`.
struct random_index {
  std::uint32_t prompt = 0;
  std::uint32_t sample = 0;
  std::uint32_t position = 0;
  std::uint32_t draw = 0;
};

/// A real number in [0, 1) from the upper 53 of 64 random bits, exact in double.
[[nodiscard]] RLHF_HD RLHF_INLINE constexpr double unit_interval(std::uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

/// A real number in [0, 1) from the upper 24 of 32 random bits, exact in float.
[[nodiscard]] RLHF_HD RLHF_INLINE constexpr float unit_interval(std::uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

/// An integer in [0, n) from 64 random bits: the upper word of bits * n, whose bias is at most n / 2^64. Wants n > 0.
[[nodiscard]] RLHF_HD RLHF_INLINE constexpr std::uint32_t integer_below(std::uint64_t bits, std::uint32_t n) {
  const std::uint64_t low = (bits & 0xFFFFFFFFu) * n;
  const std::uint64_t high = (bits >> 32) * n;
  return static_cast<std::uint32_t>((high + (low >> 32)) >> 32);
}

/// Random numbers by index, the same on every machine, for any batch, any number of threads and any order of calls.
///
/// The stream is folded into the generator's 64-bit key by one call of the generator itself, so that the whole 128-bit
/// counter stays free for the index. `uniform`, `integer` and `bits` are built from integers alone and agree to the
/// last bit everywhere; `normal` goes through the platform's log and cos and may differ in its last bit between
/// platforms.
///
/// Example: `random_numbers{{.seed = 1, .stream = 7}}.uniform({.prompt = 3, .sample = 0, .position = 12})`.
class random_numbers {
 public:
  RLHF_HD constexpr explicit random_numbers(random_key key) {
    const philox_block mixed =
        philox4x32({{word(key.stream), word(key.stream >> 32), 0, 0}}, {{word(key.seed), word(key.seed >> 32)}});
    key_ = {{mixed.word[0], mixed.word[1]}};
  }

  /// The 128 random bits of an index; everything below is made of them.
  [[nodiscard]] RLHF_HD constexpr philox_block block(random_index at) const {
    return philox4x32({{at.prompt, at.sample, at.position, at.draw}}, key_);
  }

  /// 64 random bits.
  [[nodiscard]] RLHF_HD constexpr std::uint64_t bits(random_index at) const { return first(block(at)); }

  /// Uniform in [0, 1).
  [[nodiscard]] RLHF_HD constexpr double uniform(random_index at) const { return unit_interval(bits(at)); }

  /// Uniform over the integers 0 ... n - 1; wants n > 0.
  [[nodiscard]] RLHF_HD constexpr std::uint32_t integer(std::uint32_t n, random_index at) const {
    return integer_below(bits(at), n);
  }

  /// Standard normal, by Box and Muller's transform (1958) of the two halves of the block; |result| < 8.6.
  [[nodiscard]] RLHF_HD double normal(random_index at) const {
    const philox_block b = block(at);
    const double radius = std::sqrt(-2 * std::log(1 - unit_interval(first(b))));  // 1 - u lies in (0, 1]: no log(0)
    const double angle = 6.283185307179586476925 * unit_interval(second(b));
    return radius * std::cos(angle);
  }

 private:
  [[nodiscard]] RLHF_HD static constexpr std::uint32_t word(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  [[nodiscard]] RLHF_HD static constexpr std::uint64_t first(const philox_block& b) {
    return std::uint64_t{b.word[1]} << 32 | b.word[0];
  }
  [[nodiscard]] RLHF_HD static constexpr std::uint64_t second(const philox_block& b) {
    return std::uint64_t{b.word[3]} << 32 | b.word[2];
  }

  philox_key key_;
};

/// Puts the elements of a range (data() and size(), at most 2^32 - 1 of them) in a random order (Fisher and Yates).
///
/// The order is a function of the key, of `prompt` and `sample` in `at`, and of the size; step i draws at position i.
template <class Range>
void shuffle(Range&& range, const random_numbers& numbers, random_index at = {}) {
  auto* const element = range.data();
  for (auto left = static_cast<std::uint32_t>(range.size()); left > 1; --left) {
    at.position = left - 1;
    using std::swap;
    swap(element[left - 1], element[numbers.integer(left, at)]);
  }
}

/// Writes a random permutation of 0 ... n - 1 into a range of n integers.
template <class Range>
void permutation(Range&& out, const random_numbers& numbers, random_index at = {}) {
  auto next = *out.data();
  next = 0;
  for (auto& element : out) element = next++;
  shuffle(out, numbers, at);
}

}  // namespace rlhf::inline v1
