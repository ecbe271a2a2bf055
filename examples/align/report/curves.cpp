#include "align/report/curves.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "align/run/algorithms.hpp"

namespace align {

std::string title(const std::string& method) {
  if (const algorithm_entry* const known = find_algorithm(method); known != nullptr) return known->title;
  static const std::map<std::string, std::string> others = {{"best_of_n", "best of n"},
                                                            {"start", "before"},
                                                            {"dpo_hot", "DPO, long steps"},
                                                            {"ppo_proxy", "PPO, learned reward"}};
  const auto it = others.find(method);
  return it == others.end() ? method : it->second;
}

std::string color(const std::string& method) {
  if (const algorithm_entry* const known = find_algorithm(method); known != nullptr) return known->color;
  static const std::map<std::string, std::string> colors = {
      {"best_of_n", "#777777"}, {"dpo_hot", "#66ccee"}, {"ppo_proxy", "#ccbb44"}};
  const auto it = colors.find(method);
  return it == colors.end() ? "#000000" : it->second;
}

bool overoptimised(const std::string& method) { return method == "dpo_hot" || method == "ppo_proxy"; }

bool learns_from_a_fixed_set(const std::string& method) {
  const algorithm_entry* const known = find_algorithm(method);
  return method == "dpo_hot" || (known != nullptr && (known->needs & need::passes) != 0);
}

nlohmann::ordered_json json_of(const curve_point& p, const std::string& label) {
  nlohmann::ordered_json out = {{"method", label},     {"seed", p.seed}, {"iteration", p.iteration},
                                {"reward", p.reward},  {"kl", p.kl},     {"tokens", p.tokens},
                                {"seconds", p.seconds}};
  if (p.has_proxy) out["proxy"] = p.proxy;
  if (p.length == p.length) out["length"] = p.length;
  if (p.win_rate == p.win_rate) out["win_rate"] = p.win_rate;
  return out;
}

std::vector<std::string> methods(const std::vector<curve_point>& points) {
  std::vector<std::string> out;
  for (const auto& p : points)
    if (std::find(out.begin(), out.end(), p.method) == out.end()) out.push_back(p.method);
  return out;
}
std::vector<curve_point> curve(const std::vector<curve_point>& points, const std::string& method) {
  std::vector<curve_point> out;
  for (const auto& p : points)
    if (p.method == method) out.push_back(p);
  return out;
}

double best_of_n_reward(const std::vector<curve_point>& points, double kl) {
  for (std::size_t i = 1; i < points.size(); ++i)
    if (kl <= points[i].kl)
      return points[i - 1].reward +
             (points[i].reward - points[i - 1].reward) * (kl - points[i - 1].kl) / (points[i].kl - points[i - 1].kl);
  return std::nan("");
}

double best_of_n_gain(const std::vector<curve_point>& points, double kl) {
  return points.empty() ? std::nan("") : best_of_n_reward(points, kl) - points.front().reward;
}

series line(const std::vector<curve_point>& points, const std::string& method, double curve_point::*x,
            double curve_point::*y) {
  series s{.title = title(method), .color = color(method), .dashed = method == "best_of_n"};
  for (const curve_point& p : curve(points, method)) {
    s.x.push_back(p.*x);
    s.y.push_back(p.*y);
  }
  return s;
}

}  // namespace align
