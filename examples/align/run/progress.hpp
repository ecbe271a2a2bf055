#pragma once
// A line that says how far a stage is: with rate and time left, rewritten on a terminal, now and then elsewhere.

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace align {

class progress_line {
 public:
  /// `unit` names what is counted, as "updates"; `begun` of them were done before.
  progress_line(std::string stage, std::int64_t total, std::string unit, std::int64_t begun = 0)
      : stage_(std::move(stage)),
        unit_(std::move(unit)),
        total_(total),
        begun_(begun),
        terminal_(isatty(STDERR_FILENO) != 0) {}
  ~progress_line() {
    if (shown_ && terminal_) std::fputc('\n', stderr);
  }
  progress_line(const progress_line&) = delete;
  progress_line& operator=(const progress_line&) = delete;

  /// `note` is a short text beside the numbers, such as the loss.
  void update(std::int64_t done, const std::string& note = {}) {
    const double elapsed = seconds();
    const bool last = done >= total_;
    if (elapsed < 1 && !last) return;  // a stage this short needs no line
    if (!last && elapsed - said_ < (terminal_ ? 0.2 : 5)) return;
    if (last && elapsed < 1 && !shown_) return;
    said_ = elapsed;
    shown_ = true;
    const double rate = static_cast<double>(done - begun_) / elapsed;
    const double left = rate > 0 ? static_cast<double>(total_ - done) / rate : 0;
    std::fprintf(stderr, "%s%-14s %5lld/%lld %s  %.1f/s  %s left  %s%s", terminal_ ? "\r" : "", stage_.c_str(),
                 static_cast<long long>(done), static_cast<long long>(total_), unit_.c_str(), rate, clock(left).c_str(),
                 note.c_str(), terminal_ ? "\x1b[K" : "\n");
    std::fflush(stderr);
  }
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  [[nodiscard]] static std::string clock(double seconds) {
    char text[32];
    const auto whole = static_cast<long long>(seconds + 0.5);
    std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
    return text;
  }

  std::string stage_, unit_;
  std::int64_t total_, begun_;
  bool terminal_;
  bool shown_ = false;
  double said_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace align
