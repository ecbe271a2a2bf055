#include "align/report/figure.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "align/files/save.hpp"

namespace align {
namespace {

/// For the shell: whatever the path holds.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

std::string draw(const std::filesystem::path& folder, const figure& f) {
  namespace fs = std::filesystem;
  std::ostringstream script;
  script.precision(9);
  // A legend of many lines takes its own room.
  const std::size_t height = 430 + (f.lines.size() > 8 ? (f.lines.size() - 5) / 4 * 20 : 0);
  script << "set terminal svg size 760," << height << " dynamic font 'sans-serif,13' background '#ffffff'\n"
         << "set output '" << f.name << ".svg'\nset grid lc rgb '#dddddd'\nset border 3 lc rgb '#555555'\n"
         << "set tics nomirror\nset key outside bottom center horizontal noenhanced\nset offsets graph 0.02, graph "
            "0.02, graph "
            "0.05, graph 0.05\n"
         << "set xlabel '" << f.x << "'\nset ylabel '" << f.y << "'\n";
  std::string plots;
  for (std::size_t k = 0; k < f.lines.size(); ++k) {
    const series& s = f.lines[k];
    if (s.x.empty()) continue;
    script << "$b" << k << " << EOD\n";
    const bool band = s.low.size() == s.x.size() && s.high.size() == s.x.size();
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      script << s.x[i] << ' ' << s.y[i];
      if (band) script << ' ' << s.low[i] << ' ' << s.high[i];
      script << '\n';
    }
    script << "EOD\n";
    if (band)
      plots += (plots.empty() ? "$b" : ", $b") + std::to_string(k) + " using 1:3:4 with filledcurves fc rgb '" +
               s.color + "' fs transparent solid 0.15 noborder notitle";
    plots += (plots.empty() ? "" : ", ") + ("$b" + std::to_string(k)) + " using 1:2 with " +
             (s.faint || s.x.size() > 40 ? "lines lw " + std::string(s.faint ? "1" : "1.5")
                                         : std::string("linespoints pt 7 ps 0.4 lw 2")) +
             " lc rgb '" + s.color + "'" + (s.dashed ? " dt 2" : "") +
             (s.title.empty() ? " notitle" : " title '" + s.title + "'");
  }
  if (plots.empty()) return {};
  script << "plot " << plots << '\n';
  const fs::path svg = folder / (f.name + ".svg"), source = folder / (f.name + ".gnuplot");
  save_file(source, script.str());
  std::error_code ignored;
  fs::remove(svg, ignored);
  const int failed = std::system(
      ("cd " + quoted(folder.string()) + " && gnuplot " + quoted(source.filename().string()) + " >/dev/null 2>&1")
          .c_str());
  fs::remove(source, ignored);
  std::ifstream file(svg);
  if (failed != 0 || !file) return {};
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto begin = text.find("<svg");
  return begin == std::string::npos ? std::string{} : text.substr(begin);
}

}  // namespace align
