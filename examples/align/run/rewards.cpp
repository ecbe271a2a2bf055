// Which loss a reward model learns by.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <stdexcept>

#include "align/model/two_heads.hpp"
#include "align/run/algorithms.hpp"
#include "align/run/workshop.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/odin.hpp"
#include "rlhf/train/preference.hpp"

namespace align {
namespace {

/// A reward model that remembers what it scored last, for losses that look at the responses themselves.
struct attentive_model {
  scalar_policy* model;
  const rlhf::responses* last = nullptr;
  [[nodiscard]] std::span<float> parameters() { return model->parameters(); }
  [[nodiscard]] std::span<float> gradient() { return model->gradient(); }
  void rewards(const rlhf::responses& batch, std::span<float> out) {
    last = &batch;
    model->rewards(batch, out);
  }
  void backward_rewards(std::span<const float> g) { model->backward_rewards(g); }
};

/// The cosine of two responses' counts of tokens, in [0, 1].
double likeness(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  std::map<std::int32_t, std::pair<double, double>> counts;
  for (const std::int32_t token : a) ++counts[token].first;
  for (const std::int32_t token : b) ++counts[token].second;
  double both = 0, first = 0, second = 0;
  for (const auto& [token, n] : counts) {
    both += n.first * n.second;
    first += n.first * n.first;
    second += n.second * n.second;
  }
  return both > 0 ? std::min(1.0, both / std::sqrt(first * second)) : 0;
}

/// PCRM: the more alike two responses are, the closer their scores have to stay.
struct pcrm_loss {
  const attentive_model* model;
  template <class B>
  rlhf::status operator()(B& be, rlhf::score_inputs<float> in, const rlhf::score_outputs<float>& out) const {
    std::vector<float> similarity;
    for (std::int64_t i = 0; i < in.chosen.extent; ++i)
      similarity.push_back(
          static_cast<float>(likeness(model->last->response(i), model->last->response(in.chosen.extent + i))));
    in.margin = similarity;
    return rlhf::reward_loss<rlhf::prior_constrained>{{.from_similarity = true}}(be, in, out);
  }
};

/// Bradley-Terry with margins: those of the pairs, or the same for every pair.
struct margin_loss {
  double scale = 1;
  template <class B>
  rlhf::status operator()(B& be, rlhf::score_inputs<float> in, const rlhf::score_outputs<float>& out) const {
    std::vector<float> margin(static_cast<std::size_t>(in.chosen.extent), static_cast<float>(scale));
    if (in.margin)
      for (std::size_t i = 0; i < margin.size(); ++i) margin[i] *= in.margin.data[i];
    in.margin = margin;
    return rlhf::reward_loss<rlhf::bradley_terry>{{.center = 0.01, .use_margin = true}}(be, in, out);
  }
};

/// Bradley-Terry where a pair counts as much as the share of its votes.
struct agreement_loss {
  template <class B>
  rlhf::status operator()(B& be, rlhf::score_inputs<float> in, const rlhf::score_outputs<float>& out) const {
    in.weight = in.probability;
    return rlhf::reward_loss<rlhf::bradley_terry>{{.center = 0.01}}(be, in, out);
  }
};

/// Pairs as rankings of two.
struct ranked_loss {
  template <class B>
  rlhf::status operator()(B& be, const rlhf::score_inputs<float>& in, const rlhf::score_outputs<float>& out) const {
    const auto n = static_cast<std::size_t>(in.chosen.extent);
    std::vector<float> score(2 * n), slope(2 * n);
    double right = 0, gap = 0;
    for (std::size_t i = 0; i < n; ++i) {
      score[2 * i] = in.chosen.data[i];
      score[2 * i + 1] = in.rejected.data[i];
      right += score[2 * i] > score[2 * i + 1] ? 1 : 0;
      gap += static_cast<double>(score[2 * i] - score[2 * i + 1]);
    }
    if (auto s = rlhf::ranking_loss<rlhf::plackett_luce>{}(
            be, rlhf::padded(in.chosen.extent, 2), rlhf::ranking_inputs<float>{.score = score},
            rlhf::ranking_outputs<float>{.loss = out.loss, .grad_score = slope, .per_list = {}});
        !s)
      return s;
    for (std::size_t i = 0; i < n; ++i) {
      out.grad_chosen.data[i] = slope[2 * i];
      out.grad_rejected.data[i] = slope[2 * i + 1];
    }
    out.stats->add("accuracy", right, static_cast<double>(n));
    out.stats->add("margin", gap, static_cast<double>(n));
    return {};
  }
};

/// Pairs by how they ended: won or tied, whatever the shares of the votes.
rlhf::preference_pairs ended(const rlhf::preference_pairs& from) {
  rlhf::preference_pairs out;
  out.chosen = from.chosen;
  out.rejected = from.rejected;
  out.probability.assign(static_cast<std::size_t>(from.chosen.size()), 1.0f);
  for (std::size_t i = 0; i < from.probability.size(); ++i)
    if (from.probability[i] == 0.5f) out.probability[i] = 0.5f;
  return out;
}

/// Of the number of ties: it is a single one, which begins at the share that ties have.
constexpr double tie_rate = 0.02;

}  // namespace

win_law workshop::train_reward(const std::string& name, scalar_policy& model, const reward_data& data, int member) {
  const bool by_pairs = data.pairs.chosen.size() > 0;
  const std::int64_t items = by_pairs ? data.pairs.chosen.size() : data.labels.response.size();
  rlhf::loop_options loop{
      .batch = sizes.batch,
      .epochs = sizes.reward_epochs,
      .key = key(member == 0 ? std::uint64_t{reward_order} : member_order + static_cast<std::uint64_t>(member))};
  const auto steps = rlhf::minibatches(items, loop), epoch = std::max<std::int64_t>(1, steps / loop.epochs);
  rlhf::parameter_update update{rlhf::cosine_schedule{.rate = sizes.reward_rate, .warmup = 20, .total = steps}};
  std::optional<two_headed_policy> two_heads;
  if (by_pairs && asked.reward_loss == "odin") two_heads.emplace(pool, start().model(), key(head_start), valuing);
  rlhf::preference_pairs games;
  std::optional<rlhf::learned_tie<rlhf::cosine_schedule>> tie;
  if (by_pairs && knows_ties(asked.reward_loss)) {
    games = ended(data.pairs);
    tie.emplace();
    tie->parameter = rlhf::tie_start(games);
    tie->rate = {.rate = tie_rate, .warmup = 20, .total = steps};
  }
  std::vector<trained_part> parts{
      {"reward", two_heads ? two_heads->parameters() : model.parameters(), &update.optimiser}};
  if (tie) parts.push_back({"tie", tie->parameters(), &tie->optimiser});
  loop.done = folder.restore(name, parts).steps;
  progress_line line(name, steps, "updates", loop.done);
  const auto observe = [&](const rlhf::progress& p) {
    line.update(p.step, "loss " + number("%.3f", (*p.metrics)["loss"]));
    folder.log(name, p.step, *p.metrics);
    if (due(p.step) || p.step % epoch == 0) save(name, {p.step, 0}, parts);
  };
  const auto& loss_name = asked.reward_loss;
  const bool unheard = (loss_name == "votes" || loss_name == "agreement") && data.pairs.probability.empty();
  if (!quiet && !by_pairs && loss_name != "bradley_terry")
    std::fprintf(stderr, "%s: --reward-loss %s is of pairs; these are single labels, learned as outcomes\n",
                 name.c_str(), loss_name.c_str());
  if (!quiet && by_pairs && unheard)
    std::fprintf(stderr, "%s: these pairs have no votes for --reward-loss %s; learned as bradley_terry\n", name.c_str(),
                 loss_name.c_str());
  if (!by_pairs) {
    rlhf::train_reward_outcomes(cpu, model, update, data.labels, loop, observe);
    return {};
  }
  const auto learn = [&](const auto& loss) {
    rlhf::train_reward_model(cpu, model, update, data.pairs, loop, observe, loss);
  };
  if (asked.reward_loss == "bradley_terry") {
    learn(rlhf::reward_model{.objective = {.center = 0.01}});
  } else if (asked.reward_loss == "smoothed") {
    learn(rlhf::reward_model{.objective = {.label_smoothing = 0.1, .center = 0.01}});
  } else if (asked.reward_loss == "margin") {
    learn(margin_loss{sizes.reward_margin});
  } else if (asked.reward_loss == "agreement") {
    if (data.pairs.probability.empty())
      learn(rlhf::reward_model{.objective = {.center = 0.01}});
    else
      learn(agreement_loss{});
  } else if (asked.reward_loss == "votes") {
    learn(rlhf::reward_model{.objective = {.center = 0.01, .soft_labels = !data.pairs.probability.empty()}});
  } else if (asked.reward_loss == "odin") {
    const rlhf::odin_loss loss{{.orthogonality = sizes.odin_weight, .correlation = sizes.odin_weight}};
    // Its loss reads nothing but the pairs' order and lengths.
    rlhf::train_odin(cpu, *two_heads, update, {.chosen = data.pairs.chosen, .rejected = data.pairs.rejected}, loop,
                     observe, loss);
    const std::span<const float> left = two_heads->without_length();
    std::copy(left.begin(), left.end(), model.parameters().begin());
  } else if (asked.reward_loss == "thurstone") {
    learn(rlhf::reward_loss{rlhf::thurstone{}});
    return thurstone_log_odds;
  } else if (asked.reward_loss == "davidson") {
    rlhf::train_reward_model(cpu, model, update, games, loop, observe, rlhf::reward_loss{rlhf::davidson{}}, *tie);
  } else if (asked.reward_loss == "rao_kupper") {
    rlhf::train_reward_model(cpu, model, update, games, loop, observe, rlhf::reward_loss{rlhf::rao_kupper{}}, *tie);
  } else if (asked.reward_loss == "plackett_luce") {
    learn(ranked_loss{});
  } else if (asked.reward_loss == "pcrm") {
    attentive_model attentive{&model};
    rlhf::train_reward_model(cpu, attentive, update, data.pairs, loop, observe, pcrm_loss{&attentive});
  } else {
    throw std::invalid_argument("--reward-loss: there is no " + asked.reward_loss);
  }
  if (!tie) return {};
  const double x = static_cast<double>(tie->parameter);
  if (asked.reward_loss == "davidson") {
    tell_ties(name, games, x, tie->between_equals());
    return {};
  }
  const double log_theta = rlhf::softplus(x);
  tell_ties(name, games, log_theta, tie->between_equals());
  return [log_theta](double d) { return rao_kupper_log_odds(d, log_theta); };
}

void workshop::tell_ties(const std::string& name, const rlhf::preference_pairs& games, double number,
                         double between_equals) {
  const auto ties = std::count(games.probability.begin(), games.probability.end(), 0.5f);
  const bool theta = asked.reward_loss == "rao_kupper";
  results_.figures[name + "_ties"] = static_cast<double>(ties);
  results_.figures[name + (theta ? "_log_theta" : "_log_nu")] = number;
  results_.figures[name + "_tie_of_equals"] = between_equals;
  if (quiet) return;
  if (ties == 0)
    std::fprintf(stderr,
                 "%s: none of these pairs is a tie: --reward-loss %s learns just that, and is bradley_terry without "
                 "centring then\n",
                 name.c_str(), asked.reward_loss.c_str());
  std::fprintf(stderr, "%-14s %lld ties in %lld pairs: %s %.3f, two equals tie with probability %.3f\n", name.c_str(),
               static_cast<long long>(ties), static_cast<long long>(games.chosen.size()),
               theta ? "log theta" : "log nu", number, between_equals);
}

}  // namespace align
