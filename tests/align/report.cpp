// Checks what rlhf-align wrote: report-check FOLDER [FOLDER]. With two folders their curves must be equal but for the clock.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

using nlohmann::json;

int failures = 0;

void require(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  ++failures;
}

json read(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

/// The best-of-n frontier's reward at a KL, by interpolation.
double frontier(const std::vector<json>& points, double kl) {
  for (std::size_t i = 1; i < points.size(); ++i) {
    const double left = points[i - 1]["kl"], right = points[i]["kl"];
    if (kl > right) continue;
    const double a = points[i - 1]["reward"], b = points[i]["reward"];
    return a + (b - a) * (kl - left) / (right - left);
  }
  return points.back()["reward"];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const std::string folder = argv[1];
  json report = read(folder + "/report.json");
  const json summary = read(folder + "/summary.json");
  std::map<std::string, std::vector<json>> curves;
  for (const json& p : report) {
    for (const char* field : {"method", "seed", "iteration", "reward", "kl", "tokens", "seconds"})
      require(p.contains(field), std::string("every point has ") + field);
    curves[p["method"]].push_back(p);
  }
  require(summary["reward_accuracy"] >= 0.85, "reward model right on at least 0.85 of the held-out pairs");
  const double deviation = summary["reward_deviation"];
  for (const char* method : {"dpo", "rebel", "ppo", "rto"}) {
    const auto& curve = curves[method];
    require(curve.size() >= 2 && curve.front()["iteration"] == 0,
            std::string(method) + ": a curve that begins at iteration 0");
    if (curve.size() < 2) continue;
    const double before = curve.front()["reward"], after = curve.back()["reward"], kl = curve.back()["kl"];
    const double sampled = frontier(curves["best_of_n"], kl) - frontier(curves["best_of_n"], 0);
    std::printf("%-6s gain %.2f deviations at %.2f nats, %.2f of best-of-n's\n", method, (after - before) / deviation,
                kl, (after - before) / sampled);
    require(after - before >= deviation,
            std::string(method) + ": raises the reward by a deviation of the samples before");
    require(kl <= 3, std::string(method) + ": at 3 nats or less");
    require(after - before >= 0.7 * sampled, std::string(method) + ": at least 0.7 of best-of-n's gain at equal KL");
  }
  std::ifstream page(folder + "/report.html");
  const std::string html((std::istreambuf_iterator<char>(page)), {});
  require(html.find("</html>") != std::string::npos && html.find("http://") == html.find("http://www.w3.org"),
          "report.html is whole and needs no network");
  if (argc > 2) {
    json other = read(std::string(argv[2]) + "/report.json");
    for (json* r : {&report, &other})
      for (json& p : *r) p.erase("seconds");
    require(report == other, "the same seed gives the same curves for any number of threads");
  }
  return failures == 0 ? 0 : 1;
}
