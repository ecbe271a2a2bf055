#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace ptx {
namespace {

/// Address space; pages come when they are touched.
template <class T>
[[nodiscard]] T* reserve(std::size_t bytes, int rights, int file = -1) {
  const int kind = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* const p = mmap(nullptr, bytes, rights, kind | MAP_NORESERVE, file, 0);
  if (p == MAP_FAILED) throw fault("the machine: no address space of " + std::to_string(bytes >> 30) + " GiB");
  return static_cast<T*>(p);
}

}  // namespace

memory::memory() {
  const int file = memfd_create("device", 0);
  if (file < 0 || ftruncate(file, reserved) != 0) throw fault("the machine: no memory file");
  base_ = reinterpret_cast<word>(reserve<unsigned char>(reserved, PROT_NONE, file));
  store_ = reserve<unsigned char>(reserved, PROT_READ | PROT_WRITE, file);
  written_ = reserve<unsigned char>(reserved, PROT_READ | PROT_WRITE);
  history_ = reserve<byte_history>(reserved * sizeof(byte_history), PROT_READ | PROT_WRITE);
  next_ = base_ + fence;
}

word memory::allocate(std::size_t bytes, bool both_sides) {
  if (bytes > reserved || next_ + bytes + 2 * fence > base_ + reserved) return 0;
  const word at = next_;
  // Addresses are not used twice: what is used after it was given back is seen.
  next_ = (at + bytes + 2 * fence - 1) / fence * fence;
  pieces_[at] = {bytes, both_sides};
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  if (both_sides) {
    mprotect(reinterpret_cast<void*>(at), (bytes + fence - 1) / fence * fence, PROT_READ | PROT_WRITE);
  } else {
    std::memset(store_ + (at - base_), 0xcd, bytes);
  }
  return at;
}

bool memory::release(word address) {
  const auto found = pieces_.find(address);
  if (found == pieces_.end()) return false;
  mprotect(reinterpret_cast<void*>(address), (found->second.bytes + fence - 1) / fence * fence, PROT_NONE);
  used_ -= found->second.bytes;
  pieces_.erase(found);
  return true;
}

std::string memory::outside(word address, std::size_t bytes) const {
  auto after = pieces_.upper_bound(address);
  if (after == pieces_.begin()) return is_device(address) ? "before all memory" : "not memory of the device";
  const auto& [begin, found] = *--after;
  if (address + bytes <= begin + found.bytes) return {};
  if (!is_device(address)) return "not memory of the device";
  return std::to_string(address + bytes - begin - found.bytes) + " bytes beyond a piece of " +
         std::to_string(found.bytes);
}

bool memory::written(word address, std::size_t bytes) const {
  const auto after = pieces_.upper_bound(address);
  if (after != pieces_.begin() && std::prev(after)->second.both_sides) return true;  // the program may have written it
  const unsigned char* const first = written_ + (address - base_);
  return std::all_of(first, first + bytes, [](unsigned char b) { return b != 0; });
}
void memory::mark_written(word address, std::size_t bytes) { std::memset(written_ + (address - base_), 1, bytes); }

}  // namespace ptx
