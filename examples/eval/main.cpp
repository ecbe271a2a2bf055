// rlhf-eval: evaluates cases (one JSON object a line) with this library, and compares with expected numbers.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "cases.hpp"
#include "check.hpp"
#include "failure.hpp"
#include "registry.hpp"

namespace eval {

namespace {

struct options {
  std::vector<std::string> files;
  std::string backend = "reference";
  std::string dtype = "f64";
  std::string not_built;
  bool check = false;
  bool list = false;
  bool list_missing = false;
};

constexpr const char* description =
    R"(Evaluates cases with this library: one JSON object a line, {"id", "op", "objective", "params", "inputs"}.

Writes one JSON object a line: {"id", "outputs": {...}, "grad": {...}}, or {"id", "error": {"code", "message"}} for
a case that cannot be evaluated; the others are evaluated all the same. Non-finite numbers are the strings "nan", "inf"
and "-inf".

With --check each case also has "expect" and "tolerance" (1e-9 without), and passes if for every expected number
  |got - want| <= tolerance * (1 + |want|).
With --dtype f32 the inputs are rounded to float before anything is computed, and the tolerance is at least 5e-6. A case
that is worse passes only where no float could do better: within 8 roundings times its condition number, which is how far
the float64 result moves, scaled, when every input moves by one float rounding. Those cases are listed with the number.
An op/objective that is not built is skipped and counted as such.)";

constexpr double float_rounding = 0x1p-24;

/// The arrays rounded to float, and every number moved by one rounding, up and down in turns. Arrays of whole numbers are
/// masks, targets, lengths, labels: they stay.
std::map<std::string, array> moved(std::map<std::string, array> arrays, double by) {
  for (auto& entry : arrays) {
    std::vector<double>& data = entry.second.data;
    if (std::ranges::all_of(data, [](double x) { return x == std::floor(x); })) continue;
    double sign = 1;
    for (double& x : data) {
      x = static_cast<double>(static_cast<float>(x)) * (1 + sign * by);
      sign = -sign;
    }
  }
  return arrays;
}

/// Lines that name something: blank ones and those with a # are comments.
std::set<std::string> read_names(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw failure{"file", text("cannot read ", file)};
  std::set<std::string> names;
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.pop_back();
    if (!line.empty() && line[0] != '#') names.insert(line);
  }
  return names;
}

const registry& table_of(const std::string& name) {
  std::vector<std::string> names;
  for (const backend& b : backends()) {
    if (b.name == name) return b.table;
    names.push_back(b.name);
  }
  std::string built;
  for (const std::string& n : names) built += (built.empty() ? "" : ", ") + n;
  throw failure{"backend", text("backend \"", name, "\" is not in this build, which has ", built)};
}

void list(const registry& table) {
  for (const objective& row : table.rows()) {
    std::cout << row.op << '/' << row.name << '\n';
    for (const input& i : row.arrays) {
      std::string shapes;
      for (const std::string& s : i.shapes) shapes += (shapes.empty() ? "[" : " or [") + s + "]";
      std::cout << "  input  " << i.name << ' ' << shapes << (i.required ? "" : ", optional") << '\n';
    }
    for (const parameter& p : row.settings) {
      std::cout << "  param  " << p.name << " = " << (p.required ? "(required)" : words(p.fallback)) << "  "
                << p.meaning;
      std::string choices;
      for (const std::string& c : p.choices) choices += (choices.empty() ? "" : ", ") + c;
      std::cout << (choices.empty() ? "" : " (" + choices + ")") << '\n';
    }
  }
}

class runner {
 public:
  explicit runner(const options& o) : options_(o), table_(table_of(o.backend)) {}

  void read(std::istream& in, const std::string& name) {
    std::int64_t number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (line.find_first_not_of(" \t\r") != std::string::npos) run(line, name + ":" + std::to_string(number));
    }
  }

  /// The exit status, after what a check has to say.
  [[nodiscard]] int finish() {
    const std::vector<std::string> skipped = board_.skipped_rows();
    if (options_.check) board_.print(std::cout);
    for (const std::string& line : ill_conditioned_) std::cout << "beyond 5e-6 in float: " << line << '\n';
    if (options_.list_missing)
      for (const std::string& row : skipped) std::cout << (options_.check ? "not built: " : "") << row << '\n';
    if (!options_.check) return 0;
    bool exact = true;
    if (!options_.not_built.empty()) {
      std::set<std::string> named = read_names(options_.not_built);
      for (const std::string& row : skipped)
        if (named.erase(row) == 0)
          exact = complain(row + " is not built, and " + options_.not_built + " does not say so");
      for (const std::string& row : named)
        exact = complain(row + " is named in " + options_.not_built + ", but no case of it was skipped");
    }
    return board_.failures() == 0 && exact ? 0 : 1;
  }

 private:
  static bool complain(const std::string& what) {
    std::cerr << "rlhf-eval: " << what << '\n';
    return false;
  }

  void run(const std::string& line, const std::string& where) {
    std::string id, row = "(unreadable)";
    try {
      const test_case c = read_case(line, id);
      row = c.op + "/" + c.objective;
      const objective& o = table_.find(c.op, c.objective);
      if (options_.list_missing && !options_.check) return;
      const problem p(arguments(o.settings, c.settings), o.arrays, c.arrays);
      results r;
      (options_.dtype == "f32" ? o.f32 : o.f64)(p, r);
      const json out = write_results(id, r);
      if (options_.check)
        check(c, o, out, row, where);
      else
        std::cout << text_of(out) << '\n';
    } catch (const failure& f) {
      report(f, id, row, where);
    }
  }

  void check(const test_case& c, const objective& o, const json& out, const std::string& row,
             const std::string& where) {
    if (!c.expect) throw failure{"case", "the case has no \"expect\" to check"};
    const bool in_float = options_.dtype == "f32";
    double worst = 0;
    std::string wrong = mismatch(out, *c.expect, in_float ? std::max(c.tolerance, 5e-6) : c.tolerance, worst);
    if (!wrong.empty() && in_float) {
      const double condition = condition_number(c, o);
      if (mismatch(out, *c.expect, 8 * float_rounding * condition, worst).empty()) {
        char text[32];
        std::snprintf(text, sizeof text, "%.1e", condition);
        ill_conditioned_.push_back(c.id + "  condition " + text);
        wrong.clear();
      }
    }
    if (wrong.empty()) return board_.passed(row, worst);
    board_.failed(row, worst);
    complain(where + ": " + c.id + ": " + wrong);
  }

  /// How far the float64 result moves when the inputs are rounded to float and moved by one more rounding, in roundings.
  [[nodiscard]] static double condition_number(const test_case& c, const objective& o) {
    double most = 0;
    for (const double by : {0.0, float_rounding, -float_rounding}) {
      const problem p(arguments(o.settings, c.settings), o.arrays, moved(c.arrays, by));
      results r;
      o.f64(p, r);
      double far = 0;
      (void)eval::mismatch(write_results(c.id, r), *c.expect, 0.0, far);  // not std::mismatch
      most = std::max(most, far);
    }
    return most / float_rounding;
  }

  void report(const failure& f, const std::string& id, const std::string& row, const std::string& where) {
    const bool missing = f.code == "unknown_op" || f.code == "unknown_objective";
    if ((options_.check || options_.list_missing) && missing) return board_.skipped(row);
    if (options_.check || options_.list_missing) {
      board_.failed(row, 0);
      complain(where + ": " + (id.empty() ? "" : id + ": ") + f.message);
      return;
    }
    json out = json::object();
    out["id"] = id.empty() ? json() : json(id);
    out["error"] = {{"code", f.code}, {"message", where + ": " + f.message}};
    std::cout << text_of(out) << '\n';
  }

  const options& options_;
  const registry& table_;
  scoreboard board_;
  std::vector<std::string> ill_conditioned_;
};

int run(const options& o) {
  if (o.list) {
    list(table_of(o.backend));
    return 0;
  }
  runner r(o);
  const std::vector<std::string> files = o.files.empty() ? std::vector<std::string>{"-"} : o.files;
  for (const std::string& file : files) {
    if (file == "-") {
      r.read(std::cin, "(standard input)");
      continue;
    }
    std::ifstream in(file);
    if (!in) throw failure{"file", text("cannot read ", file)};
    r.read(in, file);
  }
  return r.finish();
}

}  // namespace

}  // namespace eval

int main(int argc, char** argv) {
  eval::options o;
  std::vector<std::string> names;
  for (const eval::backend& b : eval::backends()) names.push_back(b.name);
  CLI::App app(eval::description, "rlhf-eval");
  app.add_option("files", o.files, "Case files; - or none: standard input");
  app.add_option("--backend", o.backend, "Where to compute")->check(CLI::IsMember(names))->capture_default_str();
  app.add_option("--dtype", o.dtype, "In which arithmetic")
      ->check(CLI::IsMember({"f64", "f32"}))
      ->capture_default_str();
  app.add_flag("--check", o.check, "Compare with \"expect\" and print a table; the exit status is 1 on any miss");
  app.add_option(
      "--not-built", o.not_built,
      "With --check: a file that names each op/objective whose cases may be skipped; it must name them exactly");
  app.add_flag("--list", o.list, "Print every op and objective with its inputs, its parameters and their defaults");
  app.add_flag("--list-missing", o.list_missing, "Print each op/objective of the cases that is not built");
  CLI11_PARSE(app, argc, argv);
  try {
    return eval::run(o);
  } catch (const eval::failure& f) {
    std::cerr << "rlhf-eval: " << f.message << '\n';
    return 2;
  }
}
