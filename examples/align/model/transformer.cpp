#include "align/model/transformer.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "align/model/subnormals.hpp"
#include "align/model/workspace_state.hpp"

namespace align {

namespace {

/// Partial gradients that a backward pass adds up, and so the threads that it can use.
constexpr std::ptrdiff_t gradient_parts = 16;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("transformer: " + what); }

template <class Scalar>
std::int64_t bytes_of(std::ptrdiff_t activations, std::ptrdiff_t exact, activation_storage keep) {
  const std::size_t each = keep == activation_storage::bfloat16 ? sizeof(rlhf::bfloat16) : sizeof(Scalar);
  return activations * static_cast<std::ptrdiff_t>(each) + exact * static_cast<std::ptrdiff_t>(sizeof(Scalar));
}

}  // namespace

template <class Scalar>
workspace<Scalar>::workspace() : state_(std::make_unique<state>()) {}
template <class Scalar>
workspace<Scalar>::~workspace() = default;
template <class Scalar>
workspace<Scalar>::workspace(workspace&&) noexcept = default;
template <class Scalar>
workspace<Scalar>& workspace<Scalar>::operator=(workspace&&) noexcept = default;

template <class Scalar>
std::int64_t workspace<Scalar>::tokens() const {
  return static_cast<std::int64_t>(state_->tokens.size());
}

template <class Scalar>
std::span<const Scalar> workspace<Scalar>::hidden(std::int64_t token) const {
  return {state_->hidden + token * state_->n.wide, static_cast<std::size_t>(state_->n.dimension)};
}

template <class Scalar>
std::int64_t workspace<Scalar>::activation_bytes() const {
  std::ptrdiff_t elements = 0, exact = 0;
  if (state_->storage != activation_storage::none)
    for (const chunk& c : state_->chunks) {
      elements += frame<Scalar>::elements(state_->n, c.tokens, true);
      exact += frame<Scalar>::exact_elements(state_->n, c.tokens, true);
    }
  const std::ptrdiff_t hidden = tokens() * state_->n.wide;
  return bytes_of<Scalar>(elements, exact + hidden, state_->storage);
}

template <class Scalar>
std::int64_t workspace<Scalar>::bytes() const {
  const state& s = *state_;
  const auto in = [](const auto& list) { return static_cast<std::int64_t>(list.size() * sizeof(list.front())); };
  std::int64_t sum = s.memory.bytes() + s.exact.bytes() + s.hidden_states.bytes() + s.gradients.bytes() +
                     s.rounded.bytes() + s.scratch.bytes();
  sum += in(s.tokens) + in(s.positions) + in(s.offsets) + in(s.chunks);
  return sum + parameter_bytes();
}

template <class Scalar>
std::int64_t workspace<Scalar>::parameter_bytes() const {
  return static_cast<std::int64_t>(state_->weights.bytes() + state_->transposed.bytes());
}

template <class Scalar>
std::int64_t parameter_bytes(const transformer_options& options, parameter_storage storage, bool way_back) {
  const sizes<Scalar> n(options);
  return forward_weights<Scalar>::bytes(n, storage) + (way_back ? backward_weights<Scalar>::bytes(n, storage) : 0);
}

template <class Scalar>
std::int64_t activation_bytes(const transformer_options& options, std::int64_t tokens, activation_storage keep) {
  const sizes<Scalar> n(options);
  // Chunks of whole sequences may be half empty.
  const std::ptrdiff_t chunks = keep == activation_storage::none ? 0 : 2 * tokens / chunk_tokens + 1;
  const std::ptrdiff_t rows = chunks == 0 ? 0 : (tokens + chunks - 1) / chunks;
  return bytes_of<Scalar>(chunks * frame<Scalar>::elements(n, rows, true),
                          chunks * frame<Scalar>::exact_elements(n, rows, true) + tokens * n.wide, keep);
}

template <class Scalar>
transformer<Scalar>::transformer(const transformer_options& options, parameter_storage storage)
    : options_(options), storage_(storage) {
  if (const char* const wrong = what_is_wrong(options_)) refuse(wrong);
  slices_ = parameter_slices(options_);
  size_ = parameter_count(options_);

  const std::ptrdiff_t half = options_.dimension / options_.heads / 2;
  for (std::ptrdiff_t position = 0; position < options_.context; ++position) {
    std::vector<Scalar> sines;
    for (std::ptrdiff_t i = 0; i < half; ++i) {
      const double frequency = std::pow(options_.rope_theta, -static_cast<double>(i) / static_cast<double>(half));
      rotations_.push_back(static_cast<Scalar>(std::cos(static_cast<double>(position) * frequency)));
      sines.push_back(static_cast<Scalar>(std::sin(static_cast<double>(position) * frequency)));
    }
    rotations_.insert(rotations_.end(), sines.begin(), sines.end());
  }
}

template <class Scalar>
const parameter_slice& transformer<Scalar>::slice(const std::string& name) const {
  for (const parameter_slice& s : slices_)
    if (s.name == name) return s;
  throw std::invalid_argument("transformer: no parameters are named " + name);
}

template <class Scalar>
void transformer<Scalar>::initialize(std::span<Scalar> parameters, rlhf::random_key key) const {
  if (static_cast<std::int64_t>(parameters.size()) != size_) refuse("parameters have the wrong size");
  const rlhf::random_numbers numbers(key);
  const auto ends_with = [](const std::string& name, const char* end) { return name.find(end) != std::string::npos; };
  for (std::uint32_t s = 0; s < slices_.size(); ++s) {
    const parameter_slice& slice = slices_[s];
    const bool joins = ends_with(slice.name, ".wo.") || ends_with(slice.name, ".w2.");
    const double deviation = 1 / std::sqrt(static_cast<double>(slice.shape.back()) * (joins ? 2 * options_.layers : 1));
    Scalar* const to = parameters.data() + slice.offset;
    for (std::int64_t i = 0; i < slice.size; ++i)
      to[i] = slice.shape.size() == 1
                  ? Scalar{1}
                  : static_cast<Scalar>(deviation *
                                        numbers.normal({.prompt = s, .position = static_cast<std::uint32_t>(i)}));
  }
}

template <class Scalar>
void transformer<Scalar>::forward(rlhf::thread_pool& pool, std::span<const Scalar> parameters, const token_batch& batch,
                                  workspace<Scalar>& work, activation_storage keep) const {
  if (static_cast<std::int64_t>(parameters.size()) != size_) refuse("parameters have the wrong size");
  if (batch.offsets.empty() || batch.offsets.front() != 0 ||
      batch.offsets.back() != static_cast<std::int64_t>(batch.tokens.size()))
    refuse("offsets must go from 0 to the number of tokens");
  for (std::size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const std::int64_t length = batch.offsets[i + 1] - batch.offsets[i];
    if (length < 0) refuse("offsets must not decrease");
    if (length > options_.context)
      refuse("sequence " + std::to_string(i) + " has " + std::to_string(length) + " tokens, the context is " +
             std::to_string(options_.context));
  }
  for (const std::int32_t token : batch.tokens)
    if (token < 0 || token >= options_.vocabulary) refuse("a token is outside the vocabulary");

  auto& state = *work.state_;
  state.n = sizes<Scalar>(options_);
  state.plan(batch, keep);
  state.reserve_scratch(pool.size());
  state.weights.take(state.n, parameters.data(), storage_);
  pool.run(static_cast<std::int64_t>(state.chunks.size()), [&](std::int64_t i) {
    const flushed_subnormals flushed;
    state.forward_chunk(state.chunks[static_cast<std::size_t>(i)], parameters.data(), rotations_.data());
  });
}

namespace {

void check_rows(std::span<const std::int64_t> rows, std::int64_t tokens) {
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i] < 0 || rows[i] >= tokens || (i > 0 && rows[i] <= rows[i - 1]))
      refuse("rows must be tokens of the last forward pass, ascending");
}

}  // namespace

template <class Scalar>
void transformer<Scalar>::logits(rlhf::thread_pool& pool, const workspace<Scalar>& work,
                                 std::span<const std::int64_t> rows, std::span<Scalar> logits) const {
  auto& state = *work.state_;
  check_rows(rows, work.tokens());
  if (logits.size() != rows.size() * static_cast<std::size_t>(options_.vocabulary))
    refuse("logits have the wrong size");
  state.reserve_scratch(pool.size());
  pool.run(static_cast<std::int64_t>(state.chunks.size()), [&](std::int64_t i) {
    const flushed_subnormals flushed;
    state.logits_chunk(state.chunks[static_cast<std::size_t>(i)], rows, logits.data());
  });
}

template <class Scalar>
void transformer<Scalar>::backward(rlhf::thread_pool& pool, std::span<const Scalar> parameters, workspace<Scalar>& work,
                                   const output_gradient<Scalar>& output, std::span<Scalar> gradient) const {
  auto& state = *work.state_;
  const auto parameter_count = static_cast<std::size_t>(size_);
  if (parameters.size() != parameter_count) refuse("parameters have the wrong size");
  if (gradient.size() != parameter_count) refuse("gradient has the wrong size");
  if (state.n.parameters != size_) refuse("the last forward pass was that of another model");
  if (state.storage == activation_storage::none) refuse("the last forward pass kept no activations");
  check_rows(output.rows, work.tokens());
  if (output.logits.size() != output.rows.size() * static_cast<std::size_t>(options_.vocabulary))
    refuse("logit gradients have the wrong size");
  if (!output.hidden.empty() &&
      output.hidden.size() != state.tokens.size() * static_cast<std::size_t>(options_.dimension))
    refuse("hidden gradients have the wrong size");

  const auto chunks = static_cast<std::ptrdiff_t>(state.chunks.size());
  const std::ptrdiff_t parts = std::min(chunks, gradient_parts), stride = arena<Scalar>::rounded(size_);
  state.reserve_scratch(pool.size());
  state.gradients.reserve(parts * stride);
  state.transposed.take(state.n, parameters.data(), storage_);
  pool.run(parts, [&](std::int64_t part) {
    const flushed_subnormals flushed;
    Scalar* const sum = state.gradients.data() + part * stride;
    std::fill(sum, sum + size_, Scalar{0});
    for (std::ptrdiff_t c = part * chunks / parts; c < (part + 1) * chunks / parts; ++c)
      state.backward_chunk(state.chunks[static_cast<std::size_t>(c)], rotations_.data(), output, sum);
  });
  constexpr std::ptrdiff_t step = 8192;
  pool.run((size_ + step - 1) / step, [&](std::int64_t i) {
    const flushed_subnormals flushed;
    for (std::ptrdiff_t part = 0; part < parts; ++part) {
      const Scalar* const from = state.gradients.data() + part * stride;
      for (std::ptrdiff_t j = i * step; j < std::min<std::ptrdiff_t>((i + 1) * step, size_); ++j)
        gradient[static_cast<std::size_t>(j)] += from[j];
    }
  });
}

template class transformer<float>;
template class transformer<double>;
template class workspace<float>;
template class workspace<double>;
template std::int64_t activation_bytes<float>(const transformer_options&, std::int64_t, activation_storage);
template std::int64_t activation_bytes<double>(const transformer_options&, std::int64_t, activation_storage);
template std::int64_t parameter_bytes<float>(const transformer_options&, parameter_storage, bool);
template std::int64_t parameter_bytes<double>(const transformer_options&, parameter_storage, bool);

}  // namespace align
