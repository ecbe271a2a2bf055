#pragma once
// The transformer seen through the library's policy concepts: everything between tokens and losses is rlhf's.

#include <algorithm>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "align/model/models.hpp"
#include "align/model/pass_memory.hpp"
#include "align/model/sampling.hpp"
#include "align/model/sampling_law.hpp"
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

/// Calls `f(first, last)` for parts of at most so many sequences and tokens, one sequence at least.
template <class F>
void in_parts(const rlhf::responses& batch, const pass_limits& most, F&& f) {
  const auto offsets = batch.offsets();
  for (std::int64_t first = 0, last; first < batch.size(); first = last) {
    last = first + 1;
    const auto tokens = [&] {
      return offsets[static_cast<std::size_t>(last) + 1] - offsets[static_cast<std::size_t>(first)];
    };
    while (last < batch.size() && last - first < most.sequences && tokens() <= most.tokens) ++last;
    f(first, last);
  }
}
/// What a pass over a batch that may be learned from keeps: a batch of several parts is computed again on the way back, part by
/// part, so that it needs the memory of one.
[[nodiscard]] inline activation_storage kept_of(const rlhf::responses& batch, const pass_limits& most) {
  const bool one = batch.size() <= most.sequences && static_cast<std::int64_t>(batch.tokens().size()) <= most.tokens;
  return one ? most.storage : activation_storage::none;
}
/// How much is computed at once where so much is kept.
[[nodiscard]] inline pass_limits at_once(activation_storage keep, const pass_limits& most) {
  pass_limits small = scoring_limits();
  small.tokens = std::min(small.tokens, most.tokens);
  return keep == activation_storage::none ? small : most;
}
/// What a pass keeps that is on its way back: as `storage`, or everything where models of that memory only score.
[[nodiscard]] inline activation_storage to_go_back(const pass_limits& how) {
  return how.storage == activation_storage::none ? activation_storage::full : how.storage;
}

/// Forward pass of a part of a batch: its logits, log-probabilities and log-sum-exps, in `memory`. Returns the number of the
/// pass; 0 where nothing was kept to go back by.
template <rlhf::backend Backend>
std::uint64_t score_part(Backend& backend, rlhf::thread_pool& pool, const language_model<float>& model,
                         const model_batch& part, activation_storage keep, pass_memory& memory) {
  const auto rows = static_cast<std::int64_t>(part.rows.size());
  const std::int64_t vocabulary = model.net.options().vocabulary;
  ++memory.pass;
  model.forward(pool, part, memory.work, keep);
  memory.logits.resize(static_cast<std::size_t>(rows * vocabulary));
  memory.logp.resize(part.rows.size());
  memory.lse.resize(part.rows.size());
  model.logits(pool, memory.work, part.rows, memory.logits);
  rlhf::or_throw(rlhf::token_logp(backend, {.logits = {memory.logits.data(), rows, vocabulary}, .target = part.targets},
                                  {.logp = memory.logp, .lse = memory.lse}));
  memory.count();
  return keep == activation_storage::none ? 0 : memory.pass;
}
/// The logits of that pass become the gradient of the loss by them, given that by the log-probabilities.
template <rlhf::backend Backend>
void logits_to_gradient(Backend& backend, const model_batch& part, std::span<const float> grad_logp,
                        pass_memory& memory) {
  const auto rows = static_cast<std::int64_t>(part.rows.size());
  const rlhf::view<float, 2> logits{memory.logits.data(), rows, static_cast<std::int64_t>(memory.logits.size()) / rows};
  rlhf::or_throw(rlhf::token_logp_backward(backend, {.logits = logits, .target = part.targets},
                                           {.lse = {memory.lse.data(), rows}, .grad_logp = {grad_logp.data(), rows}},
                                           logits));
}

/// The same responses, their prompts read from further on where prompt and response together are longer than the context.
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
  language_policy(Backend& backend, rlhf::thread_pool& pool, language_model<float> model, sampling_limits limits = {},
                  std::shared_ptr<pass_memory> memory = std::make_shared<pass_memory>())
      : backend_(&backend), pool_(&pool), model_(std::move(model)), limits_(limits), memory_(std::move(memory)) {}

  /// From now on its passes use that memory; returns the one before.
  std::shared_ptr<pass_memory> use(std::shared_ptr<pass_memory> memory) {
    pass_ = 0;
    return std::exchange(memory_, std::move(memory));
  }

  [[nodiscard]] const language_model<float>& model() const { return model_; }
  [[nodiscard]] std::span<float> parameters() { return model_.parameters; }
  /// Who only scores has none.
  [[nodiscard]] std::span<float> gradient() {
    gradient_.resize(model_.parameters.size());
    return gradient_;
  }

  [[nodiscard]] std::int32_t end_token() const { return limits_.end_token; }

  /// From now on prompts are read from further on where they and their responses are longer than the context, instead of
  /// being refused: KTO puts responses behind prompts that they were not cut for. Returns how it was before.
  bool cut_prompts(bool cut) { return std::exchange(cuts_, cut); }

  void log_probs(const rlhf::responses& batch, std::span<float> out) {
    memory_->count_model(model_.parameters);
    last_ = as_read(batch);
    std::size_t done = 0;
    const activation_storage keep = kept_of(last_, memory_->limits);
    in_parts(last_, at_once(keep, memory_->limits), [&](std::int64_t first, std::int64_t last) {
      pass_ = score_part(*backend_, *pool_, model_, model_batch(last_, first, last), keep, *memory_);
      std::copy(memory_->logp.begin(), memory_->logp.end(), out.begin() + static_cast<std::ptrdiff_t>(done));
      done += memory_->logp.size();
    });
  }

  /// log sum_v pi(v)^2 of every state, which WPO weighs by; no gradient goes through it.
  void log_square_sums(const rlhf::responses& batch, std::span<float> out) {
    look_at(batch, [&](const logits_view& logits, std::span<const std::int32_t> targets, std::size_t first) {
      const std::span<float> square_sum = out.subspan(first, targets.size());
      rlhf::or_throw(rlhf::token_logp(*backend_, {.logits = logits, .target = targets},
                                      {.logp = memory_->logp, .square_sum = square_sum}));
      for (float& x : square_sum) x = std::log(x);
    });
  }

  void backward(std::span<const float> grad_logp) {
    std::size_t done = 0;
    pass_memory& m = *memory_;
    in_parts(last_, m.limits, [&](std::int64_t first, std::int64_t last) {
      const model_batch part(last_, first, last);
      if (part.rows.empty()) return;
      if (!m.holds(pass_)) pass_ = score_part(*backend_, *pool_, model_, part, to_go_back(m.limits), m);
      logits_to_gradient(*backend_, part, grad_logp.subspan(done), m);
      pass_ = 0;  // the logits hold their gradient now
      model_.backward(*pool_, m.work, {.rows = part.rows, .logits = m.logits}, gradient());
      m.count();
      done += part.rows.size();
    });
  }

  /// From now on `sample` draws by that law; returns the one before. Mixtures and greedy responses have their own.
  sampling_law draw_by(sampling_law law) { return std::exchange(law_, law); }
  /// What those responses were drawn from, if `sample` drew them; false, and nothing is written: from the policy itself.
  [[nodiscard]] bool describe_sampling(const rlhf::responses& batch, std::span<float> logp, std::span<float> mass) {
    if (law_.plain()) return false;
    look_at(batch, [&](const logits_view& logits, std::span<const std::int32_t> targets, std::size_t first) {
      describe_draws(*backend_, logits, targets, law_, logp.subspan(first, targets.size()),
                     mass.subspan(first, targets.size()));
    });
    return true;
  }

  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    return sample(prompts, n, key, limits_);
  }
  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key,
                                       sampling_limits limits) {
    return draw(prompts, n, key, limits, {.law = law_});
  }
  /// At most most[i] tokens in each response to prompt i, in place of what the limits say.
  [[nodiscard]] rlhf::responses sample_at_most(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key,
                                               std::span<const std::int64_t> most) {
    std::vector<std::int64_t> longest(most.begin(), most.end());
    for (std::size_t i = 0; i < std::min(longest.size(), prompts.size()); ++i)
      longest[i] += static_cast<std::int64_t>(prompts[i].size());
    return draw(prompts, n, key, limits_, {.law = law_, .longest = longest});
  }
  /// From this policy to the power `power` times another one to `other_power`, token by token.
  [[nodiscard]] rlhf::responses sample_mixture(const language_policy& other, double power, double other_power,
                                               const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    return draw(prompts, n, key, limits_, {.mixed = {&other.model_, power, other_power}});
  }
  /// The most likely token every time.
  [[nodiscard]] rlhf::responses greedy(const rlhf::prompt_list& prompts) {
    return draw(prompts, 1, {}, limits_, {.law = {.temperature = 0}});
  }

 private:
  using logits_view = rlhf::view<const float, 2>;
  /// Passes over a batch that nothing learns from, part by part: `f(logits [rows, vocabulary], targets [rows], first)`, the
  /// first of its rows being number `first` of all response tokens.
  template <class F>
  void look_at(const rlhf::responses& batch, F&& f) {
    const rlhf::responses all = as_read(batch);
    std::size_t done = 0;
    in_parts(all, at_once(activation_storage::none, memory_->limits), [&](std::int64_t first, std::int64_t last) {
      const model_batch part(all, first, last);
      score_part(*backend_, *pool_, model_, part, activation_storage::none, *memory_);
      f(logits_view(memory_->logits.data(), static_cast<std::int64_t>(part.rows.size()),
                    model_.net.options().vocabulary),
        std::span<const std::int32_t>(part.targets), done);
      done += part.rows.size();
    });
  }

  struct way_to_draw {
    sampling_law law = {};
    std::span<const std::int64_t> longest = {};
    sampling_mixture<float> mixed = {};
  };
  [[nodiscard]] rlhf::responses draw(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key,
                                     sampling_limits limits, const way_to_draw& how) {
    memory_->count_model(model_.parameters);
    if (how.mixed.other != nullptr) memory_->count_model(how.mixed.other->parameters);
    token_sequences starts;
    for (const auto& prompt : prompts) starts.append(prompt);
    const rollout<float> drawn = align::sample(*pool_, model_, starts,
                                               {.samples = static_cast<int>(n),
                                                .temperature = how.law.temperature,
                                                .top_k = how.law.top_k,
                                                .top_p = how.law.top_p,
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

  [[nodiscard]] rlhf::responses as_read(const rlhf::responses& batch) const {
    const std::int64_t context = model_.net.options().context;
    if (cuts_) return fitted(batch, context);
    for (std::int64_t i = 0; i < batch.size(); ++i)
      if (const auto size = static_cast<std::int64_t>(batch.prompt(i).size() + batch.response(i).size());
          size > context)
        throw std::invalid_argument("language_policy: prompt and response " + std::to_string(i) + " have " +
                                    std::to_string(size) + " tokens, the context is " + std::to_string(context));
    return batch;
  }

  Backend* backend_;
  rlhf::thread_pool* pool_;
  language_model<float> model_;
  sampling_limits limits_;
  bool cuts_ = false;
  sampling_law law_ = {};
  std::vector<float> gradient_;
  std::shared_ptr<pass_memory> memory_;
  rlhf::responses last_;
  pass_number pass_;  ///< that left the activations of `last_`; 0: none did
};

/// A scalar model as a critic (a value at each prediction) and as a reward model (the value at the last token).
class scalar_policy {
 public:
  /// `reads_last` false: values are asked for sequences whose last token does not count, and may not fit the context.
  scalar_policy(rlhf::thread_pool& pool, scalar_model<float> model, bool reads_last = true,
                std::shared_ptr<pass_memory> memory = std::make_shared<pass_memory>())
      : pool_(&pool), model_(std::move(model)), memory_(std::move(memory)), reads_last_(reads_last) {}

  /// From now on its passes use that memory; returns the one before.
  std::shared_ptr<pass_memory> use(std::shared_ptr<pass_memory> memory) {
    pass_ = 0;
    return std::exchange(memory_, std::move(memory));
  }

  [[nodiscard]] const scalar_model<float>& model() const { return model_; }
  [[nodiscard]] std::span<float> parameters() { return model_.parameters; }
  /// Who only scores has none.
  [[nodiscard]] std::span<float> gradient() {
    gradient_.resize(model_.parameters.size());
    return gradient_;
  }

  void values(const rlhf::responses& batch, std::span<float> out) { read(batch, out, true); }
  void backward_values(std::span<const float> gradient) { backward(gradient); }
  void rewards(const rlhf::responses& batch, std::span<float> out) { read(batch, out, false); }
  void backward_rewards(std::span<const float> gradient) { backward(gradient); }

 private:
  [[nodiscard]] model_batch take(const rlhf::responses& batch, std::int64_t first, std::int64_t last) const {
    return every_token_ && !reads_last_ ? model_batch::of_states(batch, first, last) : model_batch(batch, first, last);
  }
  [[nodiscard]] std::vector<std::int64_t> rows_of(const model_batch& part) const {
    return every_token_ ? part.rows : part.last_rows();
  }
  void read(const rlhf::responses& batch, std::span<float> out, bool every_token) {
    memory_->count_model(model_.parameters);
    last_ = batch;
    every_token_ = every_token;
    std::size_t done = 0;
    const activation_storage keep = kept_of(last_, memory_->limits);
    in_parts(last_, at_once(keep, memory_->limits), [&](std::int64_t first, std::int64_t last) {
      const model_batch part = take(last_, first, last);
      const std::vector<std::int64_t> rows = rows_of(part);
      score(part, keep);
      model_.values(memory_->work, rows, out.subspan(done, rows.size()));
      done += rows.size();
    });
  }
  void backward(std::span<const float> slope) {
    std::size_t done = 0;
    in_parts(last_, memory_->limits, [&](std::int64_t first, std::int64_t last) {
      const model_batch part = take(last_, first, last);
      const std::vector<std::int64_t> rows = rows_of(part);
      if (!memory_->holds(pass_)) score(part, to_go_back(memory_->limits));
      pass_ = 0;  // the way back uses them up
      model_.backward(*pool_, memory_->work, rows, slope.subspan(done, rows.size()), gradient(), memory_->d_hidden);
      memory_->count();
      done += rows.size();
    });
  }
  void score(const model_batch& part, activation_storage keep) {
    ++memory_->pass;
    model_.forward(*pool_, part, memory_->work, keep);
    memory_->count();
    pass_ = keep == activation_storage::none ? 0 : memory_->pass;
  }

  rlhf::thread_pool* pool_;
  scalar_model<float> model_;
  std::vector<float> gradient_;
  std::shared_ptr<pass_memory> memory_;
  rlhf::responses last_;
  bool reads_last_ = true;
  bool every_token_ = false;
  pass_number pass_;  ///< that left the activations of `last_`; 0: none did
};

}  // namespace align
