#pragma once
// What a run works on: a model to start from, prompts, a reward, and how its tokens read.

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "align/data/calibration.hpp"
#include "align/model/transformer.hpp"
#include "align/run/run_folder.hpp"
#include "align/run/settings.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/preference.hpp"

namespace align {

/// What a reward is learned from: pairs, or single responses with a label where there are no pairs.
struct reward_data {
  rlhf::preference_pairs pairs = {}, held_out = {};
  rlhf::labelled_responses labels = {}, held_out_labels = {};
};

struct task {
  subject what = subject::names;
  transformer_options shape = {};
  std::vector<float> start = {};  ///< parameters of a pretrained model; empty: drawn at random
  /// What those are fitted to by SFT before anything else; empty: they are the start.
  rlhf::responses corpus = {}, corpus_held_out = {};

  /// The reward of a response, where it is a rule; else it is learned from these pairs.
  std::function<double(std::span<const std::int32_t> response)> rule = {};
  reward_data reward = {};
  /// Pairs for DPO; empty: samples of the start, judged by the reward.
  rlhf::preference_pairs preference = {};

  /// Prompts to train on and to judge by. With `begins` the start samples both itself, from the first token on.
  rlhf::prompt_list prompts = {}, judged_prompts = {};
  bool begins = false;

  std::int64_t new_tokens = 0;  ///< longest completion; 0: until the context is full
  std::int32_t end_token = 1;
  std::function<std::string(std::span<const std::int32_t>)> text = {};
  std::function<bool(std::int32_t token)> ends_segment = {};  ///< a sentence; of a name, a syllable

  std::vector<std::string> algorithms = {};  ///< that fit it, where the settings name none

  std::string title = {};  ///< of the report
  std::string story = {};  ///< its first paragraph, as HTML
  std::string unit = {};   ///< one response: "name", "story"
  /// How scores of `reward.held_out` rank it, and how their law's probabilities come true, as JSON; empty where that is of no
  /// interest.
  std::function<std::string(std::span<const float> chosen, std::span<const float> rejected, const win_law& law)>
      judge_pairs = {};
  std::map<std::string, std::string> tables = {};  ///< what reading the data found, as JSON
};

[[nodiscard]] task names_task(const settings& s);
[[nodiscard]] task stories_task(const settings& s);
[[nodiscard]] task pairs_task(const settings& s);
/// The one that the settings ask for.
[[nodiscard]] task task_of(const settings& s);

}  // namespace align
