#pragma once
// What a user may ask of rlhf-align: the command line, or a file of the same names.

#include <cstdint>
#include <string>
#include <vector>

#include "align/run/recipe.hpp"

namespace align {

/// What a run works on.
enum class subject {
  names,    ///< the character model of first names that comes with rlhf; its reward is learned from labels
  stories,  ///< a pretrained model, its reward the sentiment of a lexicon
  pairs     ///< a pretrained model and the user's own preferences
};

struct settings {
  std::string model = {}, tokenizer = {}, lexicon = {};  ///< files of a pretrained model
  std::string pairs = {}, eval_pairs = {};               ///< files of preferences
  bool skip_bad = false;                                 ///< malformed rows are counted and passed over
  std::string data = {};                                 ///< folder of names; empty: the one of the source tree
  std::vector<std::string> algorithms = {};              ///< in this order; empty: the subject's own list
  std::string sampler = "vanilla";                       ///< of pairs, for online DPO
  std::string reward_loss = "bradley_terry";             ///< of reward models learned from pairs
  std::string ppo_reward = "true";                       ///< what PPO learns from
  std::string ppo_recipe = "plain";                      ///< PPO's option set: plain, or PPO-max
  std::string rto_mode = "dense";                        ///< where RTO pays the DPO policy's rewards
  std::string dvpo_labels = "pairs";                     ///< what its value learns
  std::string drto_unit = "span";                        ///< what DRTO weighs as one
  std::string dvpo_advantage = "gae";                    ///< what DVPO makes of its frozen value
  double temperature = 1;                                ///< of the samples that policies learn from
  std::int64_t top_k = 0;                                ///< most probable tokens that those keep; 0: all
  double top_p = 1;                                      ///< share of the tokens that those keep; 1: all
  bool overoptimise = false;                             ///< also chase rewards too far, on purpose
  std::uint64_t seed = 1;
  int threads = 2;
  std::int64_t pass_tokens =
      24576;  ///< of one pass of a model that learns; more take several, their gradients added up
  std::string activations = "float32";  ///< how they are kept for the backward pass: float32 or bfloat16
  std::string parameters = "float32";   ///< how passes and sampling read them: float32 or bfloat16
  bool quick = false;
  std::string out = "out";
  bool resume = false;     ///< go on from the newest checkpoint of `out`, if there is one
  bool anew = false;       ///< start again even if `out` holds an unfinished run
  std::int64_t keep = 2;   ///< checkpoints kept
  std::int64_t every = 0;  ///< updates between checkpoints besides those at every evaluation; 0: none besides
  bool plan = false;       ///< say what the run will take, and stop
  recipe how = {};

  [[nodiscard]] align::subject subject() const {
    return !pairs.empty() ? subject::pairs : !model.empty() ? subject::stories : subject::names;
  }
};

/// One of several ways to align that are compared: an algorithm, with settings of its own.
struct variant {
  std::string label = {};                 ///< of its folder and its curve
  std::string algorithm = {};             ///< by name
  std::vector<std::string> options = {};  ///< `name=value`, beside the settings that all have
};

/// Settings to try for one label of a comparison, in place of its own.
struct trial {
  std::string label = {};
  std::vector<std::string> options = {};
};

/// How values and gradients are measured: see value_study.hpp.
struct value_study {
  std::vector<std::int64_t> rollouts = {1, 2, 4, 9, 16};  ///< the K of VinePPO
  std::int64_t truth = 256;                               ///< rollouts that a state's true value is the mean of
  std::int64_t states = 64;                               ///< whose values are judged
  std::int64_t batches = 16;                              ///< gradients whose variance is taken
  std::int64_t responses = 16;                            ///< of a gradient
};

/// What the command line asks for.
struct request {
  settings run;
  std::vector<std::string> compare = {};  ///< folders of finished runs to join; then nothing is trained
  std::vector<variant> variants = {};     ///< to be run with every seed, and joined
  std::vector<std::uint64_t> seeds = {};
  std::vector<trial> trials = {};  ///< each label has as many; empty: nothing is tuned
  std::vector<std::uint64_t> tuning_seeds = {};
  bool values = false;  ///< measure values and gradients
  value_study study = {};
  int exit = -1;  ///< 0 or more: nothing is left to do (help, --print-config, an error)
};

/// Reads the command line. Says what is wrong with it, and what the nearest right name is, on standard error.
[[nodiscard]] request read_command_line(int argc, char** argv);

/// Settings with some others in their place, each `name=value` as on the command line. Throws std::invalid_argument: a name
/// that does not exist, with the nearest one, or a value that is none.
[[nodiscard]] settings with_options(const settings& s, const std::vector<std::string>& options);
/// `[LABEL=]ALGORITHM[:NAME=VALUE]...`; a name may leave out the algorithm's own: `rto:mode=semi` is `rto:rto-mode=semi`. Throws
/// std::invalid_argument.
[[nodiscard]] variant variant_of(const std::string& text);
/// `LABEL:NAME=VALUE...`, of one of the variants. Throws std::invalid_argument.
[[nodiscard]] trial trial_of(const std::string& text, const std::vector<variant>& variants);
/// The same label with the trial's settings in the place of its own.
[[nodiscard]] variant with_trial(const variant& v, const trial& t);
/// `1..5` or `1,3,7..9`: whole numbers, each once. Throws std::invalid_argument.
[[nodiscard]] std::vector<std::uint64_t> seeds_of(const std::string& text);
/// The settings of a comparison without those that only methods read, DPO's excepted: what comes before all methods depends on
/// nothing else.
[[nodiscard]] settings shared_settings(const settings& all, const variant& one);

/// The settings that change what a run computes, as `name=value` lines in a fixed order. Files are named by a sum of what they
/// hold, so that a run may be moved.
[[nodiscard]] std::vector<std::string> identity(const settings& s);

}  // namespace align
