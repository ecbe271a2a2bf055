#include "align/files/save.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace align {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const std::string& reason) {
  throw std::runtime_error("cannot write " + path.string() + ": " + reason);
}

[[noreturn]] void refuse(const fs::path& path, int reason) { refuse(path, std::generic_category().message(reason)); }

fs::path folder_of(const fs::path& path) {
  const fs::path folder = path.parent_path();
  return folder.empty() ? "." : folder;
}

/// A file under a new name that goes away unless it was renamed.
class fresh_file {
 public:
  explicit fresh_file(const fs::path& path) : path_(path) {
    static std::atomic<unsigned> count = 0;
    do {
      fresh_ = path.string() + "." + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".new";
      descriptor_ = ::open(fresh_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) refuse(path_, errno);
  }
  fresh_file(const fresh_file&) = delete;
  fresh_file& operator=(const fresh_file&) = delete;
  ~fresh_file() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!fresh_.empty()) ::unlink(fresh_.c_str());
  }

  [[nodiscard]] int descriptor() const { return descriptor_; }

  void keep() {
    if (::fsync(descriptor_) != 0) refuse(path_, errno);
    // Some file systems tell only here that the disk is full.
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    if (closed != 0) refuse(path_, errno);
    if (::rename(fresh_.c_str(), path_.c_str()) != 0) refuse(path_, errno);
    fresh_.clear();
    const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;  // a folder that may be written but not read cannot be synced
    const int synced = ::fsync(folder) == 0 ? 0 : errno;
    ::close(folder);
    if (synced != 0 && synced != EINVAL) refuse(path_, synced);  // EINVAL: this file system syncs no folders
  }

 private:
  fs::path path_;
  std::string fresh_;
  int descriptor_ = -1;
};

}  // namespace

void file_writer::write(std::span<const std::byte> bytes) {
  const std::size_t all = bytes.size();
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const std::string reason = std::generic_category().message(n < 0 ? errno : ENOSPC);
      refuse(path_, reason + " after " + std::to_string(written_) + " bytes, " + std::to_string(bytes.size()) +
                        " of a piece of " + std::to_string(all) + " are left");
    }
    written_ += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void save_file(const fs::path& path, const std::function<void(file_writer&)>& contents) {
  if (path.filename().empty()) refuse(path, "this is the name of a folder, wants that of a file");
  fresh_file file(path);
  file_writer writer(file.descriptor(), path);
  contents(writer);
  file.keep();
}

void save_file(const fs::path& path, std::span<const std::byte> bytes) {
  save_file(path, [&](file_writer& to) { to.write(bytes); });
}

void save_file(const fs::path& path, std::string_view text) { save_file(path, std::as_bytes(std::span(text))); }

void require_writable(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (problem) throw std::runtime_error("cannot make the folder " + folder.string() + ": " + problem.message());
  if (!fs::is_directory(folder, problem)) throw std::runtime_error(folder.string() + " is a file, wants a folder");
  const fresh_file trial(folder / "trial");
  file_writer(trial.descriptor(), folder / "trial").write("a byte shows that there is room");
}

std::uint64_t free_bytes(const fs::path& folder) {
  std::error_code problem;
  const fs::space_info space = fs::space(folder, problem);
  if (problem) throw std::runtime_error("cannot tell the free space of " + folder.string() + ": " + problem.message());
  return space.available;
}

void require_room(const std::filesystem::path& folder, double bytes) {
  const auto room = static_cast<double>(free_bytes(folder));
  if (room < bytes)
    throw std::runtime_error(
        "--out: the run needs about " + std::to_string(static_cast<long long>(bytes / 1048576) + 1) + " MiB in " +
        folder.string() + ", where " + std::to_string(static_cast<long long>(room / 1048576)) + " MiB are free");
}

bool left_unfinished(const fs::path& path) {
  if (path.extension() != ".new") return false;
  const std::string numbers = path.stem().extension().string();  // ".PROCESS-NUMBER"
  const auto dash = numbers.find('-');
  const auto digits = [](const std::string& s) {
    return !s.empty() && s.find_first_not_of("0123456789") == std::string::npos;
  };
  return dash != std::string::npos && digits(numbers.substr(1, dash - 1)) && digits(numbers.substr(dash + 1));
}

}  // namespace align
