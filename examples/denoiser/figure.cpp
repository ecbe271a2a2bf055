#include "denoiser/figure.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <sstream>

namespace denoising {
namespace {

constexpr const char* head = "font 'sans-serif,12' background '#ffffff'\n";
constexpr const char* colors[] = {"#777777", "#d95f02", "#1b9e77", "#7570b3", "#e7298a"};

/// The first of the points, each a line of hardly any length with round ends: half the size of a symbol in the file.
std::string dots(const std::vector<point>& points) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2);
  for (std::size_t i = 0; i < std::min<std::size_t>(points.size(), 150); ++i) {
    const point& p = points[i];
    out << p[0] << ' ' << p[1] << '\n' << p[0] + 0.01 << ' ' << p[1] << "\n\n";
  }
  return out.str();
}

/// In single quotes, where two of them stand for one.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

}  // namespace

bool draw(const std::filesystem::path& folder, const std::vector<portrait>& portraits) {
  namespace fs = std::filesystem;
  std::ostringstream script;
  const std::size_t columns = portraits.size();
  script << "set terminal svg size " << 190 * columns << ",400 dynamic rounded " << head
         << "set output 'denoiser.svg'\nset multiplot layout 2," << columns
         << " margins 0.01,0.99,0.02,0.93 spacing 0.01,0.02\nunset key\nunset tics\n"
            "set border lc rgb '#bbbbbb'\nset xrange [-2.2:2.2]\nset yrange [-2.2:2.2]\nset size ratio -1\n";
  for (std::size_t what = 0; what < kinds; ++what)
    for (std::size_t c = 0; c < columns; ++c) {
      const point like = taste::favourite(static_cast<kind>(what));
      script << "$d" << what << c << " << EOD\n" << dots(portraits[c].drawn[what]) << "EOD\n";
      if (what == 0)
        script << "set title " << quoted(portraits[c].name) << " offset 0,-0.7\n";
      else
        script << "unset title\n";
      script << "set object 1 circle at " << like[0] << ',' << like[1]
             << " size 0.3 fs empty border rgb '#000000' lw 0.7\nplot $d" << what << c
             << " using 1:2 with lines lw 2.6 lc rgb '" << colors[c % std::size(colors)] << "'\n";
    }
  script << "unset multiplot\nreset\nset terminal svg size 640,380 dynamic " << head
         << "set output 'denoiser-reward-kl.svg'\nset grid lc rgb '#dddddd'\nset border 3 lc rgb '#555555'\n"
            "set tics nomirror\nset key bottom right noenhanced\nset xlabel 'KL from the start, nats per picture'\n"
            "set ylabel 'reward'\n";
  std::string plots;
  for (std::size_t c = 0; c < columns; ++c) {
    const portrait& p = portraits[c];
    if (p.kl.empty()) continue;
    script << "$c" << c << " << EOD\n";
    for (std::size_t i = 0; i < p.kl.size(); ++i) script << p.kl[i] << ' ' << p.reward[i] << '\n';
    script << "EOD\n";
    plots += (plots.empty() ? "$c" : ", $c") + std::to_string(c) +
             " using 1:2 with linespoints pt 7 ps 0.4 lw 2 lc rgb '" + colors[c % std::size(colors)] + "' title " +
             quoted(p.name);
  }
  script << "plot " << plots << '\n';
  fs::create_directories(folder);
  const fs::path source = fs::absolute(folder) / "denoiser.gnuplot";
  std::ofstream(source) << script.str();
  const fs::path before = fs::current_path();
  fs::current_path(folder);  // so that no path goes through a shell
  const int failed = std::system("gnuplot denoiser.gnuplot");
  fs::current_path(before);
  fs::remove(source);
  return failed == 0;
}

}  // namespace denoising
