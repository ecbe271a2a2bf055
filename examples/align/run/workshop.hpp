#pragma once
// What all methods of a run share: the start, the reward, the pairs, the folder and the bookkeeping.

#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "align/model/policy.hpp"
#include "align/run/progress.hpp"
#include "align/run/reward_function.hpp"
#include "align/run/run_folder.hpp"
#include "align/run/settings.hpp"
#include "align/run/streams.hpp"
#include "align/run/task.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/train/evaluate.hpp"
#include "rlhf/train/rollout.hpp"

namespace align {

using policy = language_policy<rlhf::eigen_backend>;

/// A clock that can be stopped while something is measured.
class stopwatch {
 public:
  explicit stopwatch(double before = 0) : total_(before) {}
  void stop() {
    total_ += running();
    on_ = false;
  }
  void go() {
    start_ = clock::now();
    on_ = true;
  }
  [[nodiscard]] double seconds() const { return total_ + (on_ ? running() : 0); }

 private:
  using clock = std::chrono::steady_clock;
  [[nodiscard]] double running() const { return std::chrono::duration<double>(clock::now() - start_).count(); }
  clock::time_point start_ = clock::now();
  double total_ = 0;
  bool on_ = true;
};

/// Memory for the passes of the policy that learns, of a critic beside it, and of all that only score.
struct pass_memories {
  std::shared_ptr<pass_memory> learning, valuing, scoring;
};
[[nodiscard]] pass_memories new_memories(const settings& s);
/// Gives it back to the system, as is done before every method.
void release(const pass_memories& all);

/// How passes of all models read their parameters.
[[nodiscard]] parameter_storage storage_of(const settings& s);

/// `x` as printf has it.
[[nodiscard]] std::string number(const char* format, double x);

/// The memory of passes as it is counted: what is done while it lives is not.
class uncounted {
 public:
  explicit uncounted(std::vector<std::shared_ptr<pass_memory>> all) : all_(std::move(all)) {
    for (const auto& one : all_) before_.push_back(one->counted);
  }
  ~uncounted() {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      all_[i]->forget();
      all_[i]->counted = std::move(before_[i]);
    }
  }
  uncounted(const uncounted&) = delete;
  uncounted& operator=(const uncounted&) = delete;

 private:
  std::vector<std::shared_ptr<pass_memory>> all_;
  std::vector<pass_count> before_;
};

/// The place where methods work. The start, the reward, the pairs and the labels are made when they are first asked for.
class workshop {
 public:
  workshop(const settings& s, const task& t, run_folder& to, bool silent = false)
      : workshop(s, t, to, silent, new_memories(s)) {}
  workshop(const settings& s, const task& t, run_folder& to, bool silent, const pass_memories& memories);
  workshop(const workshop&) = delete;
  workshop& operator=(const workshop&) = delete;

  const settings& asked;
  const recipe& sizes;
  const task& subject;
  run_folder& folder;
  const bool quiet;  ///< says nothing of what was reached
  rlhf::thread_pool pool;
  rlhf::eigen_backend cpu;
  const std::shared_ptr<pass_memory> learning, valuing, scoring;

  [[nodiscard]] rlhf::random_key key(std::uint64_t which) const { return {asked.seed, which}; }
  [[nodiscard]] sampling_limits limits() const { return {static_cast<int>(subject.new_tokens), subject.end_token}; }
  /// How far a policy may move within an iteration, as loops want it.
  [[nodiscard]] double stop_kl() const {
    return sizes.stop_kl > 0 ? sizes.stop_kl : std::numeric_limits<double>::infinity();
  }
  /// Tokens of the longest response.
  [[nodiscard]] std::int64_t longest() const;

  /// The model that every method starts from and is held against.
  [[nodiscard]] policy& start();
  [[nodiscard]] const reward_function& reward();
  /// Pairs of the task; where it has none, samples of the start that the reward judged.
  [[nodiscard]] const rlhf::preference_pairs& pairs();
  /// Labelled responses of the task; where it has none, those of the pairs.
  [[nodiscard]] const rlhf::labelled_responses& labels();
  /// The prompts of iteration i: `n` of them, 0: as many as the settings say.
  [[nodiscard]] rlhf::prompt_list prompts(std::int64_t i, std::int64_t n = 0);
  /// A reward model from pairs, or from labels where there are only those; the file of an earlier one where there is one.
  /// `member` of an ensemble has an order of its own; 0: none.
  [[nodiscard]] scalar_policy model_reward(const std::string& name, const reward_data& data, int member = 0);

  /// How the policies draw that learn from their samples; everyone else draws from the policy itself.
  [[nodiscard]] sampling_law sampling() const { return {asked.temperature, asked.top_k, asked.top_p}; }

  /// A copy of the start, to learn.
  [[nodiscard]] policy copy() {
    policy out(cpu, pool, start().model(), limits(), learning);
    out.draw_by(sampling());
    return out;
  }
  /// A value model with the start's trunk. `reads_last` as scalar_policy has it.
  [[nodiscard]] scalar_policy new_critic(bool reads_last = true) {
    return scalar_policy(pool, scalar_model<float>(start().model()), reads_last, valuing);
  }

  /// One that goes on from the reward model, where the reward is learned.
  [[nodiscard]] scalar_policy critic_of_reward() {
    (void)reward();
    return learned_ ? scalar_policy(pool, learned_->model(), true, valuing) : new_critic();
  }

  void measure_start();
  void best_of_n();
  /// Adds a point to a method's curve; every curve begins at the start.
  void measure(const std::string& method, policy& model, stage_position at, std::int64_t iteration, double seconds,
               const reward_function* proxy = nullptr);
  /// Keeps some samples as text, and says what was reached.
  void show(const std::string& method, policy& model);

  [[nodiscard]] bool done(const std::string& stage) const { return folder.finished(stage); }
  void close(const std::string& stage) { folder.finish(stage, results_, all_.seconds()); }
  void save(const std::string& stage, stage_position at, const std::vector<trained_part>& parts) {
    folder.save(stage, at, parts, results_, all_.seconds());
  }
  /// Writes a finished model, and says that its stage is over.
  void keep(const std::string& name, const policy& model);
  [[nodiscard]] policy loaded(const std::string& name);
  /// Between evaluations: is it time for a checkpoint?
  [[nodiscard]] bool due(std::int64_t step) const { return asked.every > 0 && step % asked.every == 0; }
  /// Seconds that a method took before this process.
  [[nodiscard]] double seconds_of(const std::string& method) const;

  /// The passes that judge a method are not its own: while what this returns lives they are not counted.
  [[nodiscard]] uncounted judging() const { return uncounted({learning, valuing, scoring}); }
  /// From now on memory is counted for a new method.
  void count_memory();
  /// What was counted since, of a method that trains `parts`.
  [[nodiscard]] method_memory counted_memory(const std::vector<trained_part>& parts) const;

  [[nodiscard]] run_results& results() { return results_; }
  void finish_run();

 private:
  [[nodiscard]] rlhf::prompt_list judged_prompts(std::int64_t n);
  /// Of the start's responses to the judged prompts, drawn with numbers of their own.
  [[nodiscard]] const std::vector<float>& scores_to_beat();
  void begin_prompts();
  /// The pretrained model, or one drawn at random.
  [[nodiscard]] language_model<float> first_model() const;
  /// Nats per token.
  [[nodiscard]] static double loss_of(policy& model, const rlhf::responses& text);
  [[nodiscard]] policy fine_tune();
  [[nodiscard]] rlhf::preference_pairs judged_pairs();
  /// The law that its scores are learned by.
  [[nodiscard]] win_law train_reward(const std::string& name, scalar_policy& model, const reward_data& data,
                                     int member);
  /// Says how common ties were, and what was learned of them; `number` is log nu or log theta.
  void tell_ties(const std::string& name, const rlhf::preference_pairs& games, double number, double between_equals);
  void judge_by_pairs(const std::string& name, scalar_policy& model, const rlhf::preference_pairs& held_out,
                      const win_law& law);
  void judge_by_labels(const std::string& name, scalar_policy& model, const rlhf::labelled_responses& held_out);
  void told(const std::string& name, const char* of, double right, std::size_t all);

  std::optional<policy> start_;
  bool prompts_begun_ = false;
  rlhf::prompt_list prompts_, judged_;
  std::optional<scalar_policy> learned_;
  std::optional<reward_function> reward_;
  std::optional<rlhf::preference_pairs> pairs_;
  std::optional<rlhf::labelled_responses> labels_;
  std::vector<float> scores_to_beat_;
  run_results results_;
  stopwatch all_;
};

/// The way of one method through its updates or iterations, as an observer of the library's loops: where it goes on, what it
/// tells, its metrics, evaluations and checkpoints, and its model at the end.
class course {
 public:
  /// Of a method that samples: evaluated after every iteration, by the side of `proxy` where it learns from another reward.
  course(workshop& w, std::string method, policy& model, std::vector<trained_part> parts,
         const reward_function* proxy = nullptr);
  /// Of one that learns from a fixed set of `tokens` response tokens in `steps` updates, `epochs` times over.
  course(workshop& w, std::string method, policy& model, std::vector<trained_part> parts, std::int64_t steps,
         std::int64_t epochs, std::int64_t tokens);

  /// Where the loop begins.
  [[nodiscard]] stage_position at() const { return at_; }
  /// Both say whether to go on: not when the last evaluation found the model further from the start than it may go.
  bool operator()(const rlhf::iteration& i);
  bool operator()(const rlhf::progress& p);
  /// Shows and keeps the model.
  void finish();

 private:
  void note_memory();
  [[nodiscard]] bool too_far();

  workshop& w_;
  std::string method_;
  policy& model_;
  std::vector<trained_part> parts_;
  const reward_function* proxy_ = nullptr;
  std::int64_t every_ = 1, epochs_ = 1, tokens_ = 0;
  stage_position at_;
  stopwatch watch_;
  progress_line line_;
};

}  // namespace align
