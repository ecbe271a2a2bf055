#include "lab/report.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "rlhf/version.hpp"

namespace lab {
namespace {

namespace fs = std::filesystem;

void write_whole(const fs::path& path, const std::string& text) {
  const fs::path fresh = path.string() + ".new";
  std::FILE* const file = std::fopen(fresh.c_str(), "wb");
  const bool written = file && std::fwrite(text.data(), 1, text.size(), file) == text.size() &&
                       std::fflush(file) == 0 && ::fsync(::fileno(file)) == 0;
  if (!file || std::fclose(file) != 0 || !written) {
    std::error_code ignored;
    fs::remove(fresh, ignored);
    throw std::runtime_error("cannot write " + path.string() + ": is the disk full?");
  }
  fs::rename(fresh, path);
}

std::string text(const char* format, double x) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, x);
  return buffer;
}

std::string lower(std::string s) {
  for (char& c : s) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return s;
}

/// HTML as plain text: for terminals, JSON and gnuplot.
std::string plain(const std::string& html) {
  static const std::vector<std::pair<std::string, std::string>> entities = {
      {"&lt;", "<"},        {"&gt;", ">"},    {"&plusmn;", "+-"},   {"&le;", "<="},      {"&ge;", ">="},
      {"&minus;", "-"},     {"&nbsp;", " "},  {"&ndash;", "-"},     {"&amp;", "&"},      {"&times;", "x"},
      {"&middot;", " "},    {"&rarr;", "->"}, {"&infin;", "inf"},   {"&sum;", "sum"},    {"&prop;", "~"},
      {"&radic;", "sqrt "}, {"&int;", "int"}, {"&ne;", "!="},       {"&asymp;", "~"},    {"&nabla;", "grad "},
      {"&part;", "d"},      {"&Vert;", "|"},  {"&prime;", "'"},     {"&hellip;", "..."}, {"&Prime;", "''"},
      {"&rArr;", "=>"},     {"&sup2;", "^2"}, {"&#770;", "\u0302"}, {"&lang;", "<"},     {"&rang;", ">"},
      {"&prod;", "prod"}};
  // Spelled out, two of these in a row would be one word.
  static const std::vector<std::pair<std::string, std::string>> greek = {
      {"alpha", "α"},  {"beta", "β"}, {"gamma", "γ"}, {"delta", "δ"}, {"epsilon", "ε"}, {"eta", "η"}, {"theta", "θ"},
      {"lambda", "λ"}, {"mu", "μ"},   {"nu", "ν"},    {"xi", "ξ"},    {"pi", "π"},      {"rho", "ρ"}, {"sigma", "σ"},
      {"tau", "τ"},    {"phi", "φ"},  {"Delta", "Δ"}, {"Sigma", "Σ"}, {"Phi", "Φ"}};
  std::string out;
  for (std::size_t i = 0; i < html.size();) {
    if (html[i] == '<') {
      const auto end = html.find('>', i);
      const std::string tag = html.substr(i, end - i);
      if (tag == "<sup") out += '^';
      if (tag == "<sub") out += '_';
      i = end == std::string::npos ? html.size() : end + 1;
    } else if (html[i] == '&') {
      const auto end = html.find(';', i);
      const std::string entity = html.substr(i, end - i + 1);
      std::string found = entity.substr(1, entity.size() - 2);
      for (const auto& [name, value] : greek)
        if (name == found) found = value;
      for (const auto& [name, value] : entities)
        if (name == entity) found = value;
      out += found;
      i = end == std::string::npos ? html.size() : end + 1;
    } else {
      out += html[i++];
    }
  }
  return out;
}

std::string quoted(const std::string& s) {  // for gnuplot, in single quotes, with its markup turned off by noenhanced
  std::string out = "'";
  for (const char c : plain(s)) out += c == '\'' ? "''" : std::string(1, c);
  return out + "'";
}

std::string csv_of(const outcome& result) {
  std::ostringstream csv;
  csv << "plot,curve,x,y\n";
  for (const plot& p : result.plots)
    for (const curve& c : p.curves)
      for (std::size_t i = 0; i < c.x.size(); ++i)
        csv << '"' << plain(p.title) << "\",\"" << plain(c.name) << "\"," << text("%.17g", c.x[i]) << ','
            << text("%.17g", c.y[i]) << '\n';
  return csv.str();
}

/// A plot as SVG text; empty where gnuplot is missing or fails.
std::string draw(const fs::path& folder, const std::string& name, const plot& p) {
  static const char* const colors[] = {"#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#777777"};
  std::ostringstream script;
  script << "set terminal svg size 760,440 font 'sans-serif,13' background '#ffffff' noenhanced\nset output '" << name
         << ".svg'\nset grid lc rgb '#dddddd'\nset border 3 lc rgb '#555555'\nset tics nomirror\nset key below left "
            "Left reverse maxcols 2\n"
         << "set title " << quoted(p.title) << "\nset xlabel " << quoted(p.x_label) << " offset 0,0.4\nset ylabel "
         << quoted(p.y_label) << "\n";
  if (p.log_x) script << "set logscale x\nset format x '%g'\n";
  if (p.log_y) script << "set logscale y\nset format y '%.1e'\n";
  std::string parts;
  for (std::size_t k = 0; k < p.curves.size(); ++k) {
    const curve& c = p.curves[k];
    script << "$c" << k << " << EOD\n";
    for (std::size_t i = 0; i < c.x.size(); ++i)
      if (std::isfinite(c.x[i]) && std::isfinite(c.y[i]) && (!p.log_y || c.y[i] > 0))
        script << text("%.9g", c.x[i]) << ' ' << text("%.9g", c.y[i]) << '\n';
    script << "EOD\n";
    const bool many = c.x.size() > 60;
    parts += (k ? ", $c" : "$c") + std::to_string(k) + " using 1:2 with " +
             (c.points ? "points pt 7 ps 0.5"
              : many   ? "lines lw 2"
                       : "linespoints pt 7 ps 0.4 lw 2") +
             " lc rgb '" + colors[k % std::size(colors)] + "' title " + quoted(c.name);
  }
  script << "plot " << parts << '\n';
  const fs::path source = folder / (name + ".gnuplot"), svg = folder / (name + ".svg");
  write_whole(source, script.str());
  std::error_code ignored;
  fs::remove(svg, ignored);
  std::string place;
  for (const char c : folder.string()) place += c == '\'' ? "'\\''" : std::string(1, c);
  const int failed = std::system(("cd '" + place + "' && gnuplot '" + name + ".gnuplot' >/dev/null 2>&1").c_str());
  fs::remove(source, ignored);
  std::ifstream file(svg);
  if (failed != 0 || !file) {
    fs::remove(svg, ignored);
    return {};
  }
  const std::string all((std::istreambuf_iterator<char>(file)), {});
  const auto begin = all.find("<svg");
  if (begin == std::string::npos) return {};
  // Several plots on one page: gnuplot numbers its clip paths and markers the same in each.
  std::string svg_text = all.substr(begin), out;
  for (std::size_t i = 0; i < svg_text.size();) {
    const bool id = svg_text.compare(i, 4, "id=\"") == 0 || svg_text.compare(i, 4, "id='") == 0;
    const bool link = svg_text.compare(i, 2, "'#") == 0 || svg_text.compare(i, 2, "\"#") == 0;
    const bool url = svg_text.compare(i, 5, "url(#") == 0;
    const std::size_t n = id ? 4 : link ? 2 : url ? 5 : 1;
    out += svg_text.substr(i, n);
    const bool color = link && i >= 5 && svg_text.compare(i - 5, 5, "fill=") == 0;
    if ((id || link || url) && !color && !(link && i >= 7 && svg_text.compare(i - 7, 7, "stroke=") == 0))
      out += name + "-";
    i += n;
  }
  return out;
}

std::string band(const check& c) {
  if (c.low == c.high) return text("%.6g", c.measured);
  return text("%.5g", c.measured) + " [" + text("%.4g", c.low) + ", " + text("%.4g", c.high) + "]";
}

nlohmann::ordered_json number(double x) {
  if (std::isfinite(x)) return x;
  return std::isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
}

nlohmann::ordered_json json_of(const check& c) {
  return {{"what", plain(c.what)},
          {"expected", plain(c.expected)},
          {"measured", number(c.measured)},
          {"interval", {number(c.low), number(c.high)}},
          {"accepted", {number(c.least), number(c.most)}},
          {"pass", c.pass}};
}

void page_of(std::ostringstream& page, const fs::path& folder, const finished& f, bool& drawn, bool& undrawn) {
  const std::string verdict = f.pass() ? "<b class=\"yes\">holds</b>" : "<b class=\"no\">does not hold</b>";
  page << "<section id=\"" << f.what.id << "\"><h2>" << f.what.id << ". " << f.what.title
       << "</h2>\n<p class=\"claim\">" << f.what.claim << " <small>(" << f.what.source
       << ")</small></p>\n<p class=\"equation\">" << f.what.equation << "</p>\n<p>" << f.what.setup << "</p>\n";
  if (!f.failure.empty()) page << "<p class=\"no\">The experiment stopped: " << f.failure << "</p>\n";
  int number = 0;
  for (const plot& p : f.result.plots) {
    const std::string name =
        lower(f.what.id) +
        (f.result.plots.size() > 1 ? std::string("-").append(std::to_string(++number)) : std::string());
    const std::string svg = draw(folder, name, p);
    (svg.empty() ? undrawn : drawn) = true;
    if (svg.empty())
      page << "<p>No plot, gnuplot was not found; the numbers are in <code>" << lower(f.what.id)
           << ".csv</code>.</p>\n";
    else
      page << "<div class=\"wide\">" << svg << "</div>\n";
  }
  page << "<div class=\"wide\"><table><tr><th>checked</th><th>expected</th><th>measured</th><th></th></tr>\n";
  for (const check& c : f.result.checks)
    page << "<tr><td>" << c.what << "</td><td>" << c.expected << "</td><td class=\"n\">" << band(c)
         << "</td><td class=\"" << (c.pass ? "yes\">yes" : "no\">no") << "</td></tr>\n";
  page << "</table></div>\n";
  if (!f.result.note.empty()) page << "<p>" << f.result.note << "</p>\n";
  page << "<p>Verdict: " << verdict << "</p></section>\n";
}

}  // namespace

std::string line_of(const check& c) {
  std::string what = plain(c.what);
  return std::string(c.pass ? "    yes  " : "    NO   ") + what + ": " + band(c) + ", expected " + plain(c.expected);
}

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

void write_report(const std::string& folder, const settings& how, const std::vector<finished>& experiments) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  std::ostringstream body, contents;
  bool drawn = false, undrawn = false;
  int passed = 0;
  for (const finished& f : experiments) {
    nlohmann::ordered_json checks = nlohmann::ordered_json::array();
    for (const check& c : f.result.checks) checks.push_back(json_of(c));
    nlohmann::ordered_json entry = {
        {"id", f.what.id}, {"claim", plain(f.what.claim)}, {"source", plain(f.what.source)}};
    // The first check is the headline.
    entry["expected"] = checks.empty() ? nlohmann::ordered_json() : checks[0]["expected"];
    entry["measured"] = checks.empty() ? nlohmann::ordered_json() : checks[0]["measured"];
    entry["interval"] = checks.empty() ? nlohmann::ordered_json() : checks[0]["interval"];
    entry["pass"] = f.pass();
    entry["checks"] = checks;
    if (!f.failure.empty()) entry["failure"] = f.failure;
    list.push_back(entry);
    passed += f.pass();
    if (!f.result.plots.empty()) write_whole(fs::path(folder) / (lower(f.what.id) + ".csv"), csv_of(f.result));
    contents << "<tr><td><a href=\"#" << f.what.id << "\">" << f.what.id << "</a></td><td>" << f.what.claim
             << "</td><td class=\"" << (f.pass() ? "yes\">holds" : "no\">does not hold") << "</td></tr>\n";
    page_of(body, folder, f, drawn, undrawn);
  }
  if (undrawn && !drawn)
    std::fprintf(stderr,
                 "rlhf-lab: no plots, gnuplot was not found (Debian: gnuplot-nox); the curves are in %s/*.csv\n",
                 folder.c_str());
  std::ostringstream page;
  page << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
       << "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>rlhf-lab</title>\n<style>"
       << "body{font:16px/1.5 system-ui,sans-serif;max-width:820px;margin:2rem auto;padding:0 "
          "1rem;color:#222;background:#fff}"
       << "h2{margin-top:3rem;border-top:1px solid #ccc;padding-top:1rem}.claim{font-size:1.1em}"
       << ".equation{font-family:'STIX Two Math','Cambria Math',Georgia,serif;font-size:1.15em;margin:1rem 2rem}"
       << "table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid "
          "#ddd;text-align:left;vertical-align:top}"
       << ".n{font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}.wide{overflow-x:auto}small{color:#666}"
       << ".yes{color:#176b2c}.no{color:#a3142a;font-weight:bold}</style></head><body>\n<h1>Theorems of alignment, "
          "measured</h1>\n"
       << "<p>" << passed << " of " << experiments.size() << " claims hold. Seed " << how.seed
       << (how.quick ? ", quick" : "") << ", rlhf " << RLHF_VERSION_MAJOR << '.' << RLHF_VERSION_MINOR << '.'
       << RLHF_VERSION_PATCH
       << ". Brackets are intervals of 4 standard errors over independent repetitions; a number without brackets has "
          "nothing "
          "random in it. The same seed gives the same numbers for any number of threads.</p>\n<div "
          "class=\"wide\"><table>\n"
       << contents.str() << "</table></div>\n"
       << body.str() << "</body></html>\n";
  write_whole(fs::path(folder) / "lab-report.json", list.dump(1) + "\n");
  write_whole(fs::path(folder) / "lab.html", page.str());
}

}  // namespace lab
