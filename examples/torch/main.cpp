// A language model of libtorch and a critic that is also torch's, trained by the loops of train/ (../words_training.hpp says how).

#include "models.hpp"  // first: see there

#include "../words_training.hpp"

int main() {
  using policy = torch_example::torch_policy<torch_example::gru_network>;
  const auto network = [](std::int64_t outputs) {
    constexpr std::int64_t width = 32;
    return std::make_shared<torch_example::gru_network>(words::vocabulary, width, outputs);
  };
  torch::manual_seed(1);
  policy p(network(words::vocabulary));
  torch_example::torch_critic<torch_example::gru_network> values(network(1));
  const auto copy = [&](policy& other) {
    policy q(network(words::vocabulary));
    q.copy(other);
    return q;
  };
  return words::train(p, copy, values);
}
