#include "align/run/algorithms.hpp"

#include <algorithm>
#include <sstream>

#include "align/methods/methods.hpp"

namespace align {
namespace {

constexpr algorithm_entry table[] = {
    {"sft", "SFT", "maximum likelihood",
     "--sft-epochs and --sft-rate; the start of the names model, alone; with --pairs what the others start from too",
     "", "#bbbbbb", 0, nullptr},
    {"reward_model", "reward model", "Ouyang et al. 2022, arXiv 2203.02155",
     "the loss that --reward-loss names; the reward model, alone", "", "#ccbb44", 0, nullptr},
    {"dpo", "DPO", "Rafailov et al. 2023, arXiv 2305.18290", "--dpo-...", "dpo-*", "#4477aa",
     need::pairs | need::passes, dpo},
    {"ipo", "IPO", "Azar et al. 2023, arXiv 2310.12036", "averages per token, --ipo-beta; else as DPO",
     "dpo-rate dpo-batch dpo-epochs ipo-*", "#332288", need::pairs | need::passes, ipo},
    {"simpo", "SimPO", "Meng et al. 2024, arXiv 2405.14734", "--simpo-beta and --simpo-gamma; else as DPO",
     "dpo-rate dpo-batch dpo-epochs simpo-*", "#88ccee", need::pairs | need::passes, simpo},
    {"orpo", "ORPO", "Hong et al. 2024, arXiv 2403.07691",
     "likelihood of the chosen responses and --orpo-beta times the odds ratio; else as DPO",
     "dpo-rate dpo-batch dpo-epochs orpo-*", "#44aa99", need::pairs | need::passes, orpo},
    {"wpo", "WPO", "Zhou et al. 2024, arXiv 2406.11827",
     "DPO whose pairs count as the policy would have written them; beta, rate and epochs as DPO", "dpo-*", "#ffaabb",
     need::pairs | need::passes, wpo},
    {"kto", "KTO", "Ethayarajh et al. 2024, arXiv 2402.01306",
     "beta, rate and epochs as DPO, twice its batch; labels of --pairs, or the two sides of judged pairs", "dpo-*",
     "#000000", need::labels | need::passes, kto},
    {"una", "UNA", "Wang et al. 2024, arXiv 2408.15339",
     "cross-entropy to the sigmoid of the reward less its mean; beta, rate and epochs as DPO, twice its batch", "dpo-*",
     "#117733", need::passes, una},
    {"rebel", "REBEL", "Gao et al. 2024, arXiv 2404.16767", "--rebel-...", "rebel-*", "#ee6677", 0, rebel},
    {"ppo", "PPO", "Schulman et al. 2017, arXiv 1707.06347",
     "clip 0.2, lambda 0.95, whitened advantages, or PPO-max by --ppo-recipe; --ppo-...", "ppo-*", "#228833", 0, ppo},
    {"rto", "RTO", "Zhong et al. 2024, arXiv 2404.18922", "PPO on the token rewards of the DPO policy: --rto-...",
     "dpo-* ppo-kl ppo-rate ppo-critic-rate ppo-samples ppo-minibatch ppo-epochs rto-*", "#aa3377",
     need::pairs | need::guide, rto},
    {"drto", "DRTO", "Jin et al. 2026, arXiv 2604.08577",
     "RTO that learns most from its worst spans of --drto-span tokens, a KL ball of --drto-radius",
     "dpo-* ppo-kl ppo-rate ppo-critic-rate ppo-samples ppo-minibatch ppo-epochs rto-* drto-*", "#882255",
     need::pairs | need::guide, drto},
    {"hydra_ppo", "Hydra-PPO", "Santacroce et al. 2023, arXiv 2309.00754",
     "PPO by adapters of --hydra-rank on one trunk, value weight --hydra-value-weight, --hydra-rate; else as PPO",
     "hydra-* ppo-kl ppo-samples ppo-minibatch ppo-epochs", "#cc6677", 0, hydra_ppo},
    {"grpo", "GRPO", "Shao et al. 2024, arXiv 2402.03300",
     "groups of --group-samples, clip 0.2, k3 in the loss at --group-kl; rate, minibatch and epochs as PPO",
     "group-* ppo-rate ppo-samples ppo-minibatch ppo-epochs", "#ee7733", 0, grpo},
    {"dr_grpo", "Dr. GRPO", "Liu et al. 2025, arXiv 2503.20783",
     "GRPO without the deviation, without the length of the response and without KL",
     "group-samples ppo-rate ppo-samples ppo-minibatch ppo-epochs", "#cc3311", 0, dr_grpo},
    {"dapo", "DAPO", "Yu et al. 2025, arXiv 2503.14476",
     "clip 0.2 and 0.28, 3 refills of groups that teach nothing, the last fifth of the length penalised, no KL",
     "group-samples ppo-rate ppo-samples ppo-minibatch ppo-epochs", "#ee3377", 0, dapo},
    {"rloo", "RLOO", "Ahmadian et al. 2024, arXiv 2402.14740",
     "groups of --group-samples, ratio of the whole response, clip 0.2, KL in the reward at --ppo-kl",
     "group-samples ppo-kl ppo-rate ppo-samples ppo-minibatch ppo-epochs", "#009988", 0, rloo},
    {"reinforce_plus_plus", "REINFORCE++", "Hu 2025, arXiv 2501.03262",
     "returns whitened over the batch, clip 0.2, KL in the reward at --ppo-kl",
     "ppo-kl ppo-rate ppo-samples ppo-minibatch ppo-epochs", "#0077bb", 0, reinforce_plus_plus},
    {"remax", "ReMax", "Li et al. 2023, arXiv 2310.10505",
     "the greedy response's score as the baseline, one epoch, KL in the reward at --ppo-kl",
     "ppo-kl ppo-rate ppo-samples ppo-minibatch", "#33bbee", 0, remax},
    {"gspo", "GSPO", "Zheng et al. 2025, arXiv 2507.18071",
     "groups of --group-samples, clip 3e-4 and 4e-4 of the sequence's ratio per token, no KL",
     "group-samples ppo-rate ppo-samples ppo-minibatch ppo-epochs", "#999933", 0, gspo},
    {"cispo", "CISPO", "MiniMax 2025, arXiv 2506.13585",
     "groups of --group-samples, ratios held at 5 and below, no KL; one epoch at half of --ppo-rate",
     "group-samples ppo-rate ppo-samples ppo-minibatch", "#ddaa33", 0, cispo},
    {"dvpo", "DVPO", "Huang et al. 2025, arXiv 2502.16944",
     "a value of all states from the pairs, then GAE 0.95 on it while it stands still; KL at --dvpo-kl",
     "dvpo-* ppo-rate ppo-critic-rate ppo-samples ppo-minibatch ppo-epochs", "#bb5566", need::pairs, dvpo},
    {"vineppo", "VinePPO", "Kazemnejad et al. 2024, arXiv 2410.01679",
     "values from --vine-rollouts continuations every --vine-step tokens, KL in the return at --ppo-kl",
     "vine-* ppo-kl ppo-rate ppo-samples ppo-minibatch ppo-epochs", "#004488", 0, vineppo},
    {"online_dpo", "online DPO", "Guo et al. 2024, arXiv 2402.04792",
     "pairs by --sampler, answers drawn from Bradley and Terry's law of the reward; --online-...",
     "sampler online-beta online-rate online-minibatch online-epochs online-candidates", "#6699cc", 0, online_dpo},
    {"vpo", "VPO", "Cen et al. 2024, arXiv 2405.19320", "online DPO with --online-optimism on samples of the start",
     "online-beta online-rate online-minibatch online-epochs online-optimism", "#997700", 0, vpo},
    {"xpo", "XPO", "Xie et al. 2024, arXiv 2405.21046",
     "pairs of policy and start, --online-optimism times beta on the second; else as online DPO",
     "online-beta online-rate online-minibatch online-epochs online-optimism", "#994455", 0, xpo},
    {"selm", "SELM", "Zhang et al. 2024, arXiv 2405.19332",
     "online DPO with --online-optimism on samples of the policy, against the policy that the iteration began with",
     "online-beta online-rate online-minibatch online-epochs online-optimism", "#eecc66", 0, selm},
    {"nash_md", "Nash-MD", "Munos et al. 2023, arXiv 2312.00886",
     "against --nash-mixture of the start, KL at --nash-beta; one epoch", "nash-* online-rate online-minibatch",
     "#ee99aa", 0, nash_md},
    {"sppo", "SPPO", "Wu et al. 2024, arXiv 2405.00675",
     "targets of --sppo-beta around the chance of winning, the iterate as reference",
     "sppo-* online-rate online-minibatch online-epochs", "#225555", 0, sppo},
    {"inpo", "INPO", "Zhang et al. 2024, arXiv 2407.00617", "--inpo-tau and --inpo-inverse-step",
     "inpo-* online-rate online-minibatch online-epochs", "#663333", 0, inpo},
    {"zpg", "ZPG", "Zhang and Ying 2024, arXiv 2409.17401",
     "a direction on the sphere, --zeroth-rate, --zeroth-radius, --zeroth-directions, --zeroth-votes of the judge, "
     "price of KL --ppo-kl; its variance grows with the "
     "number of parameters: expect little",
     "zeroth-rate zeroth-radius zeroth-directions zeroth-votes ppo-kl", "#aaaa00", 0, zpg},
    {"zbcpg", "ZBCPG", "Zhang and Ying 2024, arXiv 2409.17401",
     "--zeroth-block coordinates at a time; else as ZPG: expect as little", "zeroth-* ppo-kl", "#77aadd", 0, zbcpg},
};

constexpr choice_entry samplers[] = {
    {"vanilla", "Guo et al. 2024, arXiv 2402.04792", "both responses from the policy"},
    {"best_of_n", "the implicit reward of the policy itself", "best and worst of --online-candidates by it"},
    {"hybrid", "Xie et al. 2024, arXiv 2405.21046", "one from the policy, one from the start"},
    {"pilaf", "Feng et al. 2025, arXiv 2502.04270",
     "half as vanilla, half one from beyond the policy and one from between it and the start"},
    {"max_min", "Dong et al. 2024, arXiv 2405.07863", "best and worst of --online-candidates by the reward"},
};

constexpr choice_entry losses[] = {
    {"bradley_terry", "Ouyang et al. 2022, arXiv 2203.02155", "log-sigmoid of the gap, scores centred at 0.01"},
    {"smoothed", "Bradley and Terry 1952", "the same with one label in ten taken to be flipped"},
    {"margin", "Touvron et al. 2023, arXiv 2307.09288",
     "the same less --reward-margin times the margin of the pair: its field `margin`, else the lead among its votes, "
     "else 1"},
    {"agreement", "Bradley and Terry 1952", "the same, a pair counting as much as the share of its votes"},
    {"votes", "Bradley and Terry 1952", "the same with the share of the votes as the label"},
    {"thurstone", "Thurstone 1927", "normal noise of deviation 1 on each score"},
    {"davidson", "Davidson 1970, J. Am. Stat. Assoc. 65, 317",
     "winning, losing and a tie in shares; learns from rows without a majority too, and how common ties are"},
    {"rao_kupper", "Rao and Kupper 1967, J. Am. Stat. Assoc. 62, 194",
     "a tie where no response is better by more than a threshold, which is learned; else as davidson"},
    {"plackett_luce", "Plackett 1975", "pairs as rankings of two, which is Bradley-Terry without centring"},
    {"pcrm", "Zhou et al. 2024, arXiv 2404.00978",
     "a ceiling for the gap, the lower the more tokens two responses share"},
    {"odin", "Chen et al. 2024, arXiv 2402.07319",
     "two heads, one of which takes the length upon itself and then goes; --odin-weight of what keeps them apart"},
};

/// A name with its source, and below it some words, broken into lines.
void add(std::string& out, const std::string& name, const std::string& source, const std::string& words) {
  constexpr std::size_t margin = 22, width = 110;
  out += name;
  out.append(name.size() < margin ? margin - name.size() : 1, ' ');
  out += source;
  std::size_t column = width;
  for (std::size_t begin = 0, end; begin < words.size(); begin = end + 1) {
    end = std::min(words.find(' ', begin), words.size());
    if (column + 1 + (end - begin) > width) {
      out += '\n' + std::string(margin - 1, ' ');
      column = margin - 1;
    }
    out += ' ' + words.substr(begin, end - begin);
    column += 1 + (end - begin);
  }
  out += '\n';
}

}  // namespace

std::span<const algorithm_entry> all_algorithms() { return table; }

const algorithm_entry* find_algorithm(const std::string& name) {
  for (const algorithm_entry& a : table)
    if (name == a.name) return &a;
  return nullptr;
}

bool reads(const algorithm_entry& a, const std::string& option) {
  const bool samples = a.run != nullptr && (a.needs & need::passes) == 0;
  if (option == "most-kl") return a.run != nullptr;
  if (option == "temperature" || option == "top-k" || option == "top-p") return samples;
  if (option == "stop-kl") return samples && std::string(a.name).find("zpg") == std::string::npos;  // one update each
  std::istringstream words(a.options);
  for (std::string word; words >> word;)
    if (word.back() == '*' ? option.rfind(word.substr(0, word.size() - 1), 0) == 0 : option == word) return true;
  return false;
}

std::vector<std::string> algorithm_names() {
  std::vector<std::string> names;
  for (const algorithm_entry& a : table) names.emplace_back(a.name);
  return names;
}

std::vector<std::string> default_algorithms(subject what) {
  if (what == subject::pairs) return {"dpo", "kto"};
  return {"dpo", "rebel", "ppo", "rto"};
}

std::span<const choice_entry> pair_samplers() { return samplers; }
std::span<const choice_entry> reward_losses() { return losses; }

bool knows_ties(const std::string& reward_loss) { return reward_loss == "davidson" || reward_loss == "rao_kupper"; }

std::vector<std::string> names_of(std::span<const choice_entry> choices) {
  std::vector<std::string> names;
  for (const choice_entry& c : choices) names.emplace_back(c.name);
  return names;
}

std::string list_of_algorithms(const std::function<std::string(const std::string&)>& explain) {
  std::string out = "--algorithm\n";
  for (const algorithm_entry& a : table) add(out, a.name, std::string(a.title) + ": " + a.source, explain(a.defaults));
  out += "\n--sampler, of online_dpo\n";
  for (const choice_entry& c : samplers) add(out, c.name, c.source, explain(c.meaning));
  out += "\n--reward-loss, of reward models learned from pairs\n";
  for (const choice_entry& c : losses) add(out, c.name, c.source, explain(c.meaning));
  return out;
}

}  // namespace align
