// A figure of one formula as SVG: a panel of its values, and one of its slopes where it has any.

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "figures.hpp"

namespace plots {
namespace {

constexpr int steps = 100;
constexpr double left = 52, top = 26, wide = 300, high = 190, apart = 370;  // of a panel, in pixels
constexpr const char* colours[] = {"#0b5394", "#cc4125", "#38761d", "#7b3fa0"};

[[nodiscard]] std::string text(const char* format, auto... values) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}
[[nodiscard]] std::string escaped(const std::string& s) {
  std::string out;
  for (const char c : s) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}
[[nodiscard]] std::string words(double x, double y, const char* anchor, const std::string& s) {
  return text("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"%s\">", x, y, anchor) + escaped(s) + "</text>\n";
}

/// A distance between ticks that is 1, 2 or 5 times a power of ten, for about five of them.
[[nodiscard]] double tick(double range) {
  const double raw = range / 5, power = std::pow(10, std::floor(std::log10(raw))), digit = raw / power;
  return power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
}

struct panel {
  double shift, from, to, low = 0, high_value = 0;
  [[nodiscard]] double x(double at) const { return shift + left + wide * (at - from) / (to - from); }
  [[nodiscard]] double y(double at) const { return top + high * (high_value - at) / (high_value - low); }
};

/// The numbers to be drawn, curve by curve.
using columns = std::vector<std::vector<double>>;

[[nodiscard]] std::string draw(panel p, const std::string& title, const std::string& along, const columns& all) {
  bool any = false;
  for (const auto& column : all)
    for (const double v : column)
      if (std::isfinite(v)) {
        p.low = any ? std::min(p.low, v) : v;
        p.high_value = any ? std::max(p.high_value, v) : v;
        any = true;
      }
  const double room = p.high_value - p.low > 1e-9 ? 0.05 * (p.high_value - p.low) : 0.5;
  p.low -= room;
  p.high_value += room;

  std::string out = words(p.shift + left + wide / 2, 16, "middle", title);
  out += words(p.shift + left + wide / 2, top + high + 32, "middle", along);
  out += "<g stroke=\"#ddd\">\n";
  std::string labels;
  const double across = tick(p.to - p.from), up = tick(p.high_value - p.low);
  for (double k = std::ceil(p.from / across - 1e-9); k * across <= p.to + 1e-9 * across; ++k) {
    out += text("<path d=\"M%.1f %.0fv%.0f\"/>\n", p.x(k * across), top, high);
    labels += words(p.x(k * across), top + high + 15, "middle", text("%.6g", k * across + 0.0));
  }
  for (double k = std::ceil(p.low / up); k * up <= p.high_value; ++k) {
    out += text("<path d=\"M%.0f %.1fh%.0f\"/>\n", p.shift + left, p.y(k * up), wide);
    labels += words(p.shift + left - 5, p.y(k * up) + 4, "end", text("%.6g", k * up + 0.0));
  }
  out += "</g>\n" + labels;
  out += text("<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"none\" stroke=\"#888\"/>\n",
              p.shift + left, top, wide, high);
  for (std::size_t c = 0; c < all.size(); ++c) {
    out += text("<path fill=\"none\" stroke-width=\"2\" stroke=\"%s\" d=\"", colours[c % 4]);
    bool open = false;
    for (int i = 0; i <= steps; ++i) {
      const double v = all[c][static_cast<std::size_t>(i)];
      if (std::isfinite(v))
        out += text("%c%.1f %.1f", open ? 'L' : 'M', p.x(p.from + (p.to - p.from) * i / steps), p.y(v));
      open = std::isfinite(v);
    }
    out += "\"/>\n";
  }
  return out;
}

}  // namespace

std::string svg(const drawing& d) {
  const bool slopes = !d.along.slopes.empty();
  columns value, slope;
  for (const curve& c : d.curves) {
    value.emplace_back();
    slope.emplace_back();
    for (int i = 0; i <= steps; ++i) {
      const point y = c.at(d.along.from + (d.along.to - d.along.from) * i / steps);
      value.back().push_back(y.value);
      slope.back().push_back(y.slope);
    }
  }
  const double width = slopes ? left + apart + wide + 20 : left + wide + 20;
  const double height = top + high + 44 + 17 * static_cast<double>(d.curves.size());
  std::string out = text("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" ", width, height);
  out += text("viewBox=\"0 0 %.0f %.0f\" ", width, height);
  out += "font-family=\"Helvetica,Arial,sans-serif\" font-size=\"12\" fill=\"#222\">\n";
  out += "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
  out += draw({0, d.along.from, d.along.to}, d.name, d.along.name, value);
  if (slopes) out += draw({apart, d.along.from, d.along.to}, "slope " + d.along.slopes[0], d.along.name, slope);
  for (std::size_t c = 0; c < d.curves.size(); ++c) {
    const double y = top + high + 48 + 17 * static_cast<double>(c);
    out += text("<path stroke-width=\"2\" stroke=\"%s\" d=\"M%.0f %.0fh22\"/>\n", colours[c % 4], left, y);
    out += words(left + 28, y + 4, "start", d.curves[c].name);
  }
  return out + "</svg>\n";
}

}  // namespace plots
