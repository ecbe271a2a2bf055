#include "align/model/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "align/model/buffer.hpp"
#include "align/model/subnormals.hpp"
#include "align/model/weights.hpp"

namespace align {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("sample: " + what); }

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
  /// The sequence `to` has read the first `positions` tokens too, which are those of `from`.
  void share(std::ptrdiff_t from, std::ptrdiff_t to, std::ptrdiff_t positions);

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

template <class Scalar>
void reading<Scalar>::share(std::ptrdiff_t from, std::ptrdiff_t to, std::ptrdiff_t positions) {
  const std::ptrdiff_t each = n_.kv * room_;
  for (std::ptrdiff_t l = 0; l < n_.layers; ++l) {
    const std::ptrdiff_t source = (l * count_ + from) * each, target = (l * count_ + to) * each;
    for (std::ptrdiff_t j = 0; j < n_.kv; ++j)
      std::copy_n(keys_ + source + j * room_, positions, keys_ + target + j * room_);
    std::copy_n(values_ + source, positions * n_.kv, values_ + target);
  }
}

/// Where a sequence's beginning is read: by itself, or by an earlier sequence that begins like it.
struct beginning {
  std::ptrdiff_t from = 0;    ///< the sequence that reads it
  std::ptrdiff_t shared = 0;  ///< tokens that it reads for this one
};

/// The logit of the least probable token that top-k and top-p leave: rlhf::surviving_mass has the same rule. `order` is
/// scratch.
template <class Scalar>
Scalar lowest_kept(std::span<const Scalar> logits, const Scalar* probability, const sampling_options& options,
                   std::vector<std::int32_t>& order) {
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::size_t i) { return logits[static_cast<std::size_t>(order[i])]; };
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  std::size_t kept = order.size();
  if (options.top_k > 0 && options.top_k < static_cast<std::int64_t>(kept)) {
    kept = static_cast<std::size_t>(options.top_k);
    while (kept < order.size() && logit(kept) == logit(kept - 1)) ++kept;
  }
  if (options.top_p < 1) {
    double total = 0, sum = 0;
    for (std::size_t i = 0; i < kept; ++i) total += static_cast<double>(probability[order[i]]);
    std::size_t last = 0;
    while (last < kept && sum < options.top_p * total) sum += static_cast<double>(probability[order[last++]]);
    kept = std::max<std::size_t>(last, 1);
  }
  return logit(kept - 1);
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
  std::vector<Scalar> logp, support;  ///< [sequences, longest]
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

  [[nodiscard]] std::vector<beginning> beginnings(std::ptrdiff_t first, std::ptrdiff_t count) const;
  void choose(std::ptrdiff_t sequence, std::int64_t position, const Scalar* logits, Scalar* probability,
              std::vector<std::int32_t>& order);
  void run(std::ptrdiff_t first, std::ptrdiff_t count, arena<Scalar> pieces);
};

/// For each of the sequences [first, first + count), counted from `first`, the first one before it that shares the longest
/// beginning of its prompt. That one reads the last shared token itself: had it taken that from another sequence, the other
/// one would share as much, and be earlier.
template <class Scalar>
std::vector<beginning> job<Scalar>::beginnings(std::ptrdiff_t first, std::ptrdiff_t count) const {
  const auto prompt = [&](std::ptrdiff_t slot) {
    const std::size_t p = prompt_of(first + slot);
    return prompts.tokens.subspan(static_cast<std::size_t>(prompts.offsets[p]),
                                  static_cast<std::size_t>(prompts.offsets[p + 1] - prompts.offsets[p]));
  };
  std::vector<beginning> out;
  std::vector<std::ptrdiff_t> different;  // a sequence of each prompt
  for (std::ptrdiff_t slot = 0; slot < count; ++slot) {
    beginning own{.from = slot, .shared = 0};
    const auto mine = prompt(slot);
    for (const std::ptrdiff_t earlier : different) {
      const auto its = prompt(earlier);
      const auto shared = std::mismatch(mine.begin(), mine.end(), its.begin(), its.end()).first - mine.begin();
      if (shared > own.shared) own = {.from = earlier, .shared = shared};
    }
    if (slot == 0 || prompt_of(first + slot) != prompt_of(first + slot - 1)) different.push_back(slot);
    out.push_back(own);
  }
  return out;
}

/// Writes the token at `position`, its log-probability and the mass of what it was drawn from.
template <class Scalar>
void job<Scalar>::choose(std::ptrdiff_t sequence, std::int64_t position, const Scalar* logits, Scalar* probability,
                         std::vector<std::int32_t>& order) {
  const auto cell = static_cast<std::size_t>(sequence * longest + position);
  support[cell] = 1;
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
  const auto sum = [&] {
    double all = 0;
    for (std::ptrdiff_t v = 0; v < n.vocabulary; ++v) all += static_cast<double>(probability[v]);
    return all;
  };
  double total = sum();
  // Of numbers that are none nothing is the lowest.
  if ((options.top_k > 0 || options.top_p < 1) && std::isfinite(total)) {
    const Scalar lowest =
        lowest_kept(std::span(logits, static_cast<std::size_t>(n.vocabulary)), probability, options, order);
    for (std::ptrdiff_t v = 0; v < n.vocabulary; ++v)
      if (logits[v] < lowest) probability[v] = 0;
    const double left = sum();
    support[cell] = static_cast<Scalar>(left / total);
    total = left;
  }
  double below = 0;
  std::ptrdiff_t chosen = 0;
  for (std::ptrdiff_t v = 0; v < n.vocabulary && below <= uniform * total; ++v) {
    if (probability[v] > 0) chosen = v;
    below += static_cast<double>(probability[v]);
  }
  tokens[cell] = static_cast<std::int32_t>(chosen);
  logp[cell] = logits[chosen] * inverse - state.largest + std::log(state.scale);
  if (support[cell] < 1) logp[cell] = std::min<Scalar>(0, logp[cell] - std::log(support[cell]));
}

/// Completes `count` sequences from `first` on. All of them are at the same position at the same time; those whose
/// prompt goes on are fed from it, the others from what they drew. Whose beginning another one reads joins after that.
template <class Scalar>
void job<Scalar>::run(std::ptrdiff_t first, std::ptrdiff_t count, arena<Scalar> pieces) {
  const std::ptrdiff_t room = padded<Scalar>(longest);
  reading<Scalar> own(model, weights, n, count, room, pieces);
  std::optional<reading<Scalar>> other;
  if (mixed.other != nullptr) other.emplace(*mixed.other, other_weights, n, count, room, pieces);
  Scalar* const probability = pieces.take(padded<Scalar>(n.vocabulary));

  /// A sequence that draws, and the row of the logits that it draws from.
  struct drawing {
    std::ptrdiff_t slot, row;
  };
  const std::vector<beginning> begin = beginnings(first, count);
  std::vector<std::ptrdiff_t> open, live, rows;
  std::vector<std::ptrdiff_t> row_of(static_cast<std::size_t>(count));  // row of each sequence among the live ones
  std::vector<std::ptrdiff_t> known;                                    // row of a live one among the logits; -1: none
  std::vector<drawing> draws;
  std::vector<std::int32_t> now, order;
  for (std::ptrdiff_t slot = 0; slot < count; ++slot) open.push_back(slot);
  for (std::ptrdiff_t position = 0; !open.empty(); ++position) {
    live.clear();
    now.clear();
    for (const std::ptrdiff_t slot : open) {
      if (begin[static_cast<std::size_t>(slot)].shared > position) continue;
      row_of[static_cast<std::size_t>(slot)] = static_cast<std::ptrdiff_t>(live.size());
      live.push_back(slot);
      now.push_back(tokens[static_cast<std::size_t>((first + slot) * longest + position)]);
    }
    own.advance(now, live, position);
    if (other) other->advance(now, live, position);
    for (const std::ptrdiff_t slot : open) {
      const auto [from, shared] = begin[static_cast<std::size_t>(slot)];
      if (shared != position + 1) continue;
      row_of[static_cast<std::size_t>(slot)] = row_of[static_cast<std::size_t>(from)];
      own.share(from, slot, shared);
      if (other) other->share(from, slot, shared);
    }
    // Only the sequences that have reached the end of their prompt need logits; those that share a row need them once.
    rows.clear();
    draws.clear();
    known.assign(live.size(), -1);
    for (const std::ptrdiff_t slot : open) {
      if (begin[static_cast<std::size_t>(slot)].shared > position + 1 || position + 1 < prompt_length(first + slot))
        continue;
      const std::ptrdiff_t row = row_of[static_cast<std::size_t>(slot)];
      std::ptrdiff_t& found = known[static_cast<std::size_t>(row)];
      if (found < 0) {
        found = static_cast<std::ptrdiff_t>(rows.size());
        rows.push_back(row);
      }
      draws.push_back({slot, found});
    }
    Scalar* const logits = own.logits(rows);
    if (other) {
      const Scalar* const second = other->logits(rows);
      const auto power = static_cast<Scalar>(mixed.power), other_power = static_cast<Scalar>(mixed.other_power);
      for (std::ptrdiff_t k = 0; k < static_cast<std::ptrdiff_t>(rows.size()) * n.vocabulary; ++k)
        logits[k] = logits[k] * power + second[k] * other_power;
    }
    for (const drawing& draw : draws) {
      const std::ptrdiff_t sequence = first + draw.slot;
      choose(sequence, position + 1, logits + draw.row * n.vocabulary, probability, order);
      lengths[static_cast<std::size_t>(sequence)] = position + 2;
      finished[static_cast<std::size_t>(sequence)] =
          tokens[static_cast<std::size_t>(sequence * longest + position + 1)] == options.end_token;
    }
    std::erase_if(open, [&](std::ptrdiff_t slot) {
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
  if (options.top_k < 0) refuse("top_k must be 0 (all) or more");
  if (!(options.top_p > 0 && options.top_p <= 1)) refuse("top_p must be more than 0 and at most 1 (all)");
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
                   {},    {},         {},
                   {}};
  const auto sequences = static_cast<std::ptrdiff_t>(prompt_count) * options.samples;
  work.batch = std::min<std::ptrdiff_t>(options.batch, sequences);
  for (std::ptrdiff_t s = 0; s < sequences; s += options.samples) {
    if (work.prompt_length(s) < 1) refuse("a prompt is empty");
    if (work.prompt_length(s) >= work.n.context)
      refuse("prompt " + std::to_string(work.prompt_of(s)) + " has " + std::to_string(work.prompt_length(s)) +
             " tokens and leaves no room in the context of " + std::to_string(work.n.context));
    if (work.prompt_length(s) >= work.limit(s)) refuse("a prompt is as long as its longest sequence");
    work.longest = std::max<std::ptrdiff_t>(work.longest, work.limit(s));
  }
  const auto cells = static_cast<std::size_t>(sequences * work.longest);
  work.tokens.resize(cells);
  work.logp.resize(cells);
  work.support.resize(cells);
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
    const Scalar* const support = work.support.data() + s * work.longest;
    out.support.insert(out.support.end(), support + work.prompt_length(s), support + row.size());
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
