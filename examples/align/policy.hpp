#pragma once
// The transformer seen through the library's policy concepts: everything between tokens and losses is rlhf's.

#include <algorithm>
#include <span>
#include <stdexcept>
#include <vector>

#include "align/models.hpp"
#include "align/sampling.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/policy/concepts.hpp"

namespace align {

/// Views of the sequences [first, last) of some responses as the model takes them, and the rows that predict the response
/// tokens: element t of the response frame is predicted at the token before it.
struct model_batch {
  std::vector<std::int64_t> offsets = {0};
  std::span<const std::int32_t> tokens = {};
  std::vector<std::int64_t> rows = {};
  std::vector<std::int32_t> targets = {};
  std::vector<std::int32_t> kept = {};  ///< the tokens, where they are not a view of the responses'

  /// Without the last token of every sequence, which predicts nothing.
  [[nodiscard]] static model_batch of_states(const rlhf::responses& r, std::int64_t first, std::int64_t last) {
    model_batch out(r, first, last);
    std::vector<std::int64_t> offsets = {0}, rows;
    for (std::size_t i = 0; i + 1 < out.offsets.size(); ++i) {
      const std::int64_t begin = out.offsets[i], end = out.offsets[i + 1];
      const auto prompt = static_cast<std::int64_t>(r.prompt(first + static_cast<std::int64_t>(i)).size());
      for (std::int64_t t = begin; t + 1 < end; ++t) {
        if (t - begin + 1 >= prompt) rows.push_back(static_cast<std::int64_t>(out.kept.size()));
        out.kept.push_back(out.tokens[static_cast<std::size_t>(t)]);
      }
      offsets.push_back(static_cast<std::int64_t>(out.kept.size()));
    }
    out.offsets = std::move(offsets);
    out.rows = std::move(rows);
    out.tokens = out.kept;
    return out;
  }
  model_batch(const model_batch&) = delete;
  model_batch& operator=(const model_batch&) = delete;
  model_batch(model_batch&&) = default;

  model_batch(const rlhf::responses& r, std::int64_t first, std::int64_t last) {
    const auto at = [&](std::int64_t i) { return r.offsets()[static_cast<std::size_t>(i)]; };
    tokens = r.tokens().subspan(static_cast<std::size_t>(at(first)), static_cast<std::size_t>(at(last) - at(first)));
    for (std::int64_t i = first; i < last; ++i) {
      offsets.push_back(at(i + 1) - at(first));
      const std::int64_t begin = at(i) - at(first) + static_cast<std::int64_t>(r.prompt(i).size());
      for (std::int64_t t = begin; t < offsets.back(); ++t) {
        rows.push_back(t - 1);
        targets.push_back(tokens[static_cast<std::size_t>(t)]);
      }
    }
  }
  [[nodiscard]] operator token_batch() const { return {tokens, offsets}; }
  [[nodiscard]] std::vector<std::int64_t> last_rows() const { return last_tokens(offsets); }
};

/// What is scored at once: so that a data set needs the memory of a part.
inline constexpr std::int64_t part_sequences = 1024, part_tokens = 24576;

/// Calls `f(first, last)` for parts of at most so many sequences and tokens, one sequence at least.
template <class F>
void in_parts(const rlhf::responses& batch, F&& f) {
  const auto offsets = batch.offsets();
  for (std::int64_t first = 0, last; first < batch.size(); first = last) {
    last = first + 1;
    const auto tokens = [&] {
      return offsets[static_cast<std::size_t>(last) + 1] - offsets[static_cast<std::size_t>(first)];
    };
    while (last < batch.size() && last - first < part_sequences && tokens() <= part_tokens) ++last;
    f(first, last);
  }
}
/// Is all of it one part?
[[nodiscard]] inline bool one_part(const rlhf::responses& batch) {
  return batch.size() <= part_sequences && static_cast<std::int64_t>(batch.tokens().size()) <= part_tokens;
}

/// The same responses, their prompts read from further on where prompt and response together are longer than the context
/// (KTO puts responses behind prompts that they were not cut for).
[[nodiscard]] inline rlhf::responses fitted(const rlhf::responses& batch, std::int64_t context) {
  const auto size = [&](std::int64_t i) {
    return static_cast<std::int64_t>(batch.prompt(i).size() + batch.response(i).size());
  };
  bool fits = true;
  for (std::int64_t i = 0; i < batch.size(); ++i) fits = fits && size(i) <= context;
  if (fits) return batch;
  rlhf::responses out;
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    const auto prompt = batch.prompt(i);
    const auto over = std::clamp<std::int64_t>(size(i) - context, 0, static_cast<std::int64_t>(prompt.size()) - 1);
    out.add(prompt.subspan(static_cast<std::size_t>(over)), batch.response(i));
  }
  return out;
}

/// Where a completion ends.
struct sampling_limits {
  int new_tokens = 0;          ///< at most so many; 0: when the context is full
  std::int32_t end_token = 1;  ///< its last token; negative: no token ends it
};

/// A language model as a policy that scores, learns and samples. `Backend` does the log-softmax and its gradient.
template <rlhf::backend Backend>
class language_policy {
 public:
  language_policy(Backend& backend, rlhf::thread_pool& pool, language_model<float> model, sampling_limits limits = {})
      : backend_(&backend),
        pool_(&pool),
        model_(std::move(model)),
        limits_(limits),
        gradient_(model_.parameters.size()) {}

  [[nodiscard]] const language_model<float>& model() const { return model_; }
  [[nodiscard]] std::span<float> parameters() { return model_.parameters; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }

  void log_probs(const rlhf::responses& batch, std::span<float> out) {
    last_ = fitted(batch, model_.net.options().context);
    std::size_t done = 0;
    in_parts(last_, [&](std::int64_t first, std::int64_t last) {
      const std::size_t tokens = score(first, last);
      std::copy_n(logp_.begin(), tokens, out.begin() + static_cast<std::ptrdiff_t>(done));
      done += tokens;
    });
    whole_ = one_part(last_);
  }

  void backward(std::span<const float> grad_logp) {
    std::size_t done = 0;
    in_parts(last_, [&](std::int64_t first, std::int64_t last) {
      if (!whole_) score(first, last);  // only the last part's activations were kept
      const model_batch part(last_, first, last);
      const auto rows = static_cast<std::int64_t>(part.rows.size());
      if (rows == 0) return;
      const rlhf::view<float, 2> logits{logits_.data(), rows, vocabulary()};
      rlhf::or_throw(rlhf::token_logp_backward(
          *backend_, {.logits = logits, .target = part.targets},
          {.lse = {lse_.data(), rows}, .grad_logp = {grad_logp.data() + done, rows}}, logits));
      model_.backward(*pool_, work_,
                      {.rows = part.rows, .logits = {logits_.data(), static_cast<std::size_t>(rows * vocabulary())}},
                      gradient_);
      done += static_cast<std::size_t>(rows);
    });
    whole_ = false;  // the logits hold their gradient now
  }

  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    return sample(prompts, n, key, limits_);
  }
  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key,
                                       sampling_limits limits) {
    return draw(prompts, n, key, limits, {});
  }
  /// Each sequence with its prompt at most as long as `longest` [prompts] says.
  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key,
                                       std::span<const std::int64_t> longest) {
    return draw(prompts, n, key, limits_, {.longest = longest});
  }
  /// From this policy to the power `power` times another one to `other_power`, token by token.
  [[nodiscard]] rlhf::responses sample_mixture(const language_policy& other, double power, double other_power,
                                               const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    return draw(prompts, n, key, limits_, {.mixed = {&other.model_, power, other_power}});
  }
  /// The most likely token every time.
  [[nodiscard]] rlhf::responses greedy(const rlhf::prompt_list& prompts) {
    return draw(prompts, 1, {}, limits_, {.temperature = 0});
  }

 private:
  struct way_to_draw {
    double temperature = 1;
    std::span<const std::int64_t> longest = {};
    sampling_mixture<float> mixed = {};
  };
  [[nodiscard]] rlhf::responses draw(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key,
                                     sampling_limits limits, const way_to_draw& how) {
    token_sequences starts;
    for (const auto& prompt : prompts) starts.append(prompt);
    const rollout<float> drawn = align::sample(*pool_, model_, starts,
                                               {.samples = static_cast<int>(n),
                                                .temperature = how.temperature,
                                                .max_new_tokens = limits.new_tokens,
                                                .end_token = limits.end_token,
                                                .key = key,
                                                .longest = how.longest},
                                               {}, how.mixed);
    rlhf::responses out;
    for (std::size_t i = 0; i < drawn.sequences.size(); ++i) {
      const auto whole = drawn.sequences[i];
      const auto prompt = static_cast<std::size_t>(drawn.prompt_lengths[i]);
      out.add(whole.first(prompt), whole.subspan(prompt));
    }
    return out;
  }

  [[nodiscard]] std::int64_t vocabulary() const { return model_.net.options().vocabulary; }

  /// Forward pass of a part of the last batch: logits, log-probabilities, log-sum-exps.
  std::size_t score(std::int64_t first, std::int64_t last) {
    const model_batch part(last_, first, last);
    const auto rows = static_cast<std::int64_t>(part.rows.size());
    model_.forward(*pool_, part, work_);
    logits_.resize(static_cast<std::size_t>(rows * vocabulary()));
    logp_.resize(static_cast<std::size_t>(rows));
    lse_.resize(static_cast<std::size_t>(rows));
    model_.logits(*pool_, work_, part.rows, logits_);
    rlhf::or_throw(rlhf::token_logp(*backend_, {.logits = {logits_.data(), rows, vocabulary()}, .target = part.targets},
                                    {.logp = logp_, .lse = lse_}));
    return static_cast<std::size_t>(rows);
  }

  Backend* backend_;
  rlhf::thread_pool* pool_;
  language_model<float> model_;
  sampling_limits limits_;
  std::vector<float> gradient_;
  workspace<float> work_;
  rlhf::responses last_;
  std::vector<float> logits_, logp_, lse_;
  bool whole_ = false;
};

/// A scalar model as a critic (a value at each prediction) and as a reward model (the value at the last token).
class scalar_policy {
 public:
  /// `reads_last` false: values are asked for sequences whose last token does not count, and may not fit the context.
  scalar_policy(rlhf::thread_pool& pool, scalar_model<float> model, bool reads_last = true)
      : pool_(&pool), model_(std::move(model)), gradient_(model_.parameters.size()), reads_last_(reads_last) {}

  [[nodiscard]] const scalar_model<float>& model() const { return model_; }
  [[nodiscard]] std::span<float> parameters() { return model_.parameters; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }

  void values(const rlhf::responses& batch, std::span<float> out) { read(batch, out, true); }
  void backward_values(std::span<const float> gradient) { backward(gradient); }
  void rewards(const rlhf::responses& batch, std::span<float> out) { read(batch, out, false); }
  void backward_rewards(std::span<const float> gradient) { backward(gradient); }

 private:
  [[nodiscard]] model_batch take(const rlhf::responses& batch, std::int64_t first, std::int64_t last) const {
    return every_token_ && !reads_last_ ? model_batch::of_states(batch, first, last) : model_batch(batch, first, last);
  }
  void read(const rlhf::responses& batch, std::span<float> out, bool every_token) {
    last_ = batch;
    every_token_ = every_token;
    std::size_t done = 0;
    in_parts(batch, [&](std::int64_t first, std::int64_t last) {
      const model_batch part = take(batch, first, last);
      const std::vector<std::int64_t> rows = every_token ? part.rows : part.last_rows();
      model_.forward(*pool_, part, work_);
      model_.values(work_, rows, out.subspan(done, rows.size()));
      done += rows.size();
    });
    whole_ = one_part(batch);
  }
  void backward(std::span<const float> gradient) {
    std::size_t done = 0;
    in_parts(last_, [&](std::int64_t first, std::int64_t last) {
      const model_batch part = take(last_, first, last);
      const std::vector<std::int64_t> rows = every_token_ ? part.rows : part.last_rows();
      if (!whole_) model_.forward(*pool_, part, work_);
      model_.backward(*pool_, work_, rows, gradient.subspan(done, rows.size()), gradient_);
      done += rows.size();
    });
  }

  rlhf::thread_pool* pool_;
  scalar_model<float> model_;
  std::vector<float> gradient_;
  workspace<float> work_;
  rlhf::responses last_;
  bool reads_last_ = true;
  bool every_token_ = false;
  bool whole_ = false;
};

}  // namespace align
