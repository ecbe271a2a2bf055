#include "align/run/settings.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <type_traits>

#include "align/run/algorithms.hpp"

namespace align {
namespace {

constexpr const char* methods_group = "Methods (docs/formulas)";

constexpr const char* description =
    "Aligns a language model and reports how: supervised start, reward, then DPO, REBEL, PPO and RTO, or any that "
    "--list "
    "names, with best-of-n beside them.\n"
    "Without --model it fits a character model to English first names and learns its reward from labels; with "
    "--model,\n"
    "--tokenizer and --lexicon it aligns a pretrained model to sentiment; with --pairs it learns from your own "
    "preferences.";

/// Six digits where they read back the same, else as many as it takes.
std::string in_decimal(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%g", x);
  if (std::strtod(text, nullptr) == x) return text;
  const auto end = std::to_chars(text, text + sizeof text, x);
  return {text, end.ptr};
}

/// Every option that a file may hold too, bound to `s`; what it says in `s` is the default.
void declare(CLI::App& app, settings& s) {
  const auto add = [&](const char* name, auto& value, const char* help) {
    CLI::Option* const option = app.add_option(name, value, help)->capture_default_str();
    if constexpr (!CLI::detail::is_mutable_container<std::remove_reference_t<decltype(value)>>::value)
      option->take_last();
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, double>)
      option->default_str(in_decimal(value));
    return option;
  };
  const CLI::Range some(std::int64_t{1}, std::int64_t{1} << 40), none_or_some(std::int64_t{0}, std::int64_t{1} << 40);
  const CLI::Range positive(1e-12, 1e6), non_negative(0.0, 1e6);

  add("--model", s.model,
      "pretrained model: llama2.c's .bin (stories260K.bin of huggingface.co/karpathy/tinyllamas) or Llama .safetensors")
      ->check(CLI::ExistingFile)
      ->group("What to align");
  add("--tokenizer", s.tokenizer, "its tokenizer: llama2.c's .bin (tok512.bin of the same place)")
      ->check(CLI::ExistingFile)
      ->group("What to align");
  add("--lexicon", s.lexicon,
      "word, tab, valence: vader_lexicon.txt of github.com/cjhutto/vaderSentiment; the reward is a text's sentiment")
      ->check(CLI::ExistingFile)
      ->group("What to align");
  add("--pairs", s.pairs,
      "preferences to learn from: .jsonl or .json, may be gzipped, in TRL's, ShareGPT's and other forms "
      "(docs/preference-data.md)")
      ->check(CLI::ExistingFile)
      ->group("What to align");
  add("--eval-pairs", s.eval_pairs, "preferences to judge the result by; default: a fifth of the prompts of --pairs")
      ->check(CLI::ExistingFile)
      ->group("What to align");
  app.add_flag("--skip-bad", s.skip_bad, "count malformed rows of --pairs and go on")->group("What to align");
  add("--data", s.data, "folder with female.txt and male.txt, a name a line; default: the names that come with rlhf")
      ->group("What to align");

  add("--algorithm", s.algorithms,
      "one of --list; several with commas; default: dpo, rebel, ppo and rto, or of --pairs dpo and kto")
      ->delimiter(',')
      ->check(CLI::IsMember(algorithm_names()))
      ->group("The run");
  add("--sampler", s.sampler, "which two responses online DPO asks about: see --list")
      ->check(CLI::IsMember(names_of(pair_samplers())))
      ->group("The run");
  add("--reward-loss", s.reward_loss, "the loss of reward models learned from pairs: see --list")
      ->check(CLI::IsMember(names_of(reward_losses())))
      ->group("The run");
  app.add_flag("--overoptimise,!--no-overoptimise", s.overoptimise,
               "also chase rewards too far, on purpose, to show what becomes of the true one; default with --lexicon")
      ->group("The run");
  add("--seed", s.seed, "of everything random; the same seed gives the same numbers")->group("The run");
  add("--threads", s.threads, "threads; the results do not depend on it")->check(CLI::Range(1, 256))->group("The run");
  add("--pass-tokens", s.pass_tokens,
      "tokens of one pass of a model that learns: memory is needed for so many; a larger batch takes several passes, "
      "whose gradients are added up")
      ->check(some)
      ->group("The run");
  add("--activations", s.activations, "how they are kept for the backward pass: bfloat16 takes half the memory")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->group("The run");
  add("--parameters", s.parameters,
      "how passes and sampling read them: bfloat16 rounds them there, in half the memory; updates and files stay "
      "float32")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->group("The run");
  app.add_flag("--quick", s.quick, "a run of well under a minute, with less of everything")->group("The run");
  add("--out", s.out, "folder for the report; made if it is not there")->group("The run");
  add("--keep", s.keep, "checkpoints kept")->check(CLI::Range(1, 1000))->group("The run");
  add("--save-every", s.every, "updates between checkpoints besides those at every evaluation; 0: none besides")
      ->check(none_or_some)
      ->group("The run");

  recipe& r = s.how;
  const char* const sizes = "How much of everything (the defaults depend on what is aligned)";
  add("--sft-epochs", r.sft_epochs, "passes over the names, or over the preferred responses of --pairs")
      ->check(some)
      ->group(sizes);
  add("--sft-rate", r.sft_rate, "learning rate")->check(positive)->group(sizes);
  add("--reward-epochs", r.reward_epochs, "passes of the reward model over its pairs")->check(some)->group(sizes);
  add("--reward-rate", r.reward_rate, "learning rate")->check(positive)->group(sizes);
  add("--reward-pairs", r.reward_pairs, "labelled pairs of names for the reward model")->check(some)->group(sizes);
  add("--reward-margin", r.reward_margin, "scale of the margins of --reward-loss margin")
      ->check(non_negative)
      ->group(sizes);
  add("--odin-weight", r.odin_weight, "of what keeps the two heads of --reward-loss odin apart")
      ->check(non_negative)
      ->group(sizes);
  add("--preference-pairs", r.preference_pairs, "pairs of samples, judged by the reward, for DPO")
      ->check(some)
      ->group(sizes);
  add("--most-pairs", r.most_pairs, "preferences of --pairs that are learned from, the first ones; 0: all")
      ->check(none_or_some)
      ->group(sizes);
  add("--batch", r.batch, "sequences of an update of SFT, pairs of one of the reward model")->check(some)->group(sizes);
  add("--iterations", r.iterations, "iterations of the methods that sample, evaluations of DPO")
      ->check(some)
      ->group(sizes);
  add("--prompts", r.prompts, "prompts of an iteration")->check(some)->group(sizes);
  add("--judged", r.judged, "fresh samples of an evaluation")->check(some)->group(sizes);
  add("--frontier", r.frontier, "samples that best-of-n is drawn from")->check(some)->group(sizes);
  add("--prompt-tokens", r.prompt_tokens, "tokens of a story that the model begins itself")->check(some)->group(sizes);
  add("--new-tokens", r.new_tokens, "longest completion; 0: until the context is full")
      ->check(none_or_some)
      ->group(sizes);

  const char* const methods = methods_group;
  add("--temperature", s.temperature,
      "of the samples that policies learn from; losses of tokens are weighed by policy over sampler, at most 2. "
      "Evaluation "
      "always draws from the policy itself, and so do mixtures of two models")
      ->check(positive)
      ->group(methods);
  add("--top-k", s.top_k, "those samples keep the k most probable tokens, and ties with the last of them; 0: all")
      ->check(none_or_some)
      ->group(methods);
  add("--top-p", s.top_p,
      "of those, the fewest most probable tokens whose share is at least this, and ties with the last of them; 1: all")
      ->check(CLI::Range(1e-12, 1.0))
      ->group(methods);
  add("--stop-kl", r.stop_kl,
      "of methods that sample: an iteration makes no more updates once the policy is so many nats per token from "
      "where it sampled; 0: all of them (ZPG makes only one)")
      ->check(non_negative)
      ->group(methods);
  add("--most-kl", r.most_kl,
      "a method ends with the evaluation that finds it more than so many nats per response from the start; 0: never")
      ->check(non_negative)
      ->group(methods);
  add("--dpo-beta", r.dpo.beta, "inverse temperature")->check(positive)->group(methods);
  add("--dpo-rate", r.dpo.rate, "learning rate")->check(positive)->group(methods);
  add("--dpo-batch", r.dpo.batch, "pairs of an update")->check(some)->group(methods);
  add("--dpo-epochs", r.dpo.epochs, "passes over the pairs")->check(some)->group(methods);
  add("--rebel-eta", r.rebel.eta, "step of the mirror descent")->check(positive)->group(methods);
  add("--rebel-kl", r.rebel.kl, "weight of the KL to the start")->check(non_negative)->group(methods);
  add("--rebel-rate", r.rebel.rate, "learning rate")->check(positive)->group(methods);
  add("--rebel-minibatch", r.rebel.minibatch, "pairs of an update")->check(some)->group(methods);
  add("--rebel-epochs", r.rebel.epochs, "passes over an iteration's pairs")->check(some)->group(methods);
  add("--ppo-kl", r.ppo.kl, "weight of the KL to the start; RTO's beta2")->check(non_negative)->group(methods);
  add("--ppo-rate", r.ppo.rate, "learning rate of the policy, RTO's too")->check(positive)->group(methods);
  add("--ppo-critic-rate", r.ppo.critic_rate, "learning rate of the critic")->check(positive)->group(methods);
  add("--ppo-samples", r.ppo.samples, "responses to a prompt")->check(some)->group(methods);
  add("--ppo-minibatch", r.ppo.minibatch, "responses of an update")->check(some)->group(methods);
  add("--ppo-epochs", r.ppo.epochs, "passes over an iteration's responses")->check(some)->group(methods);
  add("--ppo-reward", s.ppo_reward,
      "what it learns from: the true reward; or what a reward model has learned from the pairs, or the mean, the "
      "lowest, "
      "or the mean less the variance (at --ppo-uncertainty) of several (--ppo-members)")
      ->check(CLI::IsMember({"true", "learned", "mean", "worst_case", "uncertainty"}))
      ->group(methods);
  add("--ppo-recipe", s.ppo_recipe,
      "max: PPO-max of Zheng et al. 2023, arXiv 2307.04964: scores on their running scale (so that --ppo-kl is a price "
      "in "
      "deviations), lambda 0.9, advantages not whitened, the critic alone in the first eighth of the iterations and, "
      "where there is a reward model, begun as that")
      ->check(CLI::IsMember({"plain", "max"}))
      ->group(methods);
  add("--ppo-ptx", r.ppo.ptx,
      "weight of the likelihood of text that PPO must not forget, that which the start was fitted to, in every "
      "update (Ouyang et al. 2022, arXiv 2203.02155, eq. 2)")
      ->check(non_negative)
      ->group(methods);
  add("--ppo-members", r.members, "reward models of an ensemble, each learned from pairs drawn from the pairs again")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{64}))
      ->group(methods);
  add("--ppo-uncertainty", r.uncertainty, "price of the variance between them")->check(non_negative)->group(methods);
  add("--rto-beta1", r.rto.beta1, "weight of the DPO policy's reward per token")->check(non_negative)->group(methods);
  add("--rto-clip", r.rto.clip, "bound of that reward")->check(positive)->group(methods);
  add("--rto-mode", s.rto_mode,
      "where it is paid: at every token, summed up at the end of a sentence, summed up at the end, or at every token "
      "and taken back at the end")
      ->check(CLI::IsMember({"dense", "semi", "eos", "shaping_only"}))
      ->group(methods);
  add("--rto-score", r.rto.score, "weight of the reward itself, beta3")->check(non_negative)->group(methods);
  add("--ipo-beta", r.ipo_beta, "the margin per token is 1 / (2 beta)")->check(positive)->group(methods);
  add("--simpo-beta", r.simpo_beta, "scale of the log-probabilities per token")->check(positive)->group(methods);
  add("--simpo-gamma", r.simpo_gamma, "margin")->check(non_negative)->group(methods);
  add("--orpo-beta", r.orpo_beta, "weight of the odds ratio")->check(positive)->group(methods);
  add("--drto-radius", r.drto_radius, "of the KL ball of weights, nats")->check(non_negative)->group(methods);
  add("--drto-unit", s.drto_unit, "what is weighed as one: a token, --drto-span tokens, or a response")
      ->check(CLI::IsMember({"token", "span", "response"}))
      ->group(methods);
  add("--drto-span", r.drto_span, "tokens of a span")->check(some)->group(methods);
  add("--group-samples", r.group.samples, "responses to a prompt, of GRPO and its kin")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 20))
      ->group(methods);
  add("--group-kl", r.group.kl, "weight of GRPO's KL in the loss")->check(non_negative)->group(methods);
  add("--online-beta", r.online.beta, "inverse temperature of the online methods")->check(positive)->group(methods);
  add("--online-rate", r.online.rate, "learning rate")->check(positive)->group(methods);
  add("--online-minibatch", r.online.minibatch, "pairs of an update")->check(some)->group(methods);
  add("--online-epochs", r.online.epochs, "passes over an iteration's pairs")->check(some)->group(methods);
  add("--online-candidates", r.online.candidates, "responses that best_of_n and max_min choose from")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 20))
      ->group(methods);
  add("--online-optimism", r.online.optimism, "alpha of VPO, SELM and XPO")->check(non_negative)->group(methods);
  add("--sppo-beta", r.sppo_beta, "targets are (chance of winning - 1/2) / beta")->check(positive)->group(methods);
  add("--inpo-tau", r.inpo_tau, "pull to the start")->check(non_negative)->group(methods);
  add("--inpo-inverse-step", r.inpo_inverse_step, "inverse step of the mirror descent")
      ->check(positive)
      ->group(methods);
  add("--nash-beta", r.nash_beta, "price of a nat of KL")->check(non_negative)->group(methods);
  add("--nash-mixture", r.nash_mixture, "the start's power in the opponent")
      ->check(CLI::Range(0.0, 1.0))
      ->group(methods);
  add("--dvpo-kl", r.dvpo.kl, "weight of the KL to the start")->check(non_negative)->group(methods);
  add("--dvpo-advantage", s.dvpo_advantage,
      "of the frozen value: the next state's, one step, GAE, or GAE as the paper's authors released it")
      ->check(CLI::IsMember({"action_value", "one_step", "gae", "released"}))
      ->group(methods);
  add("--dvpo-labels", s.dvpo_labels,
      "what the value learns of the responses of the pairs: 1 and -1 of those preferred and not, or the reward's "
      "scores")
      ->check(CLI::IsMember({"pairs", "scores"}))
      ->group(methods);
  add("--dvpo-lambda", r.dvpo.lambda, "of GAE")->check(CLI::Range(0.0, 1.0))->group(methods);
  add("--dvpo-epochs", r.dvpo.epochs, "passes of the value over the pairs")->check(some)->group(methods);
  add("--vine-rollouts", r.vine.rollouts, "continuations of a state")->check(some)->group(methods);
  add("--vine-step", r.vine.step, "tokens between two states")->check(some)->group(methods);
  add("--hydra-rank", r.hydra.rank, "of the adapters")->check(CLI::Range(1, 1 << 16))->group(methods);
  add("--hydra-rate", r.hydra.rate, "learning rate of the adapters")->check(positive)->group(methods);
  add("--hydra-value-weight", r.hydra.value_weight, "of the critic in the loss")->check(non_negative)->group(methods);
  add("--zeroth-rate", r.zeroth.rate, "learning rate of ZPG and ZBCPG")->check(positive)->group(methods);
  add("--zeroth-radius", r.zeroth.radius, "length of a perturbation")->check(positive)->group(methods);
  add("--zeroth-directions", r.zeroth.directions, "perturbations of an update")->check(some)->group(methods);
  add("--zeroth-votes", r.zeroth.votes, "votes on each pair, drawn from the judge's law; 0: the law itself")
      ->check(none_or_some)
      ->group(methods);
  add("--zeroth-block", r.zeroth.block, "coordinates that ZBCPG perturbs at once")->check(some)->group(methods);
}

/// How many letters to change, add or drop to make `b` of `a`.
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j + 1] + 1, row[j] + 1});
    }
  }
  return row.back();
}

std::string nearest(const std::vector<std::string>& names, const std::string& name) {
  std::string best;
  for (const std::string& known : names)
    if (best.empty() || distance(name, known) < distance(name, best)) best = known;
  return best;
}
std::string nearest(const CLI::App& app, const std::string& name) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
  return nearest(names, name);
}

/// Calls `f(option)` for every setting that a file may hold.
template <class F>
void each_option(F&& f) {
  settings none;
  CLI::App app;
  app.set_help_flag();
  declare(app, none);
  for (const CLI::Option* option : app.get_options()) f(*option);
}
std::vector<std::string> setting_names() {
  std::vector<std::string> names;
  each_option([&](const CLI::Option& option) { names.push_back(option.get_lnames().front()); });
  return names;
}
bool contains(const std::vector<std::string>& list, const std::string& one) {
  return std::find(list.begin(), list.end(), one) != list.end();
}

/// The name without dashes in front and without a value.
std::string bare(std::string word) {
  word.erase(0, word.find_first_not_of('-'));
  return word.substr(0, word.find('='));
}

int refuse(const std::string& what) {
  std::fprintf(stderr, "rlhf-align: %s\n", what.c_str());
  return 2;
}

std::string no_anew(const std::string& mode) {
  return "--anew is of a single run: " + mode +
         " goes on with what is in --out; give another folder, or remove this one";
}

std::string last_word(const std::string& text) { return text.substr(text.find_last_of(' ') + 1); }

/// Combinations that mean nothing.
std::string contradiction(const settings& s) {
  const auto needs = [](const std::string& what, const std::string& other) {
    return what + " needs " + other + " beside it";
  };
  if (!s.pairs.empty() && s.model.empty()) return needs("--pairs", "--model");
  if (!s.model.empty() && s.tokenizer.empty()) return needs("--model", "--tokenizer");
  if (!s.tokenizer.empty() && s.model.empty()) return needs("--tokenizer", "--model");
  if (!s.model.empty() && s.pairs.empty() && s.lexicon.empty())
    return needs("--model", "--lexicon (a reward) or --pairs");
  if (!s.lexicon.empty() && s.model.empty()) return needs("--lexicon", "--model");
  if (!s.lexicon.empty() && !s.pairs.empty()) return "--lexicon and --pairs are two rewards: give one";
  if (!s.eval_pairs.empty() && s.pairs.empty()) return needs("--eval-pairs", "--pairs");
  if (s.skip_bad && s.pairs.empty()) return needs("--skip-bad", "--pairs");
  if (!s.data.empty() && !s.model.empty()) return "--data is for the names model: it has no use beside --model";
  if (s.overoptimise && s.subject() != subject::stories)
    return needs("--overoptimise", "--lexicon (an exact reward to compare with)");
  if (s.how.ppo.ptx > 0 && s.subject() != subject::names &&
      !(s.subject() == subject::pairs && contains(s.algorithms, "sft")))
    return "--ppo-ptx mixes in text that the start was fitted to: the names, or with --algorithm sft the preferred "
           "responses of --pairs; else it wants 0";
  if (s.resume && s.anew) return "--resume goes on and --anew starts again: give one";
  return {};
}

/// Which of some options mean nothing to any of some algorithms: why, empty where none does. Options of everyone are fine.
std::string without_effect(const std::vector<std::string>& options, const std::vector<std::string>& algorithms) {
  const auto read_by = [&](const std::string& option, const auto& some) {
    std::vector<std::string> out;
    for (const std::string& name : some)
      if (const algorithm_entry* a = find_algorithm(name); a != nullptr && reads(*a, option)) out.push_back(name);
    return out;
  };
  const auto listed = [](const std::vector<std::string>& names) {
    std::string out;
    for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
    return out;
  };
  std::string wrong;
  each_option([&](const CLI::Option& option) {
    const std::string& name = option.get_lnames().front();
    const bool of_methods = option.get_group() == methods_group || name == "sampler";
    if (!wrong.empty() || !of_methods || !contains(options, name) || !read_by(name, algorithms).empty()) return;
    wrong = "--" + name + " has no effect on " + listed(algorithms) + "; it is of " +
            listed(read_by(name, algorithm_names()));
  });
  return wrong;
}
std::vector<std::string> names_of_options(const std::vector<std::string>& options) {
  std::vector<std::string> out;
  for (const std::string& option : options) out.push_back(bare(option));
  return out;
}
/// Whatever the settings of a single run make it train.
std::vector<std::string> trained_by(const settings& s) {
  std::vector<std::string> out = s.algorithms.empty() ? default_algorithms(s.subject()) : s.algorithms;
  if (s.overoptimise) out.insert(out.end(), {"dpo", "ppo"});
  return out;
}

/// Calls `f(option, name, value)` for every setting that a file may hold, in their order.
template <class F>
void each_setting(const settings& s, F&& f) {
  settings copy = s;
  CLI::App app;
  app.set_help_flag();
  declare(app, copy);
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_lnames().front();
    std::string value = option->get_default_str();
    const auto flag = [&](const char* which, bool on) {
      if (name == which) value = on ? "true" : "false";
    };
    flag("skip-bad", s.skip_bad);
    flag("quick", s.quick);
    flag("overoptimise", s.overoptimise);
    if (name == "algorithm") {
      value.clear();
      for (const std::string& one : s.algorithms) value += (value.empty() ? "" : ",") + one;
    }
    f(*option, name, value);
  }
}

/// FNV-1a over the bytes of a file: enough to see that it is another one.
std::string sum_of_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::uint64_t sum = 14695981039346656037u;
  for (std::istreambuf_iterator<char> it(in), end; it != end; ++it)
    sum = (sum ^ static_cast<unsigned char>(*it)) * 1099511628211u;
  char text[32];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum));
  return text;
}

/// All settings in the form that --config reads.
std::string configuration(const settings& s) {
  std::string out, group;
  each_setting(s, [&](const CLI::Option& option, const std::string& name, const std::string& value) {
    if (option.get_group() != group) {
      group = option.get_group();
      out += (out.empty() ? "# " : "\n# ") + group + "\n\n";
    }
    const bool bare =
        value == "true" || value == "false" || value.find_first_not_of("0123456789.e+-") == std::string::npos;
    std::string shown = value;
    if (name == "algorithm") {
      shown = value.empty() ? "[" : "[\"";
      for (const char c : value) shown += c == ',' ? "\", \"" : std::string(1, c);
      shown += value.empty() ? "]" : "\"]";
    } else if (!bare || value.empty()) {
      shown = '"' + value + '"';
    }
    if (value.empty()) out += "# ";  // nothing is not a value
    out += name + " = " + shown + "  # " + option.get_description() + "\n";
  });
  return out;
}

/// The text with its value beside every option that it names; `--dpo-...` stands for all that begin so.
std::string with_values(const settings& s, const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = std::min(text.find("--", at), text.size()),
                      end =
                          std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-", begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    const bool all = text.compare(end, 3, "...") == 0;
    std::string found;
    each_setting(s, [&](const CLI::Option&, const std::string& known, const std::string& value) {
      const std::string option = "--" + known;
      if (!value.empty() && (option == name || (all && option.rfind(name, 0) == 0)))
        found += (found.empty() ? "" : ", ") + option + ' ' + value;
    });
    out += text.substr(at, begin - at) + (found.empty() ? name : found);
    at = end + (all ? 3 : 0);
  }
  return out;
}

/// Nobody may have more tries than another, or be judged by seeds it was chosen on.
void read_tries(const std::vector<std::string>& tries, const std::string& seeds, request& out) {
  if (tries.empty() != seeds.empty())
    throw std::invalid_argument(seeds.empty() ? "--tries wants --tuning-seeds to choose by"
                                              : "--tuning-seeds wants --tries to choose among");
  if (tries.empty()) return;
  out.tuning_seeds = seeds_of(seeds);
  for (const std::uint64_t seed : out.tuning_seeds)
    if (std::find(out.seeds.begin(), out.seeds.end(), seed) != out.seeds.end())
      throw std::invalid_argument("--tuning-seeds: " + std::to_string(seed) +
                                  " is one of --seeds: settings are chosen on other seeds than they are reported on");
  std::map<std::string, std::size_t> count;
  for (const variant& v : out.variants) count[v.label] = 0;
  for (const std::string& text : tries) {
    trial t = trial_of(text, out.variants);
    for (const trial& known : out.trials)
      if (known.label == t.label && known.options == t.options)
        throw std::invalid_argument("--tries: `" + text + "` is there twice");
    const auto v = std::find_if(out.variants.begin(), out.variants.end(),
                                [&](const variant& one) { return one.label == t.label; });
    settings own = with_options(out.run, with_trial(*v, t).options);
    own.overoptimise = false;
    std::string wrong = contradiction(own);
    if (wrong.empty()) wrong = without_effect(names_of_options(t.options), {v->algorithm});
    if (!wrong.empty()) throw std::invalid_argument("--tries: `" + text + "`: " + wrong);
    ++count[t.label];
    out.trials.push_back(std::move(t));
  }
  const std::size_t first = count[out.variants.front().label];
  for (const auto& [label, n] : count)
    if (n != first)
      throw std::invalid_argument("--tries: `" + out.variants.front().label + "` has " + std::to_string(first) + ", `" +
                                  label + "` has " + std::to_string(n) + ": wants as many for each label");
}

}  // namespace

settings with_options(const settings& s, const std::vector<std::string>& options) {
  settings out = s;
  CLI::App app;
  app.set_help_flag();
  declare(app, out);
  std::vector<std::string> words;
  for (auto it = options.rbegin(); it != options.rend(); ++it) {
    const std::string name = it->substr(0, it->find('='));
    if (const auto known = setting_names(); !contains(known, name))
      throw std::invalid_argument("there is no setting `" + name + "`; the nearest is `" + nearest(known, name) + "`");
    words.push_back("--" + *it);  // CLI11 reads them from the back
  }
  try {
    app.parse(words);
  } catch (const CLI::ParseError& trouble) {
    throw std::invalid_argument(trouble.what());
  }
  return out;
}

variant variant_of(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0, end; begin <= text.size(); begin = end + 1) {
    end = std::min(text.find(':', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
  }
  variant out;
  const auto equals = parts.front().find('=');
  out.algorithm = equals == std::string::npos ? parts.front() : parts.front().substr(equals + 1);
  out.label = equals == std::string::npos ? text : parts.front().substr(0, equals);
  for (char& c : out.label)
    if (c == ':' || c == '=') c = c == ':' ? '_' : '-';
  const bool plain = out.label.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") == std::string::npos;
  // `shared` and `guide`, alone or with something behind a dash, are folders of what comes before methods.
  bool kept_for_stages = false;
  for (const std::string stage : {"shared", "guide"})
    kept_for_stages = kept_for_stages || out.label == stage || out.label.rfind(stage + "-", 0) == 0;
  if (out.label.empty() || !plain || out.label.front() == '.' || out.label == "best_of_n" || kept_for_stages)
    throw std::invalid_argument("--algorithms: `" + out.label + "` cannot be the label of `" + text +
                                "`: letters, digits and . _ + - make one; best_of_n, shared and guide are taken");
  if (find_algorithm(out.algorithm) == nullptr)
    throw std::invalid_argument("--algorithms: there is no algorithm `" + out.algorithm + "`; the nearest is `" +
                                nearest(algorithm_names(), out.algorithm) + "`");
  const std::vector<std::string> known = setting_names();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const auto value = parts[i].find('=');
    const std::string name = parts[i].substr(0, value), whole = out.algorithm + "-" + name;
    if (value == std::string::npos)
      throw std::invalid_argument("--algorithms: `" + parts[i] + "` of `" + text + "` has no value: name=value");
    // Of some algorithms the settings begin with a word of the name only.
    std::string own = whole;
    if (!contains(known, own)) own = out.algorithm.substr(0, out.algorithm.find('_')) + "-" + name;
    if (!contains(known, own) && contains(known, name)) own = name;
    for (const char* all : {"algorithm", "seed", "out", "threads", "keep", "save-every", "quick", "overoptimise"})
      if (own == all) throw std::invalid_argument("--algorithms: `" + own + "` is not a setting of one algorithm");
    if (!contains(known, own)) {
      const std::string far = nearest(known, name), near = nearest(known, own);
      throw std::invalid_argument("--algorithms: there is no setting `" + name + "` of `" + text +
                                  "`; the nearest is `" + (distance(own, near) <= distance(name, far) ? near : far) +
                                  "`");
    }
    out.options.push_back(own + parts[i].substr(value));
  }
  return out;
}

trial trial_of(const std::string& text, const std::vector<variant>& variants) {
  const std::string label = text.substr(0, text.find(':'));
  const auto it = std::find_if(variants.begin(), variants.end(), [&](const variant& v) { return v.label == label; });
  if (it == variants.end()) {
    std::vector<std::string> labels;
    for (const variant& v : variants) labels.push_back(v.label);
    throw std::invalid_argument("--tries: no algorithm here has the label `" + label + "` of `" + text +
                                "`; the nearest is `" + nearest(labels, label) + "`");
  }
  if (label == text) throw std::invalid_argument("--tries: `" + text + "` has no setting: LABEL:SETTING=VALUE");
  trial out{label, variant_of(label + "=" + it->algorithm + text.substr(label.size())).options};
  return out;
}

variant with_trial(const variant& v, const trial& t) {
  variant out = v;
  for (const std::string& option : t.options) {
    const std::string name = option.substr(0, option.find('=') + 1);
    std::erase_if(out.options, [&](const std::string& own) { return own.rfind(name, 0) == 0; });
    out.options.push_back(option);
  }
  return out;
}

std::vector<std::uint64_t> seeds_of(const std::string& text) {
  std::vector<std::uint64_t> out;
  const auto number = [&](const std::string& word) {
    if (word.empty() || word.size() > 18 || word.find_first_not_of("0123456789") != std::string::npos)
      throw std::invalid_argument("--seeds: `" + text + "` is not like 1..5 or 1,3,7..9");
    return std::stoull(word);
  };
  for (std::size_t begin = 0, end; begin <= text.size(); begin = end + 1) {
    end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const auto dots = part.find("..");
    const std::uint64_t first = number(part.substr(0, dots)),
                        last = dots == std::string::npos ? first : number(part.substr(dots + 2));
    if (last < first || last - first >= 1000)
      throw std::invalid_argument("--seeds: `" + part + "` is no range of at most 1000 seeds, the lower one first");
    for (std::uint64_t seed = first; seed <= last; ++seed)
      if (std::find(out.begin(), out.end(), seed) == out.end()) out.push_back(seed);
  }
  return out;
}

settings shared_settings(const settings& all, const variant& one) {
  const std::vector<std::string> known = setting_names();
  std::set<std::string> of_methods{"sampler", "iterations", "overoptimise"};
  each_option([&](const CLI::Option& option) {
    const std::string& name = option.get_lnames().front();
    if (option.get_group() == methods_group && name.rfind("dpo-", 0) != 0) of_methods.insert(name);
  });
  std::vector<std::string> others;
  for (const std::string& option : one.options)
    if (!of_methods.contains(option.substr(0, option.find('=')))) others.push_back(option);
  settings out = with_options(all, others);
  out.algorithms.clear();
  return out;
}

request read_command_line(int argc, char** argv) {
  request out;
  std::string ignored_file;
  settings defaults;
  defaults.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));

  // The defaults of the sizes depend on what is aligned, so look for that first, forgiving everything.
  {
    CLI::App first;
    first.set_help_flag();
    settings seen = defaults;
    declare(first, seen);
    first.set_config("--config");
    first.allow_extras();
    first.allow_config_extras(CLI::config_extras_mode::ignore_all);
    try {
      first.parse(argc, argv);
    } catch (const CLI::ParseError&) {}
    const subject what = seen.subject();
    defaults.overoptimise = what == subject::stories;
    defaults.how = what == subject::names     ? names_recipe(seen.quick)
                   : what == subject::stories ? stories_recipe(seen.quick)
                                              : pairs_recipe(seen.quick);
  }

  CLI::App app{description};
  app.name("rlhf-align");
  out.run = defaults;
  declare(app, out.run);
  app.set_config("--config", "",
                 "read options from this file: TOML or INI, a line `name = value` for each option above")
      ->group("The run");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.allow_extras();  // refused below, with the nearest name
  bool print = false, list = false;
  app.add_flag("--list", list, "say what --algorithm, --sampler and --reward-loss may be, and stop")
      ->configurable(false)
      ->group("The run");
  app.add_flag("--print-config", print, "write all settings in the form that --config reads, and stop")
      ->configurable(false)
      ->group("The run");
  app.add_flag("--plan", out.run.plan,
               "rehearse the parts of the run for a few seconds, say what time, memory and disk it will take, and stop")
      ->configurable(false)
      ->group("The run");
  app.add_flag("--resume", out.run.resume, "go on from the newest checkpoint in --out; where there is none, begin")
      ->configurable(false)
      ->group("The run");
  app.add_flag("--anew", out.run.anew, "begin again even if --out holds an unfinished run")
      ->configurable(false)
      ->group("The run");
  CLI::App* const compare = app.add_subcommand(
      "compare",
      "run some algorithms with some seeds and join them into one report: rlhf-align compare "
      "--algorithms ppo,rto --seeds 1..5 --out FOLDER; what is finished stays, and the same command "
      "goes on after an interruption. Or join finished runs: rlhf-align compare --out FOLDER RUN...");
  std::vector<std::string> variants;
  std::string seeds = "1..5";
  compare->add_option("runs", out.compare, "folders of finished runs");
  compare
      ->add_option("--algorithms", variants,
                   "[LABEL=]ALGORITHM[:SETTING=VALUE]..., several with commas: ppo,rto,semi_rto=rto:mode=semi; the "
                   "first is what the others are compared with")
      ->delimiter(',')
      ->allow_extra_args(false);
  compare->add_option("--seeds", seeds, "1..5 or 1,3,7..9")->capture_default_str();
  std::vector<std::string> tries;
  std::string tuning_seeds;
  compare
      ->add_option(
          "--tries", tries,
          "LABEL:SETTING=VALUE..., several with commas, as many for each label: other settings, tried with the "
          "label's own on --tuning-seeds before all; each label goes on with those of the highest J (reward less "
          "the first one's price of KL)")
      ->delimiter(',')
      ->allow_extra_args(false);
  compare->add_option("--tuning-seeds", tuning_seeds, "seeds to choose settings by, none of --seeds");
  compare->fallthrough();  // all options above hold for every algorithm
  CLI::App* const values =
      app.add_subcommand("values",
                         "train PPO with some seeds, then measure how wrong VinePPO's values and the critic's are, "
                         "and how much their policy gradients vary: rlhf-align values --seeds 1..5 --out FOLDER");
  value_study& study = out.study;
  const CLI::Range two(std::int64_t{2}, std::int64_t{1} << 20);
  values->add_option("--seeds", seeds, "1..5 or 1,3,7..9")->capture_default_str();
  values->add_option("--rollouts", study.rollouts, "of a state, VinePPO's K; several with commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 16));
  values->add_option("--truth", study.truth, "rollouts that the true value of a state is the mean of")->check(two);
  values->add_option("--states", study.states, "whose values are judged")->check(two);
  values->add_option("--gradients", study.batches, "whose variance is taken")->check(two);
  values->add_option("--responses", study.responses, "of a gradient")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  values->fallthrough();
  app.require_subcommand(0, 1);

  try {
    app.parse(argc, argv);
    for (const std::string& extra : app.remaining(true))
      throw CLI::ExtrasError("unknown: " + extra, CLI::ExitCodes::ExtrasError);
  } catch (const CLI::ConfigError& trouble) {
    const std::string name = bare(last_word(trouble.what()));
    const bool of_compare = name.rfind("compare.", 0) == 0;
    out.exit = refuse("--config: there is no setting `" + name + "`; the nearest is `" +
                      (of_compare ? "compare." + nearest(*compare, name.substr(8)) : nearest(app, name)) + "`");
    return out;
  } catch (const CLI::ExtrasError& trouble) {
    const std::string word = last_word(trouble.what());
    out.exit =
        refuse(word.rfind("-", 0) == 0 ? "there is no option " + word + "; the nearest is --" + nearest(app, bare(word))
                                       : "`" + word + "` stands alone: every setting has the form --name value");
    return out;
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    out.exit = 0;
    return out;
  } catch (const CLI::ParseError& trouble) {
    out.exit = refuse(trouble.what());
    return out;
  }
  if (list) {
    std::fputs(list_of_algorithms([&](const std::string& text) { return with_values(out.run, text); }).c_str(), stdout);
    out.exit = 0;
  }
  if (list) return out;
  // What was asked for on the line itself: a file may well hold the settings of more algorithms than are run.
  const std::vector<std::string> given = names_of_options({argv + 1, argv + argc});
  if (values->parsed()) {
    out.values = true;
    out.run.overoptimise = false;  // of single runs
    try {
      out.seeds = seeds_of(seeds);
    } catch (const std::invalid_argument& trouble) {
      out.exit = refuse(trouble.what());
    }
    if (!out.run.algorithms.empty())
      out.exit = refuse("--algorithm is of a single run: values are PPO's and VinePPO's");
    if (out.run.ppo_reward != "true")
      out.exit = refuse("--ppo-reward " + out.run.ppo_reward + ": values are measured by the true reward, wants true");
    if (out.run.ppo_recipe != "plain")
      out.exit =
          refuse("--ppo-recipe " + out.run.ppo_recipe + ": values are measured on the reward's own scale, wants plain");
    if (out.run.anew) out.exit = refuse(no_anew("values"));
    if (const std::string wrong = without_effect(given, {"ppo", "vineppo"}); !wrong.empty()) out.exit = refuse(wrong);
    // Each number of rollouts once.
    std::vector<std::int64_t> once;
    for (const std::int64_t k : study.rollouts)
      if (std::find(once.begin(), once.end(), k) == once.end()) once.push_back(k);
    study.rollouts = once;
    if (out.exit >= 0) return out;
  }
  if (compare->parsed()) {
    const bool joins = !out.compare.empty();
    if (joins != variants.empty())
      out.exit = refuse(joins ? "compare joins finished runs or runs --algorithms: give one"
                              : "compare wants --algorithms to run, or the folders of finished runs");
    if (joins && compare->get_option("--seeds")->count() > 0)
      out.exit = refuse("--seeds is of --algorithms: finished runs have theirs");
    if (joins && out.run.plan) out.exit = refuse("--plan is of runs to come: those that are joined are finished");
    if (out.run.anew) out.exit = refuse(no_anew("compare"));
    if (joins || out.exit >= 0) return out;
    try {
      std::set<std::string> labels;
      for (const std::string& text : variants) {
        out.variants.push_back(variant_of(text));
        settings own = with_options(out.run, out.variants.back().options);
        own.overoptimise = false;
        std::string wrong = contradiction(own);
        if (wrong.empty())
          wrong = without_effect(names_of_options(out.variants.back().options), {out.variants.back().algorithm});
        if (!wrong.empty()) throw std::invalid_argument("--algorithms: `" + text + "`: " + wrong);
        if (!labels.insert(out.variants.back().label).second)
          throw std::invalid_argument("--algorithms: two are called `" + out.variants.back().label +
                                      "`: give them labels, LABEL=" + text);
      }
      out.seeds = seeds_of(seeds);
      if (!out.run.algorithms.empty())
        throw std::invalid_argument("--algorithm is of a single run: compare takes --algorithms");
      std::vector<std::string> all;
      for (const variant& v : out.variants)
        if (!contains(all, v.algorithm)) all.push_back(v.algorithm);
      if (const std::string wrong = without_effect(given, all); !wrong.empty()) throw std::invalid_argument(wrong);
      read_tries(tries, tuning_seeds, out);
    } catch (const std::invalid_argument& trouble) {
      out.exit = refuse(trouble.what());
    }
    out.run.overoptimise = false;  // of single runs
    if (out.exit >= 0) return out;
  }
  std::string wrong = contradiction(out.run);
  if (wrong.empty() && !out.values && out.variants.empty()) wrong = without_effect(given, trained_by(out.run));
  if (!wrong.empty()) out.exit = refuse(wrong);
  if (out.exit < 0 && print) {
    std::fputs(configuration(out.run).c_str(), stdout);
    out.exit = 0;
  }
  return out;
}

std::vector<std::string> identity(const settings& s) {
  std::vector<std::string> out;
  each_setting(s, [&](const CLI::Option&, const std::string& name, std::string value) {
    if (name == "threads" || name == "out" || name == "keep" || name == "save-every") return;
    const bool file =
        name == "model" || name == "tokenizer" || name == "lexicon" || name == "pairs" || name == "eval-pairs";
    out.push_back(name + "=" + (file && !value.empty() ? sum_of_file(value) : value));
  });
  return out;
}

}  // namespace align
