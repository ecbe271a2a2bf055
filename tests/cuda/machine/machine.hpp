#pragma once
// Runs kernels: every thread on its own from one barrier to the next, in an order drawn anew for each block. What a kernel may not do
// is a fault: an address outside of memory, one that is not aligned to its access, memory that nobody wrote, two threads at one byte
// with nothing between them (unless both read it, or write the same into it), a barrier that not all reach.

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "memory.hpp"
#include "program.hpp"
#include "report.hpp"

namespace ptx {

struct launch {
  std::array<std::uint32_t, 3> grid{1, 1, 1}, block{1, 1, 1};
  std::size_t dynamic_shared_bytes = 0;
  std::vector<unsigned char> parameters;
};

class machine {
 public:
  machine(memory& m, std::uint64_t seed) : memory_(m), draws_(seed) {}
  /// Throws fault.
  void run(const kernel& k, const launch& l);
  /// From here on, count.
  void count_into(report& r) { report_ = &r; }

 private:
  enum class state : std::uint8_t { running, at_block_barrier, at_warp_operation, done };
  /// A routine that a thread is in.
  struct frame {
    const routine* in = nullptr;
    std::uint32_t pc = 0;
    word* registers = nullptr;
    std::vector<unsigned char> parameters;
    std::size_t local_base = 0;
    std::unique_ptr<word[]> own;  ///< the registers of a function
  };
  struct thread {
    frame now;
    std::vector<frame> callers;
    std::vector<unsigned char> local;
    state is = state::running;
    [[nodiscard]] const instruction& at() const { return now.in->code[now.pc]; }
  };

  void run_block(std::uint32_t index);
  void start(std::uint32_t block);
  void enter(frame& f, std::uint32_t t) const;
  void call(std::uint32_t t, const routine::call& c);
  [[nodiscard]] bool leave(std::uint32_t t);
  void step(std::uint32_t t);
  void access_memory(std::uint32_t t, const instruction& i);
  /// The bytes at an address; `written`: what a store is about to write there.
  [[nodiscard]] unsigned char* reach(std::uint32_t t, const instruction& i, word address, std::size_t bytes,
                                     const unsigned char* written);
  void read_after(std::uint32_t t, const instruction& i, byte_history& h, const char* where);
  void write_after(std::uint32_t t, const instruction& i, byte_history& h, bool same_value, const char* where);
  void touch(std::uint32_t t, access& known) const;
  [[nodiscard]] bool in_order(std::uint32_t t, const access& before) const;
  bool warp_operations(std::uint32_t warp);
  void exchange(std::uint32_t warp, std::uint32_t members);
  [[nodiscard]] fault wrong(std::uint32_t t, const instruction& i, const std::string& what) const;

  memory& memory_;
  std::mt19937_64 draws_;
  report* report_ = nullptr;
  sector_counter sectors_;
  std::uint32_t runs_ = 0, first_run_ = 1;  ///< of blocks: all so far, and the first of this launch
  // Of the launch and the block that run.
  const kernel* kernel_ = nullptr;
  const launch* launch_ = nullptr;
  std::uint32_t block_ = 0, size_ = 0, barriers_ = 0;
  std::vector<thread> threads_;
  std::vector<word> registers_;
  std::vector<unsigned char> shared_;
  std::vector<byte_history> shared_history_;
  std::vector<std::uint32_t> warp_barriers_;        ///< of each warp, so far
  std::vector<std::array<std::uint32_t, 32>> met_;  ///< when each thread last met each lane of its warp
};

}  // namespace ptx
