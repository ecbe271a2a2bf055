#include "align/data/bag_of_words.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "align/data/words.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/train/preference.hpp"

namespace align {

namespace {

using word_index = std::unordered_map<std::string, std::int32_t>;

template <class F>
void for_each_word(std::string_view text, F&& f) {
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && (is_word_byte(text[end]) || text[end] == '\'')) ++end;
    if (end > i) f(lowered(text.substr(i, end - i)));
    i = std::max(end, i + 1);
  }
}

/// A number for each word that stands in enough responses, in alphabetical order.
word_index number_words(std::span<const preference> pairs, std::int64_t least_count) {
  std::map<std::string, std::int64_t> counts;
  const auto count = [&](const std::string& response) {
    std::set<std::string> seen;
    for_each_word(response, [&](std::string word) { seen.insert(std::move(word)); });
    for (const std::string& word : seen) ++counts[word];
  };
  for (const preference& pair : pairs) {
    count(pair.chosen);
    count(pair.rejected);
  }
  word_index index;
  for (const auto& [word, n] : counts)
    if (n >= least_count) index.emplace(word, static_cast<std::int32_t>(index.size()));
  return index;
}

std::vector<std::int32_t> known_words(const word_index& index, std::string_view text) {
  std::vector<std::int32_t> words;
  for_each_word(text, [&](const std::string& word) {
    if (const auto found = index.find(word); found != index.end()) words.push_back(found->second);
  });
  return words;
}

/// The tokens of a response are its words; models rlhf::trainable_reward.
class word_scores {
 public:
  explicit word_scores(std::size_t words) : weights_(words), gradient_(words) {}
  void rewards(const rlhf::responses& r, std::span<float> out) {
    last_ = &r;
    for (std::int64_t i = 0; i < r.size(); ++i) {
      double sum = 0;
      for (const std::int32_t word : r.response(i))
        sum += static_cast<double>(weights_[static_cast<std::size_t>(word)]);
      out[static_cast<std::size_t>(i)] = static_cast<float>(sum);
    }
  }
  void backward_rewards(std::span<const float> gradient) {
    for (std::int64_t i = 0; i < last_->size(); ++i)
      for (const std::int32_t word : last_->response(i))
        gradient_[static_cast<std::size_t>(word)] += gradient[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] std::span<float> parameters() { return weights_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }

 private:
  std::vector<float> weights_, gradient_;
  const rlhf::responses* last_ = nullptr;
};

}  // namespace

bag_of_words bag_of_words::fit(std::span<const preference> pairs, const bag_of_words_options& options) {
  if (pairs.empty()) throw std::invalid_argument("bag_of_words: there are no pairs to learn from");
  bag_of_words out;
  out.index_ = number_words(pairs, options.least_count);
  rlhf::preference_pairs data;
  const std::vector<std::int32_t> no_prompt{
      0};  // every response wants a token before it; the model does not look at it
  for (const preference& pair : pairs) {
    data.chosen.add(no_prompt, known_words(out.index_, pair.chosen));
    data.rejected.add(no_prompt, known_words(out.index_, pair.rejected));
  }
  word_scores model(out.index_.size());
  const rlhf::loop_options loop{.batch = options.batch, .epochs = options.epochs, .key = {.seed = options.seed}};
  rlhf::parameter_update update{
      rlhf::linear_schedule{.rate = options.rate, .total = rlhf::minibatches(data.chosen.size(), loop)},
      rlhf::adamw{{.weight_decay = options.weight_decay}}};
  rlhf::reference_backend backend;
  rlhf::train_reward_model(backend, model, update, data, loop);
  out.weights_.assign(model.parameters().begin(), model.parameters().end());
  return out;
}

double bag_of_words::score(std::string_view response) const {
  double sum = 0;
  for (const std::int32_t word : known_words(index_, response))
    sum += static_cast<double>(weights_[static_cast<std::size_t>(word)]);
  return sum;
}

double bag_of_words::weight(const std::string& word) const {
  const auto found = index_.find(word);
  return found == index_.end() ? 0 : static_cast<double>(weights_[static_cast<std::size_t>(found->second)]);
}

}  // namespace align
