#pragma once
// Files that are written whole or not at all.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

namespace align {

/// Takes the contents of a file that is being saved, piece by piece.
class file_writer {
 public:
  /// `path` is what errors name.
  file_writer(int descriptor, const std::filesystem::path& path) : descriptor_(descriptor), path_(path) {}

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

 private:
  int descriptor_;
  const std::filesystem::path& path_;
  std::uint64_t written_ = 0;
};

/// Writes a file under a new name in the same folder, syncs it, renames it to `path` and syncs the folder: after a crash
/// there is the old file or the new one, whole. `contents` may throw.
///
/// On failure the new name is gone and what was at `path` is as it was; std::runtime_error with the path and the
/// system's reason.
void save_file(const std::filesystem::path& path, const std::function<void(file_writer&)>& contents);
void save_file(const std::filesystem::path& path, std::span<const std::byte> bytes);
void save_file(const std::filesystem::path& path, std::string_view text);

/// Makes the folder where it is missing and tries a file in it, so that a program can refuse before its work, not after.
void require_writable(const std::filesystem::path& folder);

/// Bytes that this user can still write in the folder.
[[nodiscard]] std::uint64_t free_bytes(const std::filesystem::path& folder);
/// Throws std::runtime_error where fewer than `bytes` are free in the folder that a run wants to write to.
void require_room(const std::filesystem::path& folder, double bytes);

/// A file that a killed save_file() left behind, by its name: NAME.PROCESS-NUMBER.new.
[[nodiscard]] bool left_unfinished(const std::filesystem::path& path);

}  // namespace align
