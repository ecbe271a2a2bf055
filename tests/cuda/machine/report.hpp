#pragma once
// What kernels did, counted: instructions of PTX by what carries them out, and how much memory they asked for. Not times: the assembler
// still turns PTX into the device's own instructions, mostly one for one.

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "program.hpp"

namespace ptx {

struct counts {
  std::uint64_t launches = 0, threads = 0, instructions = 0, single = 0, twofold = 0, special = 0, integer = 0,
                shared = 0, exchanges = 0;
  /// Of global memory: what threads asked for, and what that is in pieces of 32 bytes for each warp's access.
  std::uint64_t bytes_read = 0, bytes_written = 0, sector_bytes_read = 0, sector_bytes_written = 0;
};

/// Of one block: which pieces of memory the lanes of a warp touch when they come to an instruction for the n-th time.
class sector_counter {
 public:
  void start() { touched_.clear(), visits_.clear(); }
  void touch(std::uint32_t thread, const instruction& i, word address, std::size_t bytes);
  void finish(counts& to);

 private:
  struct warp_access {
    const instruction* at;
    std::uint32_t warp, visit;
    friend bool operator<(const warp_access& a, const warp_access& b) {
      return std::tie(a.at, a.warp, a.visit) < std::tie(b.at, b.warp, b.visit);
    }
  };
  std::map<warp_access, std::vector<word>> touched_;
  std::map<std::pair<const instruction*, std::uint32_t>, std::uint32_t> visits_;
};

class report {
 public:
  [[nodiscard]] counts& of(const kernel& k) { return all_[k.name]; }
  /// Adds what an instruction did so often.
  static void add(counts& to, const instruction& i, std::uint64_t times);
  /// A line of tab-separated numbers for each kernel.
  void write(const std::string& file) const;

 private:
  std::map<std::string, counts> all_;
};

/// A mangled name as people read it.
[[nodiscard]] std::string readable(const std::string& name);

}  // namespace ptx
