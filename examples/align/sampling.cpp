#include "align/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "align/buffer.hpp"
#include "align/subnormals.hpp"
#include "align/weights.hpp"

namespace align {

namespace {

[[noreturn]] void refuse(const char* what) { throw std::invalid_argument(std::string("sample: ") + what); }

/// One model's part in drawing some sequences: its activations of a position, and its cache.
template <class Scalar>
class reading {
 public:
  reading(const language_model<Scalar>& model, const forward_weights<Scalar>& weights, const sizes<Scalar>& n,
          std::ptrdiff_t count, std::ptrdiff_t room, arena<Scalar>& pieces);

  /// Numbers that a reading takes from its arena, for `rows` sequences.
  [[nodiscard]] static std::ptrdiff_t scratch(const sizes<Scalar>& n, std::ptrdiff_t rows, std::ptrdiff_t room) {
    const std::ptrdiff_t pieces = 14;
    return rows * (4 * n.wide + n.wide_qkv + 3 * n.wide_hidden + n.vocabulary + 2) + room +
           n.layers * rows * 2 * n.kv * room + pieces * arena<Scalar>::rounded(1);
  }
  /// Takes in the tokens [live] of the sequences `live`, all at `position`.
  void advance(const std::vector<std::int32_t>& tokens, const std::vector<std::ptrdiff_t>& live,
               std::ptrdiff_t position);
  /// Logits [rows, vocabulary] of some rows of the last position.
  [[nodiscard]] Scalar* logits(const std::vector<std::ptrdiff_t>& rows);

 private:
  const language_model<Scalar>& model_;
  const forward_weights<Scalar>& weights_;
  const sizes<Scalar>& n_;
  std::ptrdiff_t count_, room_;
  layer_memory<Scalar> m_{};
  Scalar *normalized_, *activation_, *logits_, *scores_, *keys_, *values_;
  std::vector<std::int32_t> positions_;
};

template <class Scalar>
reading<Scalar>::reading(const language_model<Scalar>& model, const forward_weights<Scalar>& weights,
                         const sizes<Scalar>& n, std::ptrdiff_t count, std::ptrdiff_t room, arena<Scalar>& pieces)
    : model_(model), weights_(weights), n_(n), count_(count), room_(room) {
  m_.input = m_.output = pieces.take(count * n.wide);
  m_.attention_scale = pieces.take(count);
  m_.qkv = pieces.take(count * n.wide_qkv);
  m_.attended = pieces.take(count * n.wide);
  m_.middle = pieces.take(count * n.wide);
  m_.ffn_scale = pieces.take(count);
  m_.gate_up = pieces.take(count * 2 * n.wide_hidden);
  normalized_ = pieces.take(count * n.wide);
  activation_ = pieces.take(count * n.wide_hidden);
  logits_ = pieces.take(count * n.vocabulary);
  scores_ = pieces.take(room);
  keys_ = pieces.take(n.layers * count * n.kv * room);    // [layers, sequences, kv, room]
  values_ = pieces.take(n.layers * count * room * n.kv);  // [layers, sequences, room, kv]
}

template <class Scalar>
void reading<Scalar>::advance(const std::vector<std::int32_t>& tokens, const std::vector<std::ptrdiff_t>& live,
                              std::ptrdiff_t position) {
  const sizes<Scalar>& n = n_;
  const std::ptrdiff_t group = n.heads / n.kv_heads;
  const auto factor = 1 / std::sqrt(static_cast<Scalar>(n.head_width));
  const auto rows = static_cast<std::ptrdiff_t>(live.size());
  positions_.assign(live.size(), static_cast<std::int32_t>(position));
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    const Scalar* const from = model_.parameters.data() + tokens[static_cast<std::size_t>(i)] * n.dimension;
    Scalar* const to = m_.input + i * n.wide;
    read_parameters(from, n.dimension, weights_.storage, to);
    std::fill(to + n.dimension, to + n.wide, Scalar{0});
  }
  for (std::ptrdiff_t l = 0; l < n.layers; ++l) {
    const auto attend = [&] {
      for (std::ptrdiff_t i = 0; i < rows; ++i) {
        const std::ptrdiff_t cache = (l * count_ + live[static_cast<std::size_t>(i)]) * n.kv * room_;
        const Scalar* const query = m_.qkv + i * n.wide_qkv;
        const Scalar* const key = query + n.dimension;
        const Scalar* const value = key + n.kv;
        for (std::ptrdiff_t j = 0; j < n.kv; ++j) keys_[cache + j * room_ + position] = key[j];
        std::copy(value, value + n.kv, values_ + cache + position * n.kv);
        for (std::ptrdiff_t head = 0; head < n.heads; ++head) {
          const std::ptrdiff_t shared = head / group * n.head_width, width = padded<Scalar>(position + 1);
          multiply(1, n.head_width, width, query + head * n.head_width, n.wide_qkv, keys_ + cache + shared * room_,
                   room_, scores_, room_);
          softmax(position + 1, width, factor, scores_);
          multiply(1, position + 1, n.head_width, scores_, room_, values_ + cache + shared, n.kv,
                   m_.attended + i * n.wide + head * n.head_width, n.wide);
        }
      }
    };
    layer_forward(n, weights_.layer[static_cast<std::size_t>(l)], rows, positions_.data(),
                  model_.net.rotations().data(), m_, normalized_, activation_, attend);
  }
}

template <class Scalar>
Scalar* reading<Scalar>::logits(const std::vector<std::ptrdiff_t>& rows) {
  const auto drawn = static_cast<std::ptrdiff_t>(rows.size());
  for (std::ptrdiff_t k = 0; k < drawn; ++k) {
    const Scalar* const from = m_.output + rows[static_cast<std::size_t>(k)] * n_.wide;
    std::copy(from, from + n_.wide, m_.middle + k * n_.wide);
  }
  rms_norm(drawn, n_.dimension, m_.middle, weights_.final_norm.data(), n_.epsilon, normalized_, m_.ffn_scale);
  multiply(drawn, normalized_, n_.wide, weights_.head, logits_, n_.vocabulary);
  return logits_;
}

/// What all threads read, and the cells that each of them fills for its own sequences.
template <class Scalar>
struct job {
  const language_model<Scalar>& model;
  const token_batch& prompts;
  const sampling_options& options;
  const sampling_mixture<Scalar>& mixed;
  std::span<const std::uint32_t> prompt_ids;
  sizes<Scalar> n;
  forward_weights<Scalar> weights, other_weights;
  rlhf::random_numbers numbers;
  std::ptrdiff_t batch = 0;    ///< sequences in one run
  std::ptrdiff_t longest = 0;  ///< of all sequences when complete

  std::vector<std::int32_t> tokens;   ///< [sequences, longest]
  std::vector<Scalar> logp;           ///< [sequences, longest]
  std::vector<std::int64_t> lengths;  ///< [sequences]
  std::vector<std::uint8_t> finished;

  [[nodiscard]] std::size_t prompt_of(std::ptrdiff_t sequence) const {
    return static_cast<std::size_t>(sequence / options.samples);
  }
  [[nodiscard]] std::int64_t prompt_length(std::ptrdiff_t sequence) const {
    return prompts.offsets[prompt_of(sequence) + 1] - prompts.offsets[prompt_of(sequence)];
  }
  [[nodiscard]] std::int64_t limit(std::ptrdiff_t sequence) const {
    if (!options.longest.empty()) return std::min<std::int64_t>(n.context, options.longest[prompt_of(sequence)]);
    if (options.max_new_tokens == 0) return n.context;
    return std::min<std::int64_t>(n.context, prompt_length(sequence) + options.max_new_tokens);
  }
  [[nodiscard]] std::ptrdiff_t scratch() const {
    return (mixed.other == nullptr ? 1 : 2) * reading<Scalar>::scratch(n, batch, padded<Scalar>(longest)) +
           padded<Scalar>(n.vocabulary) + arena<Scalar>::rounded(1);
  }

  void choose(std::ptrdiff_t sequence, std::int64_t position, const Scalar* logits, Scalar* probability);
  void run(std::ptrdiff_t first, std::ptrdiff_t count, arena<Scalar> pieces);
};

/// Writes the token at `position` and its log-probability.
template <class Scalar>
void job<Scalar>::choose(std::ptrdiff_t sequence, std::int64_t position, const Scalar* logits, Scalar* probability) {
  const auto cell = static_cast<std::size_t>(sequence * longest + position);
  if (options.temperature == 0) {
    tokens[cell] = static_cast<std::int32_t>(std::max_element(logits, logits + n.vocabulary) - logits);
    logp[cell] = 0;
    return;
  }
  const auto inverse = static_cast<Scalar>(1 / options.temperature);
  std::copy(logits, logits + n.vocabulary, probability);
  const softmax_state<Scalar> state = softmax(n.vocabulary, padded<Scalar>(n.vocabulary), inverse, probability);
  const std::size_t prompt = prompt_of(sequence);
  const double uniform =
      numbers.uniform({.prompt = prompt_ids.empty() ? static_cast<std::uint32_t>(prompt) : prompt_ids[prompt],
                       .sample = options.first_sample + static_cast<std::uint32_t>(sequence % options.samples),
                       .position = static_cast<std::uint32_t>(position)});
  double total = 0;
  for (std::ptrdiff_t v = 0; v < n.vocabulary; ++v) total += static_cast<double>(probability[v]);
  double below = 0;
  std::ptrdiff_t chosen = 0;
  for (std::ptrdiff_t v = 0; v < n.vocabulary && below <= uniform * total; ++v) {
    if (probability[v] > 0) chosen = v;
    below += static_cast<double>(probability[v]);
  }
  tokens[cell] = static_cast<std::int32_t>(chosen);
  logp[cell] = logits[chosen] * inverse - state.largest + std::log(state.scale);
}

/// Completes `count` sequences from `first` on. All of them are at the same position at the same time; those whose
/// prompt goes on are fed from it, the others from what they drew.
template <class Scalar>
void job<Scalar>::run(std::ptrdiff_t first, std::ptrdiff_t count, arena<Scalar> pieces) {
  const std::ptrdiff_t room = padded<Scalar>(longest);
  reading<Scalar> own(model, weights, n, count, room, pieces);
  std::optional<reading<Scalar>> other;
  if (mixed.other != nullptr) other.emplace(*mixed.other, other_weights, n, count, room, pieces);
  Scalar* const probability = pieces.take(padded<Scalar>(n.vocabulary));

  std::vector<std::ptrdiff_t> live, drawing;
  std::vector<std::int32_t> now;
  for (std::ptrdiff_t slot = 0; slot < count; ++slot) live.push_back(slot);
  for (std::ptrdiff_t position = 0; !live.empty(); ++position) {
    now.clear();
    for (const std::ptrdiff_t slot : live)
      now.push_back(tokens[static_cast<std::size_t>((first + slot) * longest + position)]);
    // Only the sequences that have reached the end of their prompt need logits.
    drawing.clear();
    for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(live.size()); ++i)
      if (position + 1 >= prompt_length(first + live[static_cast<std::size_t>(i)])) drawing.push_back(i);
    own.advance(now, live, position);
    Scalar* const logits = own.logits(drawing);
    if (other) {
      other->advance(now, live, position);
      const Scalar* const second = other->logits(drawing);
      const auto power = static_cast<Scalar>(mixed.power), other_power = static_cast<Scalar>(mixed.other_power);
      for (std::ptrdiff_t k = 0; k < static_cast<std::ptrdiff_t>(drawing.size()) * n.vocabulary; ++k)
        logits[k] = logits[k] * power + second[k] * other_power;
    }
    for (std::size_t k = 0; k < drawing.size(); ++k) {
      const std::ptrdiff_t sequence = first + live[static_cast<std::size_t>(drawing[k])];
      choose(sequence, position + 1, logits + static_cast<std::ptrdiff_t>(k) * n.vocabulary, probability);
      lengths[static_cast<std::size_t>(sequence)] = position + 2;
      finished[static_cast<std::size_t>(sequence)] =
          tokens[static_cast<std::size_t>(sequence * longest + position + 1)] == options.end_token;
    }
    std::erase_if(live, [&](std::ptrdiff_t slot) {
      const std::ptrdiff_t sequence = first + slot;
      return finished[static_cast<std::size_t>(sequence)] != 0 || position + 2 >= limit(sequence);
    });
  }
}

}  // namespace

template <class Scalar>
rollout<Scalar> sample(rlhf::thread_pool& pool, const language_model<Scalar>& model, const token_batch& prompts,
                       const sampling_options& options, std::span<const std::uint32_t> prompt_ids,
                       const sampling_mixture<Scalar>& mixed) {
  if (options.samples < 1 || options.batch < 1) refuse("samples and batch must be at least 1");
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature))
    refuse("temperature must be 0 or more, finite");
  if (options.max_new_tokens < 0) refuse("max_new_tokens must be 0 or more");
  if (prompts.offsets.empty() || prompts.offsets.front() != 0 ||
      prompts.offsets.back() != static_cast<std::int64_t>(prompts.tokens.size()))
    refuse("offsets must go from 0 to the number of tokens");
  const std::size_t prompt_count = prompts.offsets.size() - 1;
  if (!prompt_ids.empty() && prompt_ids.size() != prompt_count) refuse("wants an id for every prompt");
  if (!options.longest.empty() && options.longest.size() != prompt_count)
    refuse("wants a longest sequence for every prompt");
  if (mixed.other != nullptr) {
    if (!(mixed.other->net.options() == model.net.options()))
      refuse("two models are mixed that have not the same sizes");
    if (!std::isfinite(mixed.power) || !std::isfinite(mixed.other_power)) refuse("powers must be finite");
  }
  for (const std::int32_t token : prompts.tokens)
    if (token < 0 || token >= model.net.options().vocabulary) refuse("a token is outside the vocabulary");

  job<Scalar> work{model, prompts,    options,
                   mixed, prompt_ids, sizes<Scalar>(model.net.options()),
                   {},    {},         rlhf::random_numbers(options.key),
                   0,     0,          {},
                   {},    {},         {}};
  const auto sequences = static_cast<std::ptrdiff_t>(prompt_count) * options.samples;
  work.batch = std::min<std::ptrdiff_t>(options.batch, sequences);
  for (std::ptrdiff_t s = 0; s < sequences; s += options.samples) {
    if (work.prompt_length(s) < 1) refuse("a prompt is empty");
    if (work.prompt_length(s) >= work.n.context) refuse("a prompt leaves no room in the context");
    if (work.prompt_length(s) >= work.limit(s)) refuse("a prompt is as long as its longest sequence");
    work.longest = std::max<std::ptrdiff_t>(work.longest, work.limit(s));
  }
  const auto cells = static_cast<std::size_t>(sequences * work.longest);
  work.tokens.resize(cells);
  work.logp.resize(cells);
  work.lengths.resize(static_cast<std::size_t>(sequences));
  work.finished.resize(static_cast<std::size_t>(sequences));
  for (std::ptrdiff_t s = 0; s < sequences; ++s)
    std::copy_n(prompts.tokens.begin() + prompts.offsets[work.prompt_of(s)], work.prompt_length(s),
                work.tokens.begin() + s * work.longest);
  work.weights.take(work.n, model.parameters.data(), model.net.storage());
  if (mixed.other != nullptr)
    work.other_weights.take(work.n, mixed.other->parameters.data(), mixed.other->net.storage());

  scratch_memory<Scalar> scratch;
  scratch.reserve(pool.size(), work.scratch());
  pool.run(sequences == 0 ? 0 : (sequences + work.batch - 1) / work.batch, [&](std::int64_t i) {
    const flushed_subnormals flushed;
    const typename scratch_memory<Scalar>::lease leased(scratch);
    const std::ptrdiff_t first = i * work.batch;
    work.run(first, std::min(work.batch, sequences - first), leased.pieces());
  });

  rollout<Scalar> out;
  for (std::ptrdiff_t s = 0; s < sequences; ++s) {
    const std::span<const std::int32_t> row(work.tokens.data() + s * work.longest,
                                            static_cast<std::size_t>(work.lengths[static_cast<std::size_t>(s)]));
    out.sequences.append(row);
    out.prompt_lengths.push_back(work.prompt_length(s));
    const Scalar* const logp = work.logp.data() + s * work.longest;
    out.logp.insert(out.logp.end(), logp + work.prompt_length(s), logp + row.size());
  }
  out.finished = std::move(work.finished);
  out.completion = predict(out.sequences, out.prompt_lengths);
  return out;
}

template rollout<float> sample(rlhf::thread_pool&, const language_model<float>&, const token_batch&,
                               const sampling_options&, std::span<const std::uint32_t>, const sampling_mixture<float>&);
template rollout<double> sample(rlhf::thread_pool&, const language_model<double>&, const token_batch&,
                                const sampling_options&, std::span<const std::uint32_t>,
                                const sampling_mixture<double>&);

}  // namespace align
