#pragma once
// A kernel as the machine runs it: nvcc's PTX, decoded. All that an instruction names is a slot of 64 bits in the thread's register
// file: registers, immediates (written there before the thread starts), special registers and the addresses of variables.

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ptx {

using word = std::uint64_t;
using slot = std::uint32_t;

/// What an instruction is, as far as the machine has to know; all arithmetic is `compute`.
enum class effect : std::uint8_t {
  compute,
  load,
  store,
  branch,
  call,
  leave,
  block_barrier,
  warp_barrier,
  shuffle,
  vote,
  active_mask,
  nothing
};
enum class space : std::uint8_t { generic, global, shared, local, parameter };
enum class shuffle_mode : std::uint8_t { up, down, butterfly, index };
enum class vote_mode : std::uint8_t { all, any, uniform, ballot };

/// What most of them need fits into one line of the cache.
struct alignas(64) instruction {
  void (*compute)(const instruction&, word* registers) = nullptr;
  effect what = effect::nothing;
  bool guarded = false, guard_negated = false;
  std::uint8_t tos = 0, froms = 0;
  std::uint8_t mode = 0;  ///< of a shuffle, a vote
  // A memory access: [registers[address] + offset], `elements` of `bytes` each.
  std::uint8_t bytes = 0, elements = 1;
  slot guard = 0, address = 0;
  slot to[4] = {}, from[5] = {};
  std::uint32_t target = 0;  ///< of a branch; of a call, the place in routine::calls
  std::int64_t offset = 0;
  space where = space::generic;
  bool is_signed = false;
  bool synchronises = false;  ///< volatile or atomic: other threads may use the same address at the same time
  const std::string* opcode = nullptr;
  std::string_view text;  ///< of the statement, for messages
};

/// Where the generic addresses of a block's shared memory, of a thread's local memory and of its parameters begin; all above is
/// global.
inline constexpr word shared_begin = 0x400, local_begin = 0x1000000, parameter_begin = 0x8000000,
                      global_begin = 0x10000000;

struct parameter {
  std::size_t offset = 0, bytes = 0;
};

/// The slots that every thread has, in front of a routine's own.
enum special : slot {
  zero,
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  lane_id,
  warp_size,
  specials
};

/// A kernel's own code, or a function that it calls.
struct routine {
  struct call {
    std::size_t callee = 0;                       ///< in kernel::routines
    std::vector<std::size_t> arguments, results;  ///< where they lie in the caller's parameter memory
  };
  std::string name;
  std::vector<parameter> parameters, results;
  std::size_t parameter_bytes = 0;  ///< all of them, and those of the routines that it calls
  std::size_t local_bytes = 0;
  std::vector<instruction> code;
  std::vector<call> calls;
  std::vector<std::pair<slot, word>> constants, local_addresses;
  slot slots = specials;
  mutable std::vector<std::uint64_t> executed;  ///< how often each instruction was, so far
};
struct kernel {
  std::string name;
  std::vector<routine> routines;  ///< the first one is the kernel's own
  std::size_t shared_bytes = 0;
  std::int64_t most_threads = 1024;
};

/// The PTX of one translation unit. Kernels are decoded when they are first launched.
class module {
 public:
  explicit module(std::string text);
  [[nodiscard]] bool has(const std::string& kernel) const { return bodies_.count(kernel) != 0; }
  [[nodiscard]] const kernel& get(const std::string& name);

  /// A variable in global memory; its address is told before the first launch.
  struct variable {
    std::size_t bytes = 0;
    word address = 0;
  };
  [[nodiscard]] std::map<std::string, variable>& variables() { return globals_; }

  struct shared_variable {
    std::size_t bytes = 0, alignment = 1;
  };
  [[nodiscard]] const std::map<std::string, shared_variable>& shared() const { return shared_; }
  /// From behind its name to the closing brace; null where there is none.
  [[nodiscard]] const std::string_view* body(const std::string& name) const {
    const auto found = bodies_.find(name);
    return found == bodies_.end() ? nullptr : &found->second;
  }

 private:
  std::string text_;
  std::map<std::string, std::string_view> bodies_;
  std::map<std::string, variable> globals_;
  std::map<std::string, shared_variable> shared_;
  std::map<std::string, kernel> decoded_;
};

/// What went wrong in PTX that the machine does not know, or in a kernel that does what no kernel may.
struct fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The arithmetic of an opcode without its rounding to nearest; null where the machine does not know it.
using computation = void (*)(const instruction&, word*);
[[nodiscard]] computation find_computation(const std::string& opcode);

}  // namespace ptx
