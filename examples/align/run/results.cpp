#include "align/run/results.hpp"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace align {

using nlohmann::ordered_json;

std::string to_text(const run_results& results) {
  ordered_json points = ordered_json::array(), samples = ordered_json::array();
  for (const curve_point& p : results.points) {
    ordered_json one = {{"method", p.method}, {"seed", p.seed}, {"iteration", p.iteration},
                        {"reward", p.reward}, {"kl", p.kl},     {"tokens", p.tokens}};
    if (p.has_proxy) one["proxy"] = p.proxy;
    if (p.length == p.length) one["length"] = p.length;
    if (p.win_rate == p.win_rate) one["win_rate"] = p.win_rate;
    points.push_back(std::move(one));
  }
  for (const sample_text& s : results.samples) {
    ordered_json texts = ordered_json::array();
    for (const sample_pair& t : s.samples) texts.push_back({{"prompt", t.prompt}, {"response", t.response}});
    samples.push_back({{"method", s.method}, {"samples", std::move(texts)}});
  }
  ordered_json tables = ordered_json::object();
  for (const auto& [name, text] : results.tables) tables[name] = ordered_json::parse(text);
  const ordered_json all = {{"points", std::move(points)},
                            {"samples", std::move(samples)},
                            {"figures", results.figures},
                            {"tables", std::move(tables)}};
  // A sample may end in the middle of a character.
  return all.dump(1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string memory_text(const std::map<std::string, method_memory>& memory) {
  ordered_json out = ordered_json::object();
  for (const auto& [method, m] : memory)
    out[method] = {{"trainable_bytes", m.trainable}, {"frozen_bytes", m.frozen}, {"activation_bytes", m.activations}};
  return out.dump();
}

std::map<std::string, method_memory> memory_of(const std::string& text) {
  std::map<std::string, method_memory> out;
  const ordered_json all = ordered_json::parse(text, nullptr, false);
  if (!all.is_object()) return out;
  for (const auto& [method, m] : all.items()) {
    const auto whole = [&m = m](const char* name) { return m.contains(name) && m[name].is_number(); };
    if (m.is_object() && whole("trainable_bytes") && whole("frozen_bytes") && whole("activation_bytes"))
      out[method] = {m["trainable_bytes"], m["frozen_bytes"], m["activation_bytes"]};
  }
  return out;
}

run_results results_of(const std::string& text, const std::string& name) {
  try {
    const ordered_json all = ordered_json::parse(text);
    run_results out;
    constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
    for (const ordered_json& p : all.at("points"))
      out.points.push_back({.method = p.at("method"),
                            .seed = p.at("seed"),
                            .iteration = p.at("iteration"),
                            .reward = p.at("reward"),
                            .kl = p.at("kl"),
                            .tokens = p.at("tokens"),
                            .proxy = p.value("proxy", 0.0),
                            .has_proxy = p.contains("proxy"),
                            .length = p.value("length", unknown),
                            .win_rate = p.value("win_rate", unknown)});
    for (const ordered_json& s : all.at("samples")) {
      sample_text one{.method = s.at("method")};
      for (const ordered_json& t : s.at("samples")) one.samples.push_back({t.at("prompt"), t.at("response")});
      out.samples.push_back(std::move(one));
    }
    for (const auto& [key, value] : all.at("figures").items()) out.figures[key] = value;
    for (const auto& [key, value] : all.at("tables").items()) out.tables[key] = value.dump();
    return out;
  } catch (const nlohmann::json::exception& trouble) {
    throw std::runtime_error(name + ": these are not the results of a run: " + trouble.what());
  }
}

}  // namespace align
