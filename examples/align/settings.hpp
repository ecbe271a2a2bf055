#pragma once
// What a user may ask of rlhf-align: the command line, or a file of the same names.

#include <cstdint>
#include <string>
#include <vector>

#include "align/recipe.hpp"

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
  bool overoptimise = false;                             ///< also chase rewards too far, on purpose
  std::uint64_t seed = 1;
  int threads = 2;
  std::int64_t pass_tokens =
      24576;  ///< of one pass of a model that learns; more take several, their gradients added up
  std::string activations = "float32";  ///< how they are kept for the backward pass: float32 or bfloat16
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

/// What the command line asks for.
struct request {
  settings run;
  std::vector<std::string> compare = {};  ///< folders of finished runs to join; then nothing is trained
  int exit = -1;                          ///< 0 or more: nothing is left to do (help, --print-config, an error)
};

/// Reads the command line. Says what is wrong with it, and what the nearest right name is, on standard error.
[[nodiscard]] request read_command_line(int argc, char** argv);

/// The settings that change what a run computes, as `name=value` lines in a fixed order. Files are named by a sum of what they
/// hold, so that a run may be moved.
[[nodiscard]] std::vector<std::string> identity(const settings& s);

}  // namespace align
