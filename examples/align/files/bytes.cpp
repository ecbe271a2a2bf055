#include "align/files/bytes.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace align {

namespace {

struct descriptor {
  int number;
  explicit descriptor(const std::filesystem::path& path)
      : number(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() {
    if (number >= 0) ::close(number);
  }
};

}  // namespace

std::vector<std::byte> read_whole(const std::filesystem::path& path, std::uint64_t limit) {
  const auto refuse = [&](const std::string& reason) {
    throw std::runtime_error("cannot read " + path.string() + ": " + reason);
  };
  const auto system = [] { return std::generic_category().message(errno); };
  const descriptor file(path);
  struct stat status {};
  if (file.number < 0 || ::fstat(file.number, &status) != 0) refuse(system());
  if (S_ISDIR(status.st_mode)) refuse("it is a folder, wants a file");
  if (!S_ISREG(status.st_mode)) refuse("it is no regular file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > limit) refuse("it has " + std::to_string(size) + " bytes, wants at most " + std::to_string(limit));
  std::vector<std::byte> bytes(size);
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::read(file.number, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) refuse(system());
    if (n == 0) refuse("it became shorter while it was read");
    done += static_cast<std::size_t>(n);
  }
  return bytes;
}

std::span<const std::byte> byte_reader::take(std::uint64_t count, std::string_view what) {
  if (count > remaining())
    throw std::runtime_error(name_ + ": at byte " + std::to_string(at_) + ": wanted " + std::string(what) + " (" +
                             std::to_string(count) + " bytes), got " +
                             (remaining() == 0 ? "the end of the file" : "only " + std::to_string(remaining())));
  const auto piece = bytes_.subspan(at_, count);
  at_ += count;
  return piece;
}

void byte_reader::take(std::span<float> to, std::string_view what) {
  const auto from = take(to.size_bytes(), what);
  if (!to.empty()) std::memcpy(to.data(), from.data(), from.size());
}

void byte_writer::put(std::span<const std::byte> more) {
  if (more.empty()) return;
  const std::size_t at = bytes_.size();
  bytes_.resize(at + more.size());
  std::memcpy(bytes_.data() + at, more.data(), more.size());
}

std::string shown(std::string_view text) {
  constexpr std::size_t longest = 80;
  std::string out;
  for (const char c : text.substr(0, longest)) out += c >= ' ' && c <= '~' ? c : '?';
  return text.size() > longest ? out + "..." : out;
}

}  // namespace align
