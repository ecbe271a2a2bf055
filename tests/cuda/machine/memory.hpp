#pragma once
// The device's memory: pieces with known ends, and for each byte who wrote and read it last. The program's own pointers do not reach
// it: device addresses are mapped without any right, the bytes lie a fixed distance away.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "program.hpp"

namespace ptx {

/// Who touched a byte: threads of one warp at one time of one block's run. Two accesses are in order if they belong to different
/// launches, or if a barrier of the block (`barriers` counts them) or one of the warp in which both took part lies between.
struct access {
  std::uint32_t run = 0, barriers = 0, warp_barriers = 0, lanes = 0;
  std::uint16_t warp = 0;
  bool other_warps = false;  ///< of reads and of equal writes: not this warp alone
  friend bool operator==(const access&, const access&) = default;
};
struct byte_history {
  access write, read;
  friend bool operator==(const byte_history&, const byte_history&) = default;
};

class memory {
 public:
  memory();
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;

  /// Null where there is no room. Bytes that both sides see are mapped for the program and taken for written.
  [[nodiscard]] word allocate(std::size_t bytes, bool both_sides);
  /// False where no piece begins.
  [[nodiscard]] bool release(word address);
  [[nodiscard]] bool is_device(word address) const { return address >= base_ && address < base_ + reserved; }
  /// Empty where [address, address + bytes) lies in one piece, else what is wrong.
  [[nodiscard]] std::string outside(word address, std::size_t bytes) const;
  /// The bytes behind a device address.
  [[nodiscard]] unsigned char* bytes(word address) const { return store_ + (address - base_); }
  [[nodiscard]] bool written(word address, std::size_t bytes) const;
  void mark_written(word address, std::size_t bytes);
  [[nodiscard]] byte_history& history(word address) const { return history_[address - base_]; }
  /// Bytes in pieces at most, since the mark was set.
  [[nodiscard]] std::size_t peak() const { return peak_; }
  void reset_peak() { peak_ = used_; }

 private:
  static constexpr std::size_t reserved = std::size_t{3} << 30;
  static constexpr std::size_t fence = 4096;  ///< between pieces
  struct piece {
    std::size_t bytes;
    bool both_sides;
  };
  word base_ = 0, next_ = 0;
  std::size_t used_ = 0, peak_ = 0;
  unsigned char* store_ = nullptr;
  unsigned char* written_ = nullptr;
  byte_history* history_ = nullptr;
  std::map<word, piece> pieces_;
};

}  // namespace ptx
