#pragma once
// What the tests of formulas share: random batches with garbage under the mask, and central differences.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "support/catch.hpp"

namespace test {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

inline std::vector<double> uniform(std::mt19937& random, std::size_t n, double low, double high) {
  std::vector<double> x(n);
  for (auto& v : x) v = low + (high - low) * static_cast<double>(random()) / 4294967296.0;
  return x;
}

/// Exactly +0, not a small number and not -0.
inline bool is_plain_zero(double x) {
  const double zero = 0;
  return std::memcmp(&x, &zero, sizeof x) == 0;
}

inline std::string text(const rlhf::status& s) { return s.message().c_str(); }

/// Failed for a reason: an empty mask is a remark.
inline bool worked(const rlhf::status& s) { return s || s.code == rlhf::errc::empty_mask; }

/// Sequences of the given lengths, in rows of `width` slots with gaps among the tokens, or one after the other; every
/// stream of a token objective.
struct token_batch {
  std::vector<std::int64_t> offsets;
  std::int64_t rows = 0, width = 0;
  std::vector<double> logp, entropy, old_logp, ref_logp, rollout_logp, advantage;
  std::vector<std::uint8_t> mask;

  [[nodiscard]] rlhf::layout<> layout() const {
    return offsets.empty() ? rlhf::padded(rows, width) : rlhf::packed(offsets);
  }
  [[nodiscard]] std::size_t size() const { return logp.size(); }
  [[nodiscard]] std::vector<std::vector<double>*> streams() {
    return {&logp, &entropy, &old_logp, &ref_logp, &rollout_logp, &advantage};
  }
  [[nodiscard]] rlhf::token_inputs<double> inputs() const {
    rlhf::token_inputs<double> in;
    in.logp = logp;
    in.entropy = entropy;
    in.old_logp = old_logp;
    in.ref_logp = ref_logp;
    in.rollout_logp = rollout_logp;
    in.advantage = advantage;
    if (!mask.empty()) in.mask = mask;
    return in;
  }
  [[nodiscard]] bool valid(std::size_t i) const { return mask.empty() || mask[i] != 0; }
};

/// Padded: some rows empty, one with a single token, gaps inside; NaN and infinities wherever the mask is out.
inline token_batch padded_batch(unsigned seed, std::int64_t rows = 9, std::int64_t width = 13) {
  std::mt19937 random(seed);
  token_batch b;
  b.rows = rows;
  b.width = width;
  const auto n = static_cast<std::size_t>(rows * width);
  b.old_logp = uniform(random, n, -3, -0.05);
  b.logp = uniform(random, n, -0.4, 0.4);
  for (std::size_t i = 0; i < n; ++i) b.logp[i] = std::min(b.logp[i] + b.old_logp[i], -0.01);
  b.ref_logp = uniform(random, n, -3, -0.05);
  b.rollout_logp = uniform(random, n, -0.1, 0.1);
  for (std::size_t i = 0; i < n; ++i) b.rollout_logp[i] += b.old_logp[i];
  b.advantage = uniform(random, n, -2, 2);
  b.entropy = uniform(random, n, 0, 2);
  b.mask.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::int64_t>(i) / width;
    const bool in = row % 4 == 1 ? false : row % 4 == 2 ? static_cast<std::int64_t>(i) % width == 5 : random() % 4 != 0;
    b.mask[i] = in ? 1 : 0;
  }
  const double garbage[] = {not_a_number, infinity, -infinity, 1e300};
  for (auto* stream : b.streams())
    for (std::size_t i = 0; i < n; ++i)
      if (b.mask[i] == 0) (*stream)[i] = garbage[random() % 4];
  return b;
}

/// The valid tokens of a batch and nothing else.
inline token_batch packed_of(const token_batch& b) {
  token_batch p;
  p.offsets = {0};
  const auto sequences = b.layout();
  token_batch copy = b;
  const auto from = copy.streams(), to = p.streams();
  for (std::int64_t s = 0; s < sequences.sequences; ++s) {
    for (std::int64_t i = sequences[s].begin; i < sequences[s].end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (!b.valid(at)) continue;
      for (std::size_t k = 0; k < from.size(); ++k) to[k]->push_back((*from[k])[at]);
    }
    p.offsets.push_back(static_cast<std::int64_t>(p.logp.size()));
  }
  return p;
}

struct token_result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> grad_logp, grad_entropy, per_token;
  rlhf::statistics stats;
};

template <class Loss, class B>
token_result run(const Loss& loss, B& backend, const token_batch& b, const rlhf::token_inputs<double>& in) {
  token_result r;
  r.grad_logp.assign(b.size(), not_a_number);
  r.grad_entropy.assign(b.size(), not_a_number);
  r.per_token.assign(b.size(), not_a_number);
  rlhf::token_outputs<double> out{{&r.loss, 1}, r.grad_logp, r.grad_entropy, r.per_token, &r.stats};
  r.status = loss(backend, b.layout(), in, out);
  return r;
}
template <class Loss>
token_result run(const Loss& loss, const token_batch& b) {
  rlhf::reference_backend backend;
  return run(loss, backend, b, b.inputs());
}

/// The derivative of f at x in its i-th argument.
template <class F>
double central_difference(F f, std::vector<double> x, std::size_t i, double h = 1e-6) {
  const double at = x[i];
  x[i] = at + h;
  const double above = f(x);
  x[i] = at - h;
  return (above - f(x)) / (2 * h);
}

}  // namespace test
