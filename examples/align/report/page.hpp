#pragma once
// A page of a report: parts one after the other.

#include <sstream>
#include <string>
#include <vector>

namespace align {

/// `x` with so many digits behind the point.
[[nodiscard]] std::string fixed(double x, int digits);
/// Text for HTML; a line's end is a break.
[[nodiscard]] std::string escaped(const std::string& text);

/// HTML that holds everything it shows.
class page {
 public:
  explicit page(const std::string& heading) {
    out_ << "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
         << "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" << heading
         << "</title>\n<style>"
         << "body{font:16px/1.5 system-ui,sans-serif;max-width:820px;margin:2rem auto;padding:0 "
            "1rem;color:#222;background:#fff}"
         << "h2{margin-top:2.2rem}table{border-collapse:collapse;width:100%;font-size:.95rem}"
         << "td,th{padding:.3rem .5rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}"
         << "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}svg{max-width:100%;height:"
            "auto}"
         << ".wide{overflow-x:auto}small,.quiet{color:#666}.sample{border:1px solid "
            "#ddd;border-radius:.4rem;padding:.6rem 1rem;margin:1rem 0}"
         << ".pair{display:grid;grid-template-columns:7rem 1fr;gap:.2rem .8rem}.pair "
            "b{font-weight:600}td:first-child{white-space:nowrap}"
         << "@media(max-width:520px){.pair{grid-template-columns:1fr}}pre{overflow-x:auto;background:#f6f6f6;padding:."
            "6rem}"
         << "</style></head><body>\n<h1>" << heading << "</h1>\n";
  }
  void paragraph(const std::string& html) { out_ << "<p>" << html << "</p>\n"; }
  void heading(const std::string& text) { out_ << "<h2>" << text << "</h2>\n"; }
  void raw(const std::string& html) { out_ << html << '\n'; }
  void figure_of(const std::string& svg) {
    if (svg.empty())
      paragraph(
          "<small>gnuplot was not found, so there is no figure here; its numbers are in the files beside this "
          "page.</small>");
    else
      out_ << svg << '\n';
  }
  /// Cells after the first `words` are numbers.
  void table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
             std::size_t words = 1) {
    out_ << "<div class=\"wide\"><table><tr>";
    for (std::size_t i = 0; i < head.size(); ++i)
      out_ << (i < words ? "<th>" : "<th class=\"n\">") << head[i] << "</th>";
    out_ << "</tr>\n";
    for (const auto& row : rows) {
      out_ << "<tr>";
      for (std::size_t i = 0; i < row.size(); ++i)
        out_ << (i < words ? "<td>" : "<td class=\"n\">") << row[i] << "</td>";
      out_ << "</tr>\n";
    }
    out_ << "</table></div>\n";
  }
  [[nodiscard]] std::string text() const { return out_.str() + "</body></html>\n"; }

 private:
  std::ostringstream out_;
};

}  // namespace align
