// How exact theory's cost grows: soft value iteration with the states, Bradley-Terry's likelihood with items, labels.

#include <cmath>
#include <memory>

#include "buffers.hpp"
#include "rlhf/formulation/tabular.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/reward_learning.hpp"
#include "rlhf/theory/soft_value.hpp"
#include "table.hpp"

namespace bench {
namespace {

using namespace rlhf::theory;

volatile double sink = 0;  // what is written here was computed

constexpr std::int64_t actions = 100, successors = 10, sweeps = 10;

/// Cheap numbers in [0, 1) that differ.
struct cheap_numbers {
  std::uint32_t state = 1;
  double operator()() {
    state = state * 1664525u + 1013904223u;
    return static_cast<double>(state >> 8) * 0x1p-24;
  }
};

rlhf::sparse_mdp sparse(std::int64_t states) {
  cheap_numbers next;
  rlhf::sparse_mdp mdp(states);
  std::vector<rlhf::successor> to(successors);
  for (std::int64_t s = 0; s < states; ++s)
    for (std::int64_t a = 0; a < actions; ++a) {
      for (auto& [state, p] : to) {
        state = static_cast<std::int64_t>(next() * static_cast<double>(states));
        p = 1.0 / successors;
      }
      mdp.add(s, next(), to);
    }
  return mdp;
}

rlhf::dense_mdp dense(std::int64_t states) {
  cheap_numbers next;
  std::vector<double> p(static_cast<std::size_t>(states * actions * states)), rewards;
  for (auto row = p.begin(); row != p.end(); row += states) {
    double sum = 0;
    for (auto x = row; x != row + states; ++x) sum += * x = 0.1 + next();
    for (auto x = row; x != row + states; ++x) *x /= sum;
    rewards.push_back(next());
  }
  return {states, actions, std::move(p), std::move(rewards)};
}

template <class Mdp>
std::function<void()> value_iteration(std::shared_ptr<const Mdp> mdp) {
  return [=] { sink = soft_value_iteration(*mdp, {.discount = 0.99, .temperature = 0.1}, 1e-12, sweeps).value[0]; };
}

/// Wins of every item over every other one, `labels` comparisons of each pair.
matrix wins_of(Eigen::Index items, double labels) {
  matrix wins = matrix::Zero(items, items);
  for (Eigen::Index a = 0; a < items; ++a)
    for (Eigen::Index b = 0; b < items; ++b)
      if (a != b) wins(a, b) = labels * rlhf::sigmoid(2 * static_cast<double>(a - b) / static_cast<double>(items));
  return wins;
}

/// Expected wins of a ring of items and nine more pairs for each, at random.
sparse_wins graph_of(Eigen::Index items) {
  cheap_numbers next;
  sparse_wins wins{items, {}};
  for (Eigen::Index k = 0; k < 10 * items; ++k) {
    const Eigen::Index a = k % items,
                       b = k < items ? (a + 1) % items : static_cast<Eigen::Index>(next() * static_cast<double>(items));
    const double p = rlhf::sigmoid(std::sin(static_cast<double>(a)) - std::sin(static_cast<double>(b)));
    if (a != b) wins.counts.push_back({a, b, p}), wins.counts.push_back({b, a, 1 - p});
  }
  return wins;
}

/// How many sweeps of minorisation it takes to be as near to the most likely scores as 1e-8.
int sweeps_of_minorisation(const matrix& wins, const vector& scores) {
  int count = 0, wanted = 0;
  const vector centred = scores.array() - scores.mean();
  (void)fit_scores_by_minorisation(wins, 2000, [&](const vector& now) {
    ++count;
    if (wanted == 0 && (now - centred).cwiseAbs().maxCoeff() <= 1e-8) wanted = count;
  });
  return wanted > 0 ? wanted : count;
}

}  // namespace

void add_lab_contests(std::vector<contest>& contests, bool quick) {
  const char* const reading = "reading the transitions ten times";
  const std::string iteration = "lab/soft_value_iteration/";
  for (const std::int64_t states : {100, 1000, 10000}) {
    if (quick && states > 1000) continue;
    const auto mdp = std::make_shared<const rlhf::sparse_mdp>(sparse(states));
    const auto bytes = std::make_shared<buffer<rlhf::successor>>(static_cast<std::size_t>(mdp->pairs() * successors));
    contests.push_back({iteration + "sparse/" + std::to_string(states), reading, value_iteration(mdp), [=] {
                          for (int k = 0; k < sweeps; ++k)
                            sink = stream_read(bytes->data(), mdp->pairs() * successors * 4);
                        }});
  }
  for (const std::int64_t states : {100, 1000}) {
    if (quick && states > 100) continue;  // 0.8 GB of probabilities
    const auto mdp = std::make_shared<const rlhf::dense_mdp>(dense(states));
    contests.push_back({iteration + "dense/" + std::to_string(states), reading, value_iteration(mdp), [=] {
                          for (int k = 0; k < sweeps; ++k)
                            sink = stream_read(mdp->row(0, 0).data(), mdp->pairs() * states * 2);
                        }});
  }

  for (const Eigen::Index items : {10, 30, 100}) {
    if (quick && items > 30) continue;
    const auto wins = std::make_shared<const matrix>(wins_of(items, 50));
    const int rounds = sweeps_of_minorisation(*wins, fit_scores(rlhf::bradley_terry{}, *wins).theta);
    contests.push_back({"lab/bt_mle/items/" + std::to_string(items), "minorisation to the same scores, within 1e-8",
                        [=] { sink = fit_scores(rlhf::bradley_terry{}, *wins).theta[0]; },
                        [=] { sink = fit_scores_by_minorisation(*wins, rounds, [](const vector&) {})[0]; }});
  }
  for (const Eigen::Index items : {1000, 10000}) {
    if (quick && items > 1000) continue;
    const auto wins = std::make_shared<const sparse_wins>(graph_of(items));
    const auto bytes = static_cast<std::int64_t>(wins->counts.size() * sizeof(win_count));
    contests.push_back({"lab/bt_mle/graph/" + std::to_string(items), "reading the counts ten times",
                        [=] { sink = fit_scores(rlhf::bradley_terry{}, *wins).theta[0]; },
                        [=] {
                          for (int k = 0; k < 10; ++k) sink = stream_read(wins->counts.data(), bytes / 4);
                        }});
  }
  for (const Eigen::Index labels : {1000, 10000, 100000}) {
    if (quick && labels > 10000) continue;
    constexpr Eigen::Index features = 16;
    cheap_numbers next;
    const auto data = std::make_shared<comparisons>();
    data->difference.resize(labels, features);
    for (Eigen::Index i = 0; i < labels; ++i) {
      for (Eigen::Index k = 0; k < features; ++k) data->difference(i, k) = next() - next();
      if (next() > rlhf::sigmoid(2 * data->difference(i, 0))) data->difference.row(i) *= -1;  // the winner comes first
    }
    const int steps = fit_reward(rlhf::bradley_terry{}, *data).steps;
    contests.push_back({"lab/bt_mle/labels/" + std::to_string(labels),
                        "reading the features once for each step of Newton",
                        [=] { sink = fit_reward(rlhf::bradley_terry{}, *data).theta[0]; },
                        [=] {
                          for (int k = 0; k < steps; ++k)
                            sink = stream_read(data->difference.data(), data->difference.size() * 2);
                        }});
  }
}

}  // namespace bench
