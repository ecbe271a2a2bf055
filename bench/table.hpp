#pragma once
// The rows of the report: what was measured, against what, and how the two compare.

#include <functional>
#include <string>
#include <vector>

namespace bench {

/// ratio = against / ours: greater is better.
struct row {
  std::string name;
  double ours = 0;     ///< seconds
  double against = 0;  ///< seconds
  std::string what;    ///< what stands on the other side
};

/// Two things to be measured side by side, in random alternation. Both do the whole work once a call.
struct contest {
  std::string name;
  std::string what;
  std::function<void()> ours;
  std::function<void()> against;  ///< may be empty: then only our time is wanted, for a peer's row
};

/// Medians of `repetitions` interleaved runs of every contest.
[[nodiscard]] std::vector<row> measure(const std::vector<contest>& contests, int repetitions);

/// All contests of this build; `quick` makes the arrays smaller.
void add_token_contests(std::vector<contest>& contests, bool quick);
void add_logit_contests(std::vector<contest>& contests, bool quick);
void add_linear_contests(std::vector<contest>& contests, bool quick);
void add_lab_contests(std::vector<contest>& contests, bool quick);

/// Compile-time rows: every public header against an empty unit, by the compiler that built this program.
[[nodiscard]] std::vector<row> compile_rows(bool quick);

/// Rows against PyTorch from our own times, where a Python with torch is found; says why where not.
[[nodiscard]] std::vector<row> torch_rows(const std::vector<row>& ours, bool quick);

}  // namespace bench
