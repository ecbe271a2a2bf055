#include "align/report/report.hpp"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "align/files/save.hpp"
#include "align/report/curves.hpp"
#include "align/report/figure.hpp"
#include "align/report/page.hpp"
#include "rlhf/version.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

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
  csv << "method,seed,iteration,reward,kl,tokens,length,win_rate\n";
  const auto cell = [](double x) {
    std::ostringstream text;
    if (x == x) text << x;
    return text.str();
  };
  for (const auto& p : results.points) {
    list.push_back(json_of(p, p.method));
    csv << p.method << ',' << p.seed << ',' << p.iteration << ',' << p.reward << ',' << p.kl << ',' << p.tokens << ','
        << cell(p.length) << ',' << cell(p.win_rate) << '\n';
  }
  ordered_json summary = {{"task", t.title}, {"seed", s.seed}, {"quick", s.quick}, {"unit", t.unit}};
  for (const auto& [name, value] : results.figures) summary[name] = value;
  for (const auto& [name, text] : results.tables) summary["tables"][name] = ordered_json::parse(text);
  summary["seconds"] = results.seconds;
  for (const auto& [method, bytes] : results.peaks) summary["peak_bytes"][method] = bytes;
  summary["memory"] = ordered_json::parse(memory_text(results.memory));
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

/// Curves over what they sampled or read, in thousand response tokens.
figure reward_by_tokens(const std::vector<curve_point>& points) {
  figure f{"reward-tokens", "thousand response tokens", "mean reward", {}};
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
  const double before = figure_named("sft_loss_before");
  if (const double loss = figure_named("sft_loss"); loss == loss)
    out.paragraph("The start: " + fixed(loss, 3) + " nats per token, held out" +
                  (before == before ? "; before SFT " + fixed(before, 3) : std::string()) + ".");
  if (const double right = figure_named("reward_accuracy"); right == right)
    out.paragraph("The reward model is right on <b>" + fixed(100 * right, 1) + "&nbsp;%</b> of " +
                  fixed(figure_named("reward_pairs"), 0) + " held-out pairs.");
  if (const double tied = figure_named("reward_tie_of_equals"); tied == tied) {
    const double log_nu = figure_named("reward_log_nu");
    out.paragraph("It learned from " + fixed(figure_named("reward_ties"), 0) +
                  " ties: two responses that it finds equally good tie with probability <b>" + fixed(tied, 3) +
                  "</b> (" +
                  (log_nu == log_nu ? "log&nbsp;&nu; = " + fixed(log_nu, 3)
                                    : "log&nbsp;&theta; = " + fixed(figure_named("reward_log_theta"), 3)) +
                  ").");
  }
  const double start = figure_named("start_reward"), deviation = figure_named("reward_deviation");
  const auto best = curve(results.points, "best_of_n");
  if (!results.points.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& m : methods(results.points)) {
      if (m == "best_of_n") continue;
      const curve_point last = curve(results.points, m).back();
      const double sampled = best_of_n_gain(best, last.kl);
      rows.push_back({title(m), fixed(last.reward, 2),
                      deviation > 0 ? fixed((last.reward - start) / deviation, 2) : "–", fixed(last.kl, 2),
                      sampled > 0 ? fixed((last.reward - start) / sampled, 2) : "–",
                      fixed(static_cast<double>(last.tokens) / 1000, 0), fixed(last.seconds, 1),
                      results.peaks.contains(m) ? fixed(static_cast<double>(results.peaks.at(m)) / 1048576, 0) : "–"});
      std::string parts = "–";
      if (const auto memory = results.memory.find(m); memory != results.memory.end()) {
        const auto mebibytes = [](std::int64_t bytes, int digits) {
          return fixed(static_cast<double>(bytes) / 1048576, digits);
        };
        const method_memory& of = memory->second;
        parts = mebibytes(of.trainable, 1) + " + " + mebibytes(of.frozen, 1) + " + " + mebibytes(of.activations, 0);
      }
      rows.back().push_back(parts);
      rows.back().push_back(last.win_rate == last.win_rate ? fixed(last.win_rate, 2) : "–");
      rows.back().push_back(last.length == last.length ? fixed(last.length, 1) : "–");
    }
    const double length = figure_named("start_length");
    rows.insert(rows.begin(), {"before", fixed(start, 2), "0.00", "0.00", "–", "0", "–", "–", "–", "–",
                               length == length ? fixed(length, 1) : "–"});
    out.table({"", "reward", "gain", "KL, nats", "of best-of-n", "1000 tokens", "seconds", "peak, MiB", "of it, MiB",
               "wins", "length"},
              rows);
    out.paragraph(
        "<small>Gain: over the start, in standard deviations of its samples' reward (" + fixed(deviation, 2) +
        "). Of best-of-n: the gain divided by what "
        "best-of-n gains over a single one of its own samples at the same KL; – where that KL is beyond the "
        "curve drawn. Of it: what is trained with gradients and moments, what is only read, and the most that "
        "passes needed. Wins: how often a response scores higher than one of the start to the same prompt, "
        "ties half. Length: tokens of a response.</small>");

    for (const auto& m : methods(results.points))
      if (const double after = figure_named((m + "_ended_after").c_str()); after == after)
        out.paragraph(title(m) + " ended early, after evaluation " + fixed(after, 0) + ": its " +
                      fixed(curve(results.points, m).back().kl, 2) + " nats to the start are more than --most-kl " +
                      fixed(s.how.most_kl, 2) + ".");

    out.heading("Reward against KL");
    out.paragraph(
        "Every point is an evaluation on fresh samples. Further up is better, further left is closer to where the "
        "model "
        "came from. The "
        "dashed line needs no training: draw n, keep the best.");
    out.figure_of(draw(folder, reward_by_kl(results.points, t.unit)));
    out.heading("Reward against samples");
    out.paragraph(
        "Response tokens that a method has sampled itself, or read of a fixed set for the first time, each once; what "
        "a "
        "guide or a value learned from before (RTO's pairs, DVPO's) is not counted.");
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

}  // namespace align
