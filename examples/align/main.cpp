// rlhf-align: a small language model aligned by DPO, REBEL, PPO and RTO, from data to report.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <thread>

#include "align/pipeline.hpp"
#include "align/report.hpp"
#include "align/subnormals.hpp"

int main(int argc, char** argv) {
  align::pipeline_options options;
  std::string out = "out";
  options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));

  CLI::App app{
      "Fits a character model to English first names, learns a reward from labelled pairs, aligns the model by DPO, "
      "REBEL,\n"
      "PPO and RTO with best-of-n beside them, and writes report.html, report.json and curves.csv."};
  app.add_option("--seed", options.seed, "of everything random; the same seed gives the same numbers")
      ->capture_default_str();
  app.add_option("--out", out, "folder for the report; made if it is not there")->capture_default_str();
  app.add_option("--threads", options.threads, "threads; the results do not depend on it")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--data", options.data,
                 "folder with female.txt and male.txt, a name a line; default: the names that come with rlhf");
  app.add_flag("--quick", options.quick, "a run of well under a minute, with fewer updates of everything");
  CLI11_PARSE(app, argc, argv);

  try {
    align::flush_subnormals();
    align::prepare_output(out);
    const align::pipeline_result result = align::run_pipeline(options);
    align::write_report(out, options, result);
    std::printf("report: %s/report.html (%.0f s)\n", out.c_str(), result.seconds);
  } catch (const std::exception& trouble) {
    std::fprintf(stderr, "rlhf-align: %s\n", trouble.what());
    return 1;
  }
  return 0;
}
