#pragma once
// The baseline of a reward model: which words the better responses have more of.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "align/data/preferences.hpp"

namespace align {

struct bag_of_words_options {
  std::int64_t least_count = 2;  ///< words in fewer training responses are left out
  std::int64_t epochs = 10;
  std::int64_t batch = 64;
  double rate = 3e-3;        ///< of AdamW, falling to 0 in a straight line
  double weight_decay = 10;  ///< of AdamW: the regularisation
  std::uint64_t seed = 1;    ///< of the order
};

/// Bradley-Terry over word counts: the score of a response is the sum over its words of a weight for each word, so that a
/// pair sees the difference of the two counts only. The prompt is not looked at. Words are runs of letters, digits and
/// apostrophes, in lower case. It is trained by rlhf::train_reward_model like any reward model; what keeps the weights
/// small is AdamW's weight decay, which draws them to 0 at every step, whatever the gradient.
class bag_of_words {
 public:
  /// Fits the weights. Throws std::invalid_argument when there are no pairs.
  [[nodiscard]] static bag_of_words fit(std::span<const preference> pairs, const bag_of_words_options& options = {});

  [[nodiscard]] double score(std::string_view response) const;
  [[nodiscard]] std::size_t words() const { return weights_.size(); }
  /// The weight of a word; 0 for one that is not known.
  [[nodiscard]] double weight(const std::string& word) const;

 private:
  std::unordered_map<std::string, std::int32_t> index_;
  std::vector<float> weights_;
};

}  // namespace align
