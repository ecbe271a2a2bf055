#include "align/report.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "rlhf/version.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;

void write_whole(const fs::path& path, const std::string& text) {
  const fs::path fresh = path.string() + ".new";
  std::ofstream file(fresh, std::ios::binary);
  file << text;
  file.close();
  if (!file) {
    std::error_code ignored;
    fs::remove(fresh, ignored);
    throw std::runtime_error("cannot write " + path.string() + ": is the disk full?");
  }
  fs::rename(fresh, path);
}

std::string fixed(double x, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, x);
  return text;
}

const std::map<std::string, std::string> titles = {{"dpo", "DPO"}, {"rebel", "REBEL"},         {"ppo", "PPO"},
                                                   {"rto", "RTO"}, {"best_of_n", "best of n"}, {"sft", "before (SFT)"}};

std::string title(const std::string& method) {
  const auto it = titles.find(method);
  return it == titles.end() ? method : it->second;
}

std::vector<std::string> methods(const pipeline_result& result) {
  std::vector<std::string> out;
  for (const auto& p : result.points)
    if (std::find(out.begin(), out.end(), p.method) == out.end()) out.push_back(p.method);
  return out;
}

/// One figure as SVG text; empty where gnuplot is missing or fails.
std::string draw(const fs::path& folder, const pipeline_result& result, const std::string& x_label, bool over_tokens) {
  const fs::path svg = folder / (over_tokens ? "reward-tokens.svg" : "reward-kl.svg");
  std::ostringstream script;
  script << "set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'\n"
         << "set output '" << svg.filename().string() << "'\nset grid lc rgb '#dddddd'\nset border 3 lc rgb '#555555'\n"
         << "set tics nomirror\nset key right bottom\nset xlabel '" << x_label << "'\nset ylabel 'mean reward'\n";
  const std::map<std::string, std::string> colors = {
      {"dpo", "#4477aa"}, {"rebel", "#ee6677"}, {"ppo", "#228833"}, {"rto", "#aa3377"}, {"best_of_n", "#777777"}};
  std::string plots;
  int block = 0;
  for (const auto& method : methods(result)) {
    if (over_tokens && method == "best_of_n") continue;
    script << "$b" << block << " << EOD\n";
    for (const auto& p : result.points)
      if (p.method == method)
        script << (over_tokens ? static_cast<double>(p.tokens) / 1000 : p.kl) << ' ' << p.reward << '\n';
    script << "EOD\n";
    const auto color = colors.find(method);
    plots += (plots.empty() ? "" : ", ") + ("$b" + std::to_string(block++)) +
             " using 1:2 with linespoints pt 7 ps 0.4 lw 2 lc rgb '" +
             (color == colors.end() ? "#000000" : color->second) + "' " + (method == "best_of_n" ? "dt 2 " : "") +
             "title '" + title(method) + "'";
  }
  script << "plot " << plots << '\n';
  const fs::path source = folder / "figure.gnuplot";
  write_whole(source, script.str());
  std::error_code ignored;
  fs::remove(svg, ignored);
  const std::string command = "cd '" + folder.string() + "' && gnuplot figure.gnuplot >/dev/null 2>&1";
  const int failed = std::system(command.c_str());
  fs::remove(source, ignored);
  std::ifstream file(svg);
  if (failed != 0 || !file) return {};
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto begin = text.find("<svg");
  return begin == std::string::npos ? std::string{} : text.substr(begin);
}

std::string html(const fs::path& folder, const pipeline_options& options, const pipeline_result& result) {
  const std::string by_kl = draw(folder, result, "KL to the model before alignment, nats per name", false);
  const std::string by_tokens = draw(folder, result, "thousand characters learned from", true);
  double start = 0;
  for (const auto& p : result.points)
    if (p.iteration == 0) start = p.reward;
  std::ostringstream page;
  page << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
       << "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>rlhf-align "
          "report</title>\n<style>"
       << "body{font:16px/1.5 system-ui,sans-serif;max-width:800px;margin:2rem auto;padding:0 "
          "1rem;color:#222;background:#fff}"
       << "table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid "
          "#ddd;text-align:left;vertical-align:top}"
       << "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}.wide{overflow-"
          "x:auto}"
       << "small{color:#666}</style></head><body>\n<h1>Aligning a small language model of names</h1>\n<p>A character "
          "model was "
       << "fitted to English first names (held out: " << fixed(result.sft_loss, 3)
       << " nats per character). A reward model "
       << "learned from pairs of a female and a male name which one is preferred; it is right on <b>"
       << fixed(100 * result.reward_accuracy, 1) << "&nbsp;%</b> of " << result.reward_pairs
       << " held-out pairs. Then the character model was aligned to that reward in four ways, and best-of-n is drawn "
          "beside "
       << "them as what sampling alone can do.</p>\n";
  page << "<div class=\"wide\"><table><tr><th>method</th><th class=\"n\">reward</th><th class=\"n\">gain, in "
          "deviations before</th>"
       << "<th class=\"n\">KL, nats</th><th class=\"n\">seconds</th></tr>\n";
  for (const auto& method : methods(result)) {
    if (method == "best_of_n") continue;
    const auto last =
        std::find_if(result.points.rbegin(), result.points.rend(), [&](const auto& p) { return p.method == method; });
    page << "<tr><td>" << title(method) << "</td><td class=\"n\">" << fixed(last->reward, 2) << "</td><td class=\"n\">"
         << fixed(result.reward_deviation > 0 ? (last->reward - start) / result.reward_deviation : 0, 2)
         << "</td><td class=\"n\">" << fixed(last->kl, 2) << "</td><td class=\"n\">" << fixed(last->seconds, 1)
         << "</td></tr>\n";
  }
  page << "</table></div>\n<h2>Reward against KL</h2>\n";
  if (by_kl.empty()) {
    page << "<p>gnuplot was not found, so there are no curves here; the numbers are in <code>curves.csv</code> beside "
            "this page.</p>\n";
  } else {
    page << "<p>Every point is an evaluation on fresh samples. Further up is better, further left is closer to where "
            "the model "
         << "came from.</p>\n"
         << by_kl << "\n<h2>Reward against experience</h2>\n"
         << by_tokens << '\n';
  }
  page << "<h2>Samples, drawn with the same random numbers</h2>\n<div class=\"wide\"><table><tr>";
  for (const auto& s : result.samples) page << "<th>" << title(s.method) << "</th>";
  page << "</tr>\n";
  const std::size_t lines = result.samples.empty() ? 0 : result.samples.front().names.size();
  for (std::size_t i = 0; i < lines; ++i) {
    page << "<tr>";
    for (const auto& s : result.samples) page << "<td>" << s.names[i] << "</td>";
    page << "</tr>\n";
  }
  page << "</table></div>\n<h2>Settings</h2>\n<p>seed " << options.seed << ", " << options.threads << " threads"
       << (options.quick ? ", quick" : "") << ", " << fixed(result.seconds, 1) << " seconds in all, "
       << std::thread::hardware_concurrency() << " processors, rlhf " << RLHF_VERSION_MAJOR << '.' << RLHF_VERSION_MINOR
       << '.' << RLHF_VERSION_PATCH << ". The same seed gives the same numbers for any number of threads.</p>\n"
       << "<p><small>Names: public domain (PDDL, CC0).</small></p>\n</body></html>\n";
  return page.str();
}

}  // namespace

void prepare_output(const std::string& folder) {
  std::error_code trouble;
  fs::create_directories(folder, trouble);
  if (trouble) throw std::runtime_error("--out: cannot make the folder " + folder + ": " + trouble.message());
  const fs::path probe = fs::path(folder) / ".write-probe";
  std::ofstream file(probe);
  file << "x";
  file.close();
  if (!file) throw std::runtime_error("--out: cannot write into the folder " + folder);
  fs::remove(probe, trouble);
}

void write_report(const std::string& folder, const pipeline_options& options, const pipeline_result& result) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  std::ostringstream csv;
  csv << "method,seed,iteration,reward,kl,tokens,seconds\n";
  for (const auto& p : result.points) {
    list.push_back({{"method", p.method},
                    {"seed", p.seed},
                    {"iteration", p.iteration},
                    {"reward", p.reward},
                    {"kl", p.kl},
                    {"tokens", p.tokens},
                    {"seconds", p.seconds}});
    csv << p.method << ',' << p.seed << ',' << p.iteration << ',' << p.reward << ',' << p.kl << ',' << p.tokens << ','
        << p.seconds << '\n';
  }
  write_whole(fs::path(folder) / "report.json", list.dump(1) + "\n");
  const nlohmann::ordered_json summary = {{"seed", options.seed},
                                          {"quick", options.quick},
                                          {"sft_loss", result.sft_loss},
                                          {"reward_accuracy", result.reward_accuracy},
                                          {"reward_pairs", result.reward_pairs},
                                          {"reward_deviation", result.reward_deviation},
                                          {"seconds", result.seconds}};
  write_whole(fs::path(folder) / "summary.json", summary.dump(1) + "\n");
  write_whole(fs::path(folder) / "curves.csv", csv.str());
  write_whole(fs::path(folder) / "report.html", html(folder, options, result));
}

}  // namespace align
