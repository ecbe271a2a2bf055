// Methods that learn from a fixed set: of pairs, or of labelled responses.

#include <utility>

#include "align/methods/methods.hpp"
#include "rlhf/algorithm/wpo.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/preference.hpp"

namespace align {
namespace {

/// The log-probability of a response, sums over its tokens.
struct scored_response {
  double logp, ref_logp, tokens;
};

/// How a policy ranks the held-out pairs by the reward that its loss takes it for: `implicit(scored_response)`, as a logit.
template <class Implicit>
void implicit_accuracy(workshop& w, const std::string& method, policy& model, const Implicit& implicit) {
  const rlhf::preference_pairs& held_out = w.subject.reward.held_out;
  if (!w.subject.judge_pairs || held_out.chosen.size() == 0) return;
  const uncounted these = w.judging();
  const auto scores = [&](const rlhf::responses& r) {
    std::vector<float> logp(static_cast<std::size_t>(r.response_tokens())), ref(logp.size()),
        out(static_cast<std::size_t>(r.size()));
    model.log_probs(r, logp);
    w.start().log_probs(r, ref);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto begin = static_cast<std::size_t>(r.response_offsets()[i]),
                 end = static_cast<std::size_t>(r.response_offsets()[i + 1]);
      scored_response one{0, 0, std::max(1.0, static_cast<double>(end - begin))};
      for (std::size_t k = begin; k < end; ++k) {
        one.logp += static_cast<double>(logp[k]);
        one.ref_logp += static_cast<double>(ref[k]);
      }
      out[i] = static_cast<float>(implicit(one));
    }
    return out;
  };
  w.results().tables[method] = w.subject.judge_pairs(scores(held_out.chosen), scores(held_out.rejected), {});
}

/// Any loss of pairs; `implicit` is the reward that its policy stands for (implicit_accuracy).
template <class Loss, class Implicit>
policy learn_pairs(workshop& w, const std::string& method, const dpo_recipe& how, const Loss& loss,
                   const Implicit& implicit) {
  if (w.done(method)) return w.loaded(method);
  policy model = w.copy();
  const rlhf::preference_pairs& pairs = w.pairs();
  rlhf::loop_options loop{.batch = how.batch, .epochs = how.epochs, .key = w.key(dpo_order)};
  const auto steps = rlhf::minibatches(pairs.chosen.size(), loop);
  rlhf::parameter_update update{rlhf::linear_schedule{.rate = how.rate, .warmup = 5, .total = steps},
                                {{.weight_decay = 0}}};
  course way(w, method, model, {{"policy", model.parameters(), &update.optimiser}}, steps, loop.epochs,
             pairs.chosen.response_tokens() + pairs.rejected.response_tokens());
  loop.done = way.at().steps;
  rlhf::train_preference(w.cpu, model, w.start(), update, pairs, loop, loss, way);
  implicit_accuracy(w, method, model, implicit);
  way.finish();
  model.use(w.scoring);  // who goes on with it reads it only
  return model;
}

/// beta log(pi / pi_start).
struct log_ratio {
  double beta;
  double operator()(const scored_response& y) const { return beta * (y.logp - y.ref_logp); }
};

/// Any loss of single responses. KTO puts them behind each other's prompts.
template <class Loss>
void learn_labels(workshop& w, const std::string& method, const rlhf::labelled_responses& data, const Loss& loss) {
  if (w.done(method)) return;
  policy model = w.copy();
  rlhf::loop_options loop{.batch = 2 * w.sizes.dpo.batch, .epochs = w.sizes.dpo.epochs, .key = w.key(dpo_order)};
  const auto steps = rlhf::minibatches(data.response.size(), loop);
  rlhf::parameter_update update{rlhf::linear_schedule{.rate = w.sizes.dpo.rate, .warmup = 5, .total = steps},
                                {{.weight_decay = 0}}};
  course way(w, method, model, {{"policy", model.parameters(), &update.optimiser}}, steps, loop.epochs,
             data.response.response_tokens());
  loop.done = way.at().steps;
  model.cut_prompts(true);
  const bool before = w.start().cut_prompts(true);
  rlhf::train_unpaired(w.cpu, model, w.start(), update, data, loop, loss, way);
  w.start().cut_prompts(before);
  way.finish();
}

}  // namespace

policy learn_dpo(workshop& w, const std::string& method, const dpo_recipe& how) {
  return learn_pairs(w, method, how, rlhf::dpo{.beta = how.beta}, log_ratio{how.beta});
}
void dpo(workshop& w) { (void)learn_dpo(w, "dpo", w.sizes.dpo); }

void ipo(workshop& w) {
  const double beta = w.sizes.ipo_beta;
  // Its optimum has p = 1/2 + beta h for a mean log-ratio that is h apart: to first order the logistic law of 4 beta h.
  (void)learn_pairs(w, "ipo", w.sizes.dpo, rlhf::preference_loss<rlhf::ipo>{{.beta = beta}},
                    [=](const scored_response& y) { return 4 * beta * (y.logp - y.ref_logp) / y.tokens; });
}
void simpo(workshop& w) {
  const rlhf::simpo objective{.beta = w.sizes.simpo_beta, .gamma = w.sizes.simpo_gamma};
  (void)learn_pairs(w, "simpo", w.sizes.dpo, rlhf::preference_loss<rlhf::simpo>{objective},
                    [=](const scored_response& y) { return objective.beta * y.logp / y.tokens; });
}
void orpo(workshop& w) {
  const double beta = w.sizes.orpo_beta;
  // Log-odds of the mean probability of a token.
  (void)learn_pairs(w, "orpo", w.sizes.dpo, rlhf::preference_loss<rlhf::orpo>{{.beta = beta}, {}, {.weight = 1}, {}},
                    [](const scored_response& y) { return y.logp / y.tokens - rlhf::log1mexp(y.logp / y.tokens); });
}

void wpo(workshop& w) {
  const rlhf::wpo weighed{rlhf::preference_loss<rlhf::dpo_sigmoid>{{.beta = w.sizes.dpo.beta}}};
  (void)learn_pairs(w, "wpo", w.sizes.dpo, weighed, log_ratio{w.sizes.dpo.beta});
}

void kto(workshop& w) { learn_labels(w, "kto", w.labels(), rlhf::unpaired_loss{rlhf::kto{.beta = w.sizes.dpo.beta}}); }

/// UNA on rewards: ratings are the probabilities of Bradley and Terry's law against the mean response.
void una(workshop& w) {
  rlhf::labelled_responses data{w.labels().response, {}, {}};
  std::vector<float> score(static_cast<std::size_t>(data.response.size()));
  w.reward().rewards(data.response, score);
  double mean = 0;
  for (const float s : score) mean += static_cast<double>(s) / static_cast<double>(score.size());
  for (const float s : score) data.label.push_back(static_cast<float>(rlhf::sigmoid(static_cast<double>(s) - mean)));
  learn_labels(w, "una", data, rlhf::unpaired_loss{rlhf::una_binary{.beta = w.sizes.dpo.beta}});
}

}  // namespace align
