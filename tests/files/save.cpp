// Files are written whole or not at all.

#include "align/files/save.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "align/files/bytes.hpp"
#include "models.hpp"
#include "support/catch.hpp"

namespace {

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Within its life no file of this process grows beyond so many bytes: what a full disk looks like to a program.
class small_disk {
 public:
  explicit small_disk(rlim_t bytes) : signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit now = before_;
    now.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  small_disk(const small_disk&) = delete;
  small_disk& operator=(const small_disk&) = delete;
  ~small_disk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  void (*signal_)(int);
  rlimit before_{};
};

}  // namespace

TEST_CASE("a file is saved and replaced, and nothing else is left in the folder") {
  const temporary_folder folder;
  align::save_file(folder / "a.txt", std::string_view("first"));
  CHECK(contents(folder / "a.txt") == "first");
  align::save_file(folder / "a.txt", [](align::file_writer& to) {
    to.write("second, ");
    to.write("");
    to.write("longer");
  });
  CHECK(contents(folder / "a.txt") == "second, longer");
  align::save_file(folder / "empty", std::string_view());
  CHECK(contents(folder / "empty").empty());
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a.txt", "empty"});
  struct stat status {};
  REQUIRE(::stat((folder / "a.txt").c_str(), &status) == 0);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  CHECK((status.st_mode & 0777u) == (0666u & ~mask));
}

TEST_CASE("a file without a folder goes into the current one") {
  const temporary_folder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  align::save_file("here.txt", std::string_view("x"));
  std::filesystem::current_path(before);
  CHECK(contents(folder / "here.txt") == "x");
}

TEST_CASE("when the disk is full the old file stays, and nothing is left behind") {
  const temporary_folder folder;
  align::save_file(folder / "a.bin", std::string_view("old"));
  std::string message;
  {
    const small_disk disk(4096);
    message = error_of([&] { align::save_file(folder / "a.bin", std::string_view(std::string(10000, 'x'))); });
  }
  CHECK(message == "cannot write " + (folder / "a.bin").string() +
                       ": File too large after 4096 bytes, 5904 of a piece of 10000 are left");
  CHECK(contents(folder / "a.bin") == "old");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a.bin"});
}

TEST_CASE("a full device is told by its own words") {
  const int full = ::open("/dev/full", O_WRONLY);
  if (full < 0) return;  // not every system has one
  const std::filesystem::path path = "out/model.bin";
  CHECK(error_of([&] { align::file_writer(full, path).write("12345"); }) ==
        "cannot write out/model.bin: No space left on device after 0 bytes, 5 of a piece of 5 are left");
  ::close(full);
}

TEST_CASE("when what writes the contents fails the old file stays") {
  const temporary_folder folder;
  align::save_file(folder / "a.bin", std::string_view("old"));
  CHECK(error_of([&] {
          align::save_file(folder / "a.bin", [](align::file_writer& to) {
            to.write("half");
            throw std::runtime_error("stopped");
          });
        }) == "stopped");
  CHECK(contents(folder / "a.bin") == "old");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a.bin"});
}

TEST_CASE("places that cannot be written are named with the system's reason") {
  const temporary_folder folder;
  put(folder / "file", "x");
  std::filesystem::create_directory(folder / "taken");
  put(folder / "taken" / "inside", "x");
  const auto save = [](const std::filesystem::path& path) {
    return error_of([&] { align::save_file(path, std::string_view("x")); });
  };
  CHECK(save(folder / "none/a") == "cannot write " + (folder / "none/a").string() + ": No such file or directory");
  CHECK(save(folder / "file/a") == "cannot write " + (folder / "file/a").string() + ": Not a directory");
  CHECK(save(folder / "taken") == "cannot write " + (folder / "taken").string() + ": Is a directory");
  CHECK(contains(save(folder / "taken/"), "this is the name of a folder"));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"file", "taken"});
  if (::geteuid() != 0) {
    std::filesystem::permissions(folder / "taken", std::filesystem::perms::owner_read);
    CHECK(contains(save(folder / "taken/a"), "Permission denied"));
    CHECK(contains(error_of([&] { align::require_writable(folder / "taken"); }), "Permission denied"));
    std::filesystem::permissions(folder / "taken", std::filesystem::perms::owner_all);
  }
}

TEST_CASE("a folder is made and tried before the work") {
  const temporary_folder folder;
  align::require_writable(folder / "a/b/c");
  CHECK(std::filesystem::is_directory(folder / "a/b/c"));
  CHECK(names_in(folder / "a/b/c").empty());
  align::require_writable(folder / "a");
  CHECK(align::free_bytes(folder.path()) > 0);
  put(folder / "file", "x");
  CHECK(contains(error_of([&] { align::require_writable(folder / "file"); }), (folder / "file").string()));
  CHECK(contains(error_of([&] { align::require_writable(folder / "file/below"); }), "Not a directory"));
  CHECK(contains(error_of([&] { (void)align::free_bytes(folder / "none"); }), "No such file or directory"));
  const small_disk disk(0);
  CHECK(contains(error_of([&] { align::require_writable(folder / "a"); }), "File too large"));
}

TEST_CASE("a file is read whole, up to a limit") {
  const temporary_folder folder;
  put(folder / "a", "12345");
  CHECK(text_of(align::read_whole(folder / "a", 5)) == "12345");
  const auto read = [&](const std::filesystem::path& path) {
    return error_of([&] { (void)align::read_whole(path, 4); });
  };
  CHECK(read(folder / "a") == "cannot read " + (folder / "a").string() + ": it has 5 bytes, wants at most 4");
  CHECK(read(folder / "none") == "cannot read " + (folder / "none").string() + ": No such file or directory");
  CHECK(contains(read(folder.path()), "it is a folder, wants a file"));
  CHECK(contains(read("/dev/null"), "it is no regular file"));
}

TEST_CASE("bytes are taken with bounds") {
  const std::string text = std::string("\x02\x01\0\0", 4) + "abcdefgh";
  align::byte_reader in(bytes_of(text), "FILE");
  CHECK(in.take<std::int32_t>("a number") == 258);
  CHECK(text_of(in.take(3, "letters")) == "abc");
  CHECK(in.remaining() == 5);
  CHECK(error_of([&] { (void)in.take<double>("a score"); }) == "FILE: at byte 7: wanted a score (8 bytes), got only 5");
  CHECK(error_of([&] { (void)in.take(~std::uint64_t{0}, "much"); }) ==
        "FILE: at byte 7: wanted much (18446744073709551615 bytes), got only 5");
  CHECK(error_of([&] { (void)in.take(6, "letters"); }) == "FILE: at byte 7: wanted letters (6 bytes), got only 5");
  CHECK(in.at() == 7);
  CHECK(in.take(5, "the rest").size() == 5);
  CHECK(error_of([&] { (void)in.take<float>("a score"); }) ==
        "FILE: at byte 12: wanted a score (4 bytes), got the end of the file");
  CHECK(align::shown(std::string("a\n\x1b[31m\xff", 8)) == "a??[31m?");
  CHECK(align::shown(std::string(1000, 'a')).size() == 83);
}
