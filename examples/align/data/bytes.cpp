#include "align/data/bytes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

// zlib's reader may not write to its input, and says so in its types only then.
#define ZLIB_CONST
#include <zlib.h>

namespace align {

namespace {

constexpr std::size_t piece_size = std::size_t{1} << 16;

}  // namespace

struct byte_source::gzip {
  gzip() {
    constexpr int gzip_with_the_largest_window = 15 + 16;
    if (inflateInit2(&stream, gzip_with_the_largest_window) != Z_OK) throw std::bad_alloc();
  }
  ~gzip() { inflateEnd(&stream); }
  gzip(const gzip&) = delete;
  gzip& operator=(const gzip&) = delete;

  z_stream stream{};
  bool between = false;  ///< a member has ended and none has begun
  std::unique_ptr<char[]> out{new char[piece_size]};
};

byte_source::byte_source(const std::string& path)
    : name_(path), file_(std::fopen(path.c_str(), "rb"), &std::fclose), piece_(new char[piece_size]) {
  if (!file_) throw std::runtime_error(path + ": cannot be opened (" + std::strerror(errno) + ")");
}
byte_source::byte_source(std::string_view bytes, std::string name)
    : name_(std::move(name)), file_(nullptr, &std::fclose), memory_(bytes) {}
byte_source::~byte_source() = default;
byte_source::byte_source(byte_source&&) noexcept = default;
byte_source& byte_source::operator=(byte_source&&) noexcept = default;

std::string_view byte_source::raw() {
  if (!file_) {
    const std::string_view next = memory_.substr(0, piece_size);
    memory_.remove_prefix(next.size());
    return next;
  }
  const std::size_t n = std::fread(piece_.get(), 1, piece_size, file_.get());
  if (n == 0 && std::ferror(file_.get()) != 0)
    throw std::runtime_error(name_ + ": cannot be read (" + std::strerror(errno) + ")");
  return {piece_.get(), n};
}

std::string_view byte_source::unpacked() {
  z_stream& z = gzip_->stream;
  for (;;) {
    if (z.avail_in == 0) {
      const std::string_view next = raw();
      if (next.empty() && gzip_->between) return {};
      if (next.empty()) throw std::runtime_error(name_ + ": the gzip data end too early (is the file cut?)");
      z.next_in = reinterpret_cast<const Bytef*>(next.data());
      z.avail_in = static_cast<uInt>(next.size());
    }
    if (gzip_->between) inflateReset(&z);
    gzip_->between = false;
    z.next_out = reinterpret_cast<Bytef*>(gzip_->out.get());
    z.avail_out = static_cast<uInt>(piece_size);
    const int said = inflate(&z, Z_NO_FLUSH);
    gzip_->between = said == Z_STREAM_END;
    if (said != Z_OK && said != Z_STREAM_END && said != Z_BUF_ERROR)
      throw std::runtime_error(name_ + ": the gzip data are damaged (" + (z.msg != nullptr ? z.msg : "zlib gave up") +
                               ")");
    if (const std::size_t n = piece_size - z.avail_out; n > 0) return {gzip_->out.get(), n};
  }
}

std::string_view byte_source::peek() {
  if (!ready_.empty()) return ready_;
  if (!begun_) {
    begun_ = true;
    ready_ = raw();
    if (ready_.substr(0, 2) == "\x1f\x8b") {
      gzip_ = std::make_unique<gzip>();
      gzip_->stream.next_in = reinterpret_cast<const Bytef*>(ready_.data());
      gzip_->stream.avail_in = static_cast<uInt>(ready_.size());
      ready_ = unpacked();
    }
    return ready_;
  }
  ready_ = gzip_ ? unpacked() : raw();
  return ready_;
}

}  // namespace align
