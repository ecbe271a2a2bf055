#include "align/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "align/buffer.hpp"
#include "align/subnormals.hpp"
#include "align/weights.hpp"

namespace align {

namespace {

[[noreturn]] void refuse(const char* what) { throw std::invalid_argument(std::string("sample: ") + what); }

/// What all threads read, and the cells that each of them fills for its own sequences.
template <class Scalar>
struct job {
  const language_model<Scalar>& model;
  const token_batch& prompts;
  const sampling_options& options;
  std::span<const std::uint32_t> prompt_ids;
  sizes<Scalar> n;
  forward_weights<Scalar> weights;
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
    if (options.max_new_tokens == 0) return n.context;
    return std::min<std::int64_t>(n.context, prompt_length(sequence) + options.max_new_tokens);
  }
  [[nodiscard]] std::ptrdiff_t scratch() const {
    const std::ptrdiff_t rows = batch, room = padded<Scalar>(longest), pieces = 14;
    return rows * (4 * n.wide + n.wide_qkv + 3 * n.wide_hidden + n.vocabulary + 2) + room +
           padded<Scalar>(n.vocabulary) + n.layers * rows * 2 * n.kv * room + pieces * arena<Scalar>::rounded(1);
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
  const std::ptrdiff_t room = padded<Scalar>(longest), group = n.heads / n.kv_heads;
  const auto factor = 1 / std::sqrt(static_cast<Scalar>(n.head_width));
  layer_memory<Scalar> m{};
  m.input = m.output = pieces.take(count * n.wide);
  m.attention_scale = pieces.take(count);
  m.qkv = pieces.take(count * n.wide_qkv);
  m.attended = pieces.take(count * n.wide);
  m.middle = pieces.take(count * n.wide);
  m.ffn_scale = pieces.take(count);
  m.gate_up = pieces.take(count * 2 * n.wide_hidden);
  Scalar* const normalized = pieces.take(count * n.wide);
  Scalar* const activation = pieces.take(count * n.wide_hidden);
  Scalar* const logits = pieces.take(count * n.vocabulary);
  Scalar* const scores = pieces.take(room);
  Scalar* const probability = pieces.take(padded<Scalar>(n.vocabulary));
  Scalar* const keys = pieces.take(n.layers * count * n.kv * room);    // [layers, sequences, kv, room]
  Scalar* const values = pieces.take(n.layers * count * room * n.kv);  // [layers, sequences, room, kv]

  std::vector<std::ptrdiff_t> live, drawing;
  std::vector<std::int32_t> positions;
  for (std::ptrdiff_t slot = 0; slot < count; ++slot) live.push_back(slot);
  for (std::ptrdiff_t position = 0; !live.empty(); ++position) {
    const auto rows = static_cast<std::ptrdiff_t>(live.size());
    positions.assign(live.size(), static_cast<std::int32_t>(position));
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      const std::ptrdiff_t sequence = first + live[static_cast<std::size_t>(i)];
      const std::int32_t token = tokens[static_cast<std::size_t>(sequence * longest + position)];
      const Scalar* const from = model.parameters.data() + token * n.dimension;
      Scalar* const to = m.input + i * n.wide;
      std::copy(from, from + n.dimension, to);
      std::fill(to + n.dimension, to + n.wide, Scalar{0});
    }
    for (std::ptrdiff_t l = 0; l < n.layers; ++l) {
      const auto attend = [&] {
        for (std::ptrdiff_t i = 0; i < rows; ++i) {
          const std::ptrdiff_t cache = (l * count + live[static_cast<std::size_t>(i)]) * n.kv * room;
          const Scalar* const query = m.qkv + i * n.wide_qkv;
          const Scalar* const key = query + n.dimension;
          const Scalar* const value = key + n.kv;
          for (std::ptrdiff_t j = 0; j < n.kv; ++j) keys[cache + j * room + position] = key[j];
          std::copy(value, value + n.kv, values + cache + position * n.kv);
          for (std::ptrdiff_t head = 0; head < n.heads; ++head) {
            const std::ptrdiff_t shared = head / group * n.head_width, width = padded<Scalar>(position + 1);
            multiply(1, n.head_width, width, query + head * n.head_width, n.wide_qkv, keys + cache + shared * room,
                     room, scores, room);
            softmax(position + 1, width, factor, scores);
            multiply(1, position + 1, n.head_width, scores, room, values + cache + shared, n.kv,
                     m.attended + i * n.wide + head * n.head_width, n.wide);
          }
        }
      };
      layer_forward(n, weights.layer[static_cast<std::size_t>(l)], rows, positions.data(), model.net.rotations().data(),
                    m, normalized, activation, attend);
    }
    // Only the sequences that have reached the end of their prompt need logits; they move to the front.
    drawing.clear();
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      if (position + 1 < prompt_length(first + live[static_cast<std::size_t>(i)])) continue;
      std::copy(m.output + i * n.wide, m.output + (i + 1) * n.wide,
                m.middle + static_cast<std::ptrdiff_t>(drawing.size()) * n.wide);
      drawing.push_back(live[static_cast<std::size_t>(i)]);
    }
    const auto drawn = static_cast<std::ptrdiff_t>(drawing.size());
    rms_norm(drawn, n.dimension, m.middle, weights.final_norm.data(), n.epsilon, normalized, m.ffn_scale);
    multiply(drawn, normalized, n.wide, weights.head, logits, n.vocabulary);
    for (std::ptrdiff_t i = 0; i < drawn; ++i) {
      const std::ptrdiff_t sequence = first + drawing[static_cast<std::size_t>(i)];
      choose(sequence, position + 1, logits + i * n.vocabulary, probability);
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
                       const sampling_options& options, std::span<const std::uint32_t> prompt_ids) {
  if (options.samples < 1 || options.batch < 1) refuse("samples and batch must be at least 1");
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature))
    refuse("temperature must be 0 or more, finite");
  if (options.max_new_tokens < 0) refuse("max_new_tokens must be 0 or more");
  if (prompts.offsets.empty() || prompts.offsets.front() != 0 ||
      prompts.offsets.back() != static_cast<std::int64_t>(prompts.tokens.size()))
    refuse("offsets must go from 0 to the number of tokens");
  const std::size_t prompt_count = prompts.offsets.size() - 1;
  if (!prompt_ids.empty() && prompt_ids.size() != prompt_count) refuse("wants an id for every prompt");
  for (const std::int32_t token : prompts.tokens)
    if (token < 0 || token >= model.net.options().vocabulary) refuse("a token is outside the vocabulary");

  job<Scalar> work{model,
                   prompts,
                   options,
                   prompt_ids,
                   sizes<Scalar>(model.net.options()),
                   {},
                   rlhf::random_numbers(options.key),
                   0,
                   0,
                   {},
                   {},
                   {},
                   {}};
  const auto sequences = static_cast<std::ptrdiff_t>(prompt_count) * options.samples;
  work.batch = std::min<std::ptrdiff_t>(options.batch, sequences);
  for (std::ptrdiff_t s = 0; s < sequences; s += options.samples) {
    if (work.prompt_length(s) < 1) refuse("a prompt is empty");
    if (work.prompt_length(s) >= work.n.context) refuse("a prompt leaves no room in the context");
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
  work.weights.take(work.n, model.parameters.data());

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
                               const sampling_options&, std::span<const std::uint32_t>);
template rollout<double> sample(rlhf::thread_pool&, const language_model<double>&, const token_batch&,
                                const sampling_options&, std::span<const std::uint32_t>);

}  // namespace align
