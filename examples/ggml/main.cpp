// A language model of ggml and a critic that is also ggml's, trained by the loops of train/ (../words_training.hpp says how).

#include "../words_training.hpp"
#include "models.hpp"

int main() {
  using policy = ggml_example::ggml_policy;
  constexpr std::int64_t width = 16;
  policy p(words::vocabulary, width, words::vocabulary, 1);
  ggml_example::ggml_critic values(words::vocabulary, width, 1, 2);
  const auto copy = [](policy& other) {
    policy q(words::vocabulary, width, words::vocabulary, 1);
    std::ranges::copy(other.parameters(), q.parameters().begin());
    return q;
  };
  return words::train(p, copy, values);
}
