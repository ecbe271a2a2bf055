#pragma once
// What the tests of examples/align/data share.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>

namespace align_tests {

/// A file that is gone with its object.
class temporary_file {
 public:
  temporary_file(const std::string& name, std::string_view bytes)
      : path_((std::filesystem::temp_directory_path() / ("rlhf-" + std::to_string(std::random_device{}()) + "-" + name))
                  .string()) {
    std::ofstream(path_, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  ~temporary_file() { std::filesystem::remove(path_); }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The path of a real file, where RLHF_DATA names the folder and the file is there; else empty.
inline std::string real_file(const std::string& name) {
  const char* const folder = std::getenv("RLHF_DATA");
  if (folder == nullptr) return {};
  const std::string path = std::string(folder) + "/" + name;
  return std::filesystem::exists(path) ? path : std::string();
}

}  // namespace align_tests
