#include "align/report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "align/algorithms.hpp"
#include "align/figure.hpp"
#include "align/files/bytes.hpp"
#include "align/files/save.hpp"
#include "rlhf/version.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string fixed(double x, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, x);
  return text;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\n')
      out += "<br>";
    else
      out += c;
  }
  return out;
}

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

/// The reward of best-of-n at a KL, between its points; nothing beyond them.
double frontier(const std::vector<curve_point>& points, double kl) {
  for (std::size_t i = 1; i < points.size(); ++i)
    if (kl <= points[i].kl)
      return points[i - 1].reward +
             (points[i].reward - points[i - 1].reward) * (kl - points[i - 1].kl) / (points[i].kl - points[i - 1].kl);
  return std::nan("");
}

series line(const std::vector<curve_point>& points, const std::string& method, double curve_point::*x,
            double curve_point::*y, double scale = 1) {
  series s{.title = title(method), .color = color(method), .dashed = method == "best_of_n"};
  for (const curve_point& p : curve(points, method)) {
    s.x.push_back(p.*x * scale);
    s.y.push_back(p.*y);
  }
  return s;
}

/// A page: parts one after the other.
class page {
 public:
  explicit page(const std::string& heading) {
    out_ << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
         << "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" << heading
         << "</title>\n<style>"
         << "body{font:16px/1.5 system-ui,sans-serif;max-width:820px;margin:2rem auto;padding:0 "
            "1rem;color:#222;background:#fff}"
         << "h2{margin-top:2.2rem}table{border-collapse:collapse;width:100%;font-size:.95rem}"
         << "td,th{padding:.3rem .5rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}"
         << "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}svg{max-width:100%;height:"
            "auto}"
         << ".wide{overflow-x:auto}small,.quiet{color:#666}.sample{border:1px solid "
            "#ddd;border-radius:.4rem;padding:.6rem 1rem;margin:1rem 0}"
         << ".pair{display:grid;grid-template-columns:7rem 1fr;gap:.2rem .8rem}.pair "
            "b{font-weight:600}td:first-child{white-space:nowrap}"
         << "@media(max-width:520px){.pair{grid-template-columns:1fr}}pre{overflow-x:auto;background:#f6f6f6;padding:."
            "6rem}"
         << "</style></head><body>\n<h1>" << heading << "</h1>\n";
  }
  void paragraph(const std::string& html) { out_ << "<p>" << html << "</p>\n"; }
  void heading(const std::string& text) { out_ << "<h2>" << text << "</h2>\n"; }
  void raw(const std::string& html) { out_ << html << '\n'; }
  void figure_of(const std::string& svg) {
    if (svg.empty())
      paragraph(
          "<small>gnuplot was not found, so there is no figure here; its numbers are in the files beside this "
          "page.</small>");
    else
      out_ << svg << '\n';
  }
  /// Cells after the first `words` are numbers.
  void table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
             std::size_t words = 1) {
    out_ << "<div class=\"wide\"><table><tr>";
    for (std::size_t i = 0; i < head.size(); ++i)
      out_ << (i < words ? "<th>" : "<th class=\"n\">") << head[i] << "</th>";
    out_ << "</tr>\n";
    for (const auto& row : rows) {
      out_ << "<tr>";
      for (std::size_t i = 0; i < row.size(); ++i)
        out_ << (i < words ? "<td>" : "<td class=\"n\">") << row[i] << "</td>";
      out_ << "</tr>\n";
    }
    out_ << "</table></div>\n";
  }
  [[nodiscard]] std::string text() const { return out_.str() + "</body></html>\n"; }

 private:
  std::ostringstream out_;
};

std::string machine() {
  std::ifstream info("/proc/cpuinfo");
  std::string text, model = "unknown processor";
  while (std::getline(info, text))
    if (text.rfind("model name", 0) == 0) {
      model = text.substr(text.find(':') + 2);
      break;
    }
  return escaped(model) + ", " + std::to_string(std::thread::hardware_concurrency()) + " processors";
}

/// Means of a metric by step, thinned to at most 200 points.
std::map<std::string, series> metric(const fs::path& csv, const std::string& name) {
  std::map<std::string, series> all, out;
  std::ifstream file(csv);
  std::string text;
  while (std::getline(file, text)) {
    std::istringstream cells(text);
    std::string stage, step, what, value;
    if (!std::getline(cells, stage, ',') || !std::getline(cells, step, ',') || !std::getline(cells, what, ',') ||
        !std::getline(cells, value, ','))
      continue;
    if (what != name) continue;
    all[stage].x.push_back(std::strtod(step.c_str(), nullptr));
    all[stage].y.push_back(std::strtod(value.c_str(), nullptr));
  }
  for (auto& [stage, s] : all) {
    series& to = out[stage];
    const std::size_t stride = (s.x.size() + 199) / 200;
    for (std::size_t i = 0; i < s.x.size(); i += stride) {
      double sum = 0;
      const std::size_t end = std::min(s.x.size(), i + stride);
      for (std::size_t j = i; j < end; ++j) sum += s.y[j];
      to.x.push_back(100 * s.x[end - 1] / s.x.back());
      to.y.push_back(sum / static_cast<double>(end - i));
    }
  }
  return out;
}

const char* stage_color(const std::string& stage) {
  static const std::map<std::string, const char*> colors = {
      {"sft", "#bbbbbb"}, {"reward", "#ccbb44"}, {"proxy", "#ccbb44"}, {"global_value", "#ddaa33"}};
  const auto it = colors.find(stage);
  return it == colors.end() ? nullptr : it->second;
}

void learning_curves(page& out, const fs::path& folder) {
  figure losses{"losses", "share of the stage, %", "loss", {}},
      scores{"scores", "share of the stage, %", "reward of the training samples", {}};
  for (auto& [stage, s] : metric(folder / "metrics.csv", "loss")) {
    s.title = stage_color(stage) != nullptr ? stage : title(stage);
    s.color = stage_color(stage) != nullptr ? stage_color(stage) : color(stage);
    losses.lines.push_back(s);
  }
  for (auto& [stage, s] : metric(folder / "metrics.csv", "objective/scores")) {
    s.title = title(stage);
    s.color = color(stage);
    scores.lines.push_back(s);
  }
  if (losses.lines.empty() && scores.lines.empty()) return;
  out.heading("Learning curves");
  if (!losses.lines.empty()) {
    out.paragraph(
        "Losses of the stages that learn from a fixed set: maximum likelihood in nats per token, the others in nats "
        "per pair.");
    out.figure_of(draw(folder, losses));
  }
  if (!scores.lines.empty()) {
    out.paragraph("The mean reward of what the sampling methods draw to learn from.");
    out.figure_of(draw(folder, scores));
  }
  out.paragraph(
      "<small>Every number of every update is in <code>metrics.csv</code> and <code>metrics.jsonl</code>.</small>");
}

void side_by_side(page& out, const run_results& results, const task& t) {
  if (results.samples.empty() || results.samples.front().samples.empty()) return;
  out.heading("Samples, before and after");
  out.paragraph("The same prompts and the same random numbers for every method.");
  const auto& before = results.samples.front();
  const bool prompts = !before.samples.front().prompt.empty() && t.what != subject::names;
  if (!prompts) {
    std::vector<std::string> head;
    std::vector<std::vector<std::string>> rows(before.samples.size());
    for (const sample_text& s : results.samples) {
      head.push_back(title(s.method));
      for (std::size_t i = 0; i < s.samples.size(); ++i) rows[i].push_back(escaped(s.samples[i].response));
    }
    out.table(head, rows, head.size());
    return;
  }
  for (std::size_t i = 0; i < before.samples.size(); ++i) {
    std::string html =
        "<div class=\"sample\"><p class=\"quiet\">" + escaped(before.samples[i].prompt) + " …</p><div class=\"pair\">";
    for (const sample_text& s : results.samples)
      if (i < s.samples.size())
        html += "<b>" + title(s.method) + "</b><span>" + escaped(s.samples[i].response) + "</span>";
    out.raw(html + "</div></div>");
  }
}

void judgements(page& out, const run_results& results) {
  std::vector<std::vector<std::string>> rows;
  const auto share = [](const ordered_json& of) {
    return of["share"].is_number() ? fixed(100 * of["share"].get<double>(), 1) : std::string("–");
  };
  const auto plain = [](const ordered_json& x, int digits) {
    return x.is_number() ? fixed(x.get<double>(), digits) : std::string("–");
  };
  for (const auto& [name, text] : results.tables) {
    const ordered_json j = ordered_json::parse(text);
    if (!j.contains("accuracy")) continue;
    const ordered_json &right = j["accuracy"], &sure = j["calibration"];
    rows.push_back({title(name), share(right),
                    fixed(100 * right["low"].get<double>(), 1) + " – " + fixed(100 * right["high"].get<double>(), 1),
                    share(j["longer_wins"]), share(j["longer_chosen"]), share(j["shorter_chosen"]),
                    plain(sure["ece"], 3), plain(sure["temperature"], 2)});
  }
  if (rows.empty()) return;
  out.heading("Held-out preferences");
  out.paragraph(
      "How often the preferred response is ranked first, in %, with its 95&nbsp;% interval; what choosing the longer "
      "one would get; the "
      "accuracy where the preferred one is the longer and where it is the shorter; the calibration error, and the "
      "temperature that mends it.");
  out.table(
      {"", "right", "95&nbsp;% interval", "longer wins", "if longer", "if shorter", "calibration error", "temperature"},
      rows);
}

void write_numbers(const fs::path& folder, const settings& s, const task& t, const run_results& results) {
  ordered_json list = ordered_json::array();
  std::ostringstream csv;
  csv << "method,seed,iteration,reward,kl,tokens\n";
  for (const auto& p : results.points) {
    list.push_back({{"method", p.method},
                    {"seed", p.seed},
                    {"iteration", p.iteration},
                    {"reward", p.reward},
                    {"kl", p.kl},
                    {"tokens", p.tokens},
                    {"seconds", p.seconds}});
    if (p.has_proxy) list.back()["proxy"] = p.proxy;
    csv << p.method << ',' << p.seed << ',' << p.iteration << ',' << p.reward << ',' << p.kl << ',' << p.tokens << '\n';
  }
  ordered_json summary = {{"task", t.title}, {"seed", s.seed}, {"quick", s.quick}, {"unit", t.unit}};
  for (const auto& [name, value] : results.figures) summary[name] = value;
  for (const auto& [name, text] : results.tables) summary["tables"][name] = ordered_json::parse(text);
  summary["seconds"] = results.seconds;
  save_file(folder / "report.json", list.dump(1) + "\n");
  save_file(folder / "results.json", to_text(results) + "\n");
  save_file(folder / "summary.json", summary.dump(1) + "\n");
  save_file(folder / "curves.csv", csv.str());
}

figure reward_by_kl(const std::vector<curve_point>& points, const std::string& unit) {
  figure f{"reward-kl", "KL to the start, nats per " + unit, "mean reward", {}};
  for (const auto& m : methods(points))
    if (!overoptimised(m)) f.lines.push_back(line(points, m, &curve_point::kl, &curve_point::reward));
  return f;
}

/// Curves over what they learned from, in thousand response tokens.
figure reward_by_tokens(const std::vector<curve_point>& points) {
  figure f{"reward-tokens", "thousand response tokens learned from", "mean reward", {}};
  for (const auto& m : methods(points)) {
    if (overoptimised(m) || m == "best_of_n") continue;
    series s{.title = title(m), .color = color(m)};
    for (const curve_point& p : curve(points, m)) {
      s.x.push_back(static_cast<double>(p.tokens) / 1000);
      s.y.push_back(p.reward);
    }
    f.lines.push_back(s);
  }
  return f;
}

}  // namespace

void write_report(const settings& s, const task& t, const run_results& results) {
  const fs::path folder = s.out;
  write_numbers(folder, s, t, results);
  page out(t.title);
  out.paragraph(t.story);

  const auto figure_named = [&](const char* name) {
    const auto it = results.figures.find(name);
    return it == results.figures.end() ? std::nan("") : it->second;
  };
  if (const double loss = figure_named("sft_loss"); loss == loss)
    out.paragraph("The start: " + fixed(loss, 3) + " nats per token, held out.");
  if (const double right = figure_named("reward_accuracy"); right == right)
    out.paragraph("The reward model is right on <b>" + fixed(100 * right, 1) + "&nbsp;%</b> of " +
                  fixed(figure_named("reward_pairs"), 0) + " held-out pairs.");
  const double start = figure_named("start_reward"), deviation = figure_named("reward_deviation");
  const auto best = curve(results.points, "best_of_n");
  if (!results.points.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& m : methods(results.points)) {
      if (m == "best_of_n") continue;
      const curve_point last = curve(results.points, m).back();
      const double sampled = frontier(best, last.kl) - start;
      rows.push_back({title(m), fixed(last.reward, 2),
                      deviation > 0 ? fixed((last.reward - start) / deviation, 2) : "–", fixed(last.kl, 2),
                      sampled > 0 ? fixed((last.reward - start) / sampled, 2) : "–",
                      fixed(static_cast<double>(last.tokens) / 1000, 0), fixed(last.seconds, 1)});
    }
    rows.insert(rows.begin(), {"before", fixed(start, 2), "0.00", "0.00", "–", "0", "–"});
    out.table({"", "reward", "gain", "KL, nats", "of best-of-n", "1000 tokens", "seconds"}, rows);
    out.paragraph("<small>Gain: over the start, in standard deviations of its samples' reward (" + fixed(deviation, 2) +
                  "). Of best-of-n: the gain divided by what "
                  "best-of-n gains at the same KL; – where that KL is beyond the curve drawn.</small>");

    out.heading("Reward against KL");
    out.paragraph(
        "Every point is an evaluation on fresh samples. Further up is better, further left is closer to where the "
        "model "
        "came from. The "
        "dashed line needs no training: draw n, keep the best.");
    out.figure_of(draw(folder, reward_by_kl(results.points, t.unit)));
    out.heading("Reward against samples");
    out.figure_of(draw(folder, reward_by_tokens(results.points)));
  }
  if (const auto hot = curve(results.points, "dpo_hot"), chased = curve(results.points, "ppo_proxy");
      !hot.empty() || !chased.empty()) {
    out.heading("Too far");
    out.paragraph(
        "What optimisation makes of a reward when nothing holds it back. One method takes steps that are far too long; "
        "the other maximises a reward "
        "model, learned from judged samples of the start, without a KL penalty. The true reward is exact here, so that "
        "what the learned one promises can "
        "be held against it.");
    figure f{"over-optimised", "KL to the start, nats per " + t.unit, "mean reward", {}};
    f.lines.push_back(line(results.points, "dpo_hot", &curve_point::kl, &curve_point::reward));
    series truth = line(results.points, "ppo_proxy", &curve_point::kl, &curve_point::reward),
           promise = line(results.points, "ppo_proxy", &curve_point::kl, &curve_point::proxy);
    truth.title += ": true";
    promise.title += ": as learned";
    promise.dashed = true;
    promise.color = "#999933";
    f.lines.push_back(truth);
    f.lines.push_back(promise);
    out.figure_of(draw(folder, f));
  }
  judgements(out, results);
  learning_curves(out, folder);
  side_by_side(out, results, t);

  out.heading("Settings");
  out.paragraph("Seed " + std::to_string(s.seed) + (s.quick ? ", quick" : "") + ". " + fixed(results.seconds, 1) +
                " seconds in all with " + std::to_string(s.threads) + (s.threads == 1 ? " thread" : " threads") +
                " on " + machine() + ". rlhf " + std::to_string(RLHF_VERSION_MAJOR) + "." +
                std::to_string(RLHF_VERSION_MINOR) + "." + std::to_string(RLHF_VERSION_PATCH) +
                ". The same seed gives the same numbers for any number of threads.");
  std::string lines;
  for (const std::string& one : identity(s)) lines += escaped(one) + "\n";
  out.raw("<details><summary>All settings</summary><pre>" + lines + "</pre></details>");
  if (t.what == subject::names) out.paragraph("<small>Names: public domain (PDDL, CC0).</small>");
  save_file(folder / "report.html", out.text());
}

namespace {

/// Two-sided 95 % of Student's t with n - 1 degrees of freedom.
double student(std::size_t n) {
  static constexpr double table[] = {0, 0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  return n < std::size(table) ? table[n] : 1.96 + 2.4 / static_cast<double>(n);
}

struct spread {
  double mean = 0, half = 0;
};
spread spread_of(const std::vector<double>& x) {
  spread s;
  for (const double v : x) s.mean += v / static_cast<double>(x.size());
  double squares = 0;
  for (const double v : x) squares += (v - s.mean) * (v - s.mean);
  if (x.size() > 1)
    s.half = student(x.size()) * std::sqrt(squares / static_cast<double>(x.size() - 1) / static_cast<double>(x.size()));
  return s;
}
std::string shown(const spread& s, int digits, std::size_t n) {
  return fixed(s.mean, digits) + (n > 1 ? " ± " + fixed(s.half, digits) : "");
}

}  // namespace

void write_comparison(const std::vector<std::string>& runs, const std::string& out_folder) {
  require_writable(out_folder);
  std::vector<run_results> all;
  std::string task_title, unit;
  for (const std::string& run : runs) {
    for (const char* file : {"results.json", "report.json", "summary.json"})
      if (!fs::exists(fs::path(run) / file))
        throw std::runtime_error("compare: " + run + " holds no finished run: there is no " + file);
    const std::string name = (fs::path(run) / "results.json").string(),
                      other = (fs::path(run) / "summary.json").string();
    all.push_back(results_of(std::string(as_text(read_whole(name, std::uint64_t{1} << 30))), name));
    const auto clocked =
        ordered_json::parse(as_text(read_whole(fs::path(run) / "report.json", std::uint64_t{1} << 30)), nullptr, false);
    for (std::size_t i = 0; clocked.is_array() && i < std::min(clocked.size(), all.back().points.size()); ++i)
      all.back().points[i].seconds = clocked[i].value("seconds", 0.0);
    const auto summary = ordered_json::parse(as_text(read_whole(other, std::uint64_t{1} << 30)), nullptr, false);
    if (!summary.is_object()) throw std::runtime_error("compare: " + other + " is no JSON object");
    const std::string this_title = summary.value("task", "");
    if (!task_title.empty() && this_title != task_title)
      throw std::runtime_error("compare: " + run + " is about `" + this_title + "`, the runs before it about `" +
                               task_title + "`");
    task_title = this_title;
    unit = summary.value("unit", "response");
  }

  std::vector<std::string> names;
  std::set<std::uint64_t> seeds;
  ordered_json list = ordered_json::array();
  for (const run_results& r : all)
    for (const curve_point& p : r.points) {
      if (std::find(names.begin(), names.end(), p.method) == names.end()) names.push_back(p.method);
      seeds.insert(p.seed);
      list.push_back({{"method", p.method},
                      {"seed", p.seed},
                      {"iteration", p.iteration},
                      {"reward", p.reward},
                      {"kl", p.kl},
                      {"tokens", p.tokens},
                      {"seconds", p.seconds}});
    }

  std::ostringstream csv;
  csv << "method,runs,reward,reward_interval,kl,kl_interval,gain,gain_interval,of_best_of_n,of_best_of_n_interval,"
         "seconds\n";
  std::vector<std::vector<std::string>> rows;
  for (const std::string& m : names) {
    if (m == "best_of_n") continue;
    std::vector<double> reward, kl, gain, share, seconds;
    for (const run_results& r : all) {
      const auto c = curve(r.points, m);
      if (c.empty()) continue;
      const double begin = c.front().reward,
                   deviation = r.figures.count("reward_deviation") != 0 ? r.figures.at("reward_deviation") : 1;
      reward.push_back(c.back().reward);
      kl.push_back(c.back().kl);
      gain.push_back((c.back().reward - begin) / deviation);
      const double sampled = frontier(curve(r.points, "best_of_n"), c.back().kl) - begin;
      if (sampled > 0) share.push_back((c.back().reward - begin) / sampled);
      seconds.push_back(c.back().seconds);
    }
    const std::size_t n = reward.size();
    const spread a = spread_of(reward), b = spread_of(kl), c = spread_of(gain), d = spread_of(share),
                 e = spread_of(seconds);
    rows.push_back({title(m), std::to_string(n), shown(a, 2, n), shown(c, 2, n), shown(b, 2, n),
                    share.size() == n ? shown(d, 2, n) : "–", fixed(e.mean, 1)});
    csv << m << ',' << n << ',' << a.mean << ',' << a.half << ',' << b.mean << ',' << b.half << ',' << c.mean << ','
        << c.half << ',' << d.mean << ',' << d.half << ',' << e.mean << '\n';
  }

  page out(task_title + ": " + std::to_string(all.size()) + (all.size() == 1 ? " run" : " runs"));
  std::string seed_list;
  for (const std::uint64_t seed : seeds) seed_list += (seed_list.empty() ? "" : ", ") + std::to_string(seed);
  out.paragraph("Seeds " + seed_list +
                ". The last evaluation of every method; mean and 95&nbsp;% interval (Student) over the runs. Gain: "
                "over the start, in standard deviations of its samples' reward. Of best-of-n: the gain divided by what "
                "best-of-n gains at the same KL.");
  out.table({"", "runs", "reward", "gain", "KL, nats", "of best-of-n", "seconds"}, rows);
  for (const bool by_kl : {true, false}) {
    figure f = by_kl ? figure{"reward-kl", "KL to the start, nats per " + unit, "mean reward", {}}
                     : figure{"reward-tokens", "thousand response tokens learned from", "mean reward", {}};
    std::set<std::string> told;
    for (const run_results& r : all) {
      figure one = by_kl ? reward_by_kl(r.points, unit) : reward_by_tokens(r.points);
      for (series& s : one.lines) {
        if (!told.insert(s.title).second) s.title.clear();
        s.faint = all.size() > 3;
        f.lines.push_back(s);
      }
    }
    out.heading(by_kl ? "Reward against KL" : "Reward against samples");
    out.figure_of(draw(out_folder, f));
  }
  out.heading("Runs");
  std::string which;
  for (const std::string& run : runs) which += "<li><code>" + escaped(run) + "</code></li>";
  out.raw("<ul>" + which + "</ul>");
  save_file(fs::path(out_folder) / "report.json", list.dump(1) + "\n");
  save_file(fs::path(out_folder) / "compare.csv", csv.str());
  save_file(fs::path(out_folder) / "report.html", out.text());
}

}  // namespace align
