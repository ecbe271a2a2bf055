#include "align/run/run_folder.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include "align/files/bytes.hpp"
#include "align/files/safetensors.hpp"
#include "align/files/save.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* format = "rlhf-align checkpoint 1";

[[noreturn]] void refuse(const fs::path& path, const std::string& what) {
  throw std::runtime_error(path.string() + ": " + what);
}

std::string join(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + '\n';
  return out;
}
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
    out.push_back(text.substr(begin, end - begin));
  return out;
}

/// The checkpoints of a folder, oldest first.
std::vector<fs::path> checkpoints(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints", none)) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() == ".safetensors" && !stem.empty() &&
        stem.find_first_not_of("0123456789") == std::string::npos)
      out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

fs::path checkpoint_name(const fs::path& folder, std::int64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "%06lld.safetensors", static_cast<long long>(number));
  return folder / "checkpoints" / name;
}

const std::string& entry(const tensor_file& file, const std::string& key, const fs::path& path) {
  const auto it = file.metadata.find(key);
  if (it == file.metadata.end()) refuse(path, "no checkpoint of rlhf-align: `" + key + "` is missing");
  return it->second;
}
std::int64_t whole(const tensor_file& file, const std::string& key, const fs::path& path) {
  const std::string& text = entry(file, key, path);
  char* end = nullptr;
  errno = 0;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value < 0)
    refuse(path, "`" + key + "` is " + text + ", wanted a whole number");
  return value;
}

/// Numbers as text that reads back to the same bits.
std::string exact(const std::vector<double*>& numbers) {
  std::string out;
  for (const double* x : numbers) {
    char text[40];
    std::snprintf(text, sizeof text, "%s%a", out.empty() ? "" : " ", *x);
    out += text;
  }
  return out;
}
std::vector<double> numbers_of(const std::string& text) {
  std::vector<double> out;
  char* end = nullptr;
  for (const char* at = text.c_str(); *at != '\0'; at = end) {
    out.push_back(std::strtod(at, &end));
    if (end == at) return {};
  }
  return out;
}

/// `advice`: what else there is to do than to give the same settings.
void require_same_settings(const tensor_file& file, const fs::path& path, const fs::path& folder,
                           const std::vector<std::string>& identity, const char* advice) {
  const std::vector<std::string> then = lines_of(entry(file, "settings", path));
  for (const std::string& now : identity)
    if (std::find(then.begin(), then.end(), now) == then.end()) {
      const std::string name = now.substr(0, now.find('=') + 1);
      std::string was = "not set";
      for (const std::string& line : then)
        if (line.rfind(name, 0) == 0) was = "`" + line + "`";
      throw std::runtime_error(folder.string() + " holds a run with other settings: it was " + was + ", and now is `" +
                               now + "`; give the same ones" + advice);
    }
}

/// Appends text to a file and syncs it; what stands there stays when that fails.
void append(const fs::path& path, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) refuse(path, std::string("cannot be written: ") + std::strerror(errno));
  std::size_t done = 0;
  int trouble = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      trouble = n < 0 ? errno : ENOSPC;
      break;
    }
    done += static_cast<std::size_t>(n);
  }
  if (trouble == 0 && ::fsync(file) != 0) trouble = errno;
  ::close(file);
  if (trouble != 0) refuse(path, std::string("cannot be written: ") + std::strerror(trouble));
}

/// Lines that a killed run wrote after its last checkpoint go.
void cut(const fs::path& path, std::uint64_t size) {
  std::error_code trouble;
  const std::uint64_t now = fs::exists(path) ? fs::file_size(path, trouble) : 0;
  if (trouble) refuse(path, trouble.message());
  if (now < size)
    refuse(path, "has " + std::to_string(now) + " bytes, fewer than the " + std::to_string(size) +
                     " of the newest checkpoint: the run cannot go on from it");
  if (now > size) fs::resize_file(path, size, trouble);
  if (trouble) refuse(path, trouble.message());
}

std::string printed(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

constexpr const char* csv_head = "stage,step,name,value\n";

}  // namespace

bool holds_finished(const fs::path& folder, const std::vector<std::string>& identity) {
  const std::vector<fs::path> kept = checkpoints(folder);
  if (kept.empty()) return false;
  const tensor_file last = load_safetensors(kept.back());
  require_same_settings(last, kept.back(), folder, identity, " or another --out");
  return entry(last, "stage", kept.back()) == "run";
}

std::vector<std::string> recorded_settings(const fs::path& folder) {
  const std::vector<fs::path> kept = checkpoints(folder);
  if (kept.empty()) return {};
  return lines_of(entry(load_safetensors(kept.back()), "settings", kept.back()));
}

run_folder::run_folder(run_folder_options options) : options_(std::move(options)), folder_(options_.folder) {
  require_writable(folder_);
  require_writable(folder_ / "checkpoints");
  require_writable(folder_ / "models");
  // What a killed run had not written whole.
  for (const fs::path& place : {folder_, folder_ / "checkpoints", folder_ / "models"})
    for (const auto& file : fs::directory_iterator(place))
      if (left_unfinished(file.path())) fs::remove(file.path());
  std::vector<fs::path> kept = checkpoints(folder_);
  if (options_.resume && !kept.empty()) {
    open_checkpoint(kept.back());
    drop_old_checkpoints();
    return;
  }
  if (!kept.empty() && !options_.anew) {
    const tensor_file last = load_safetensors(kept.back());
    if (entry(last, "stage", kept.back()) != "run")
      throw std::runtime_error("--out: " + folder_.string() +
                               " holds an unfinished run: add --resume to go on with it, or --anew to begin again");
  }
  // The new run's first checkpoint must be the newest file: the old ones go, the newest last.
  for (const fs::path& old : kept) fs::remove(old);
  std::error_code none;
  for (const char* name : {"metrics.csv", "metrics.jsonl", "timing.json"}) fs::remove(folder_ / name, none);
  for (const auto& model : fs::directory_iterator(folder_ / "models", none)) fs::remove(model.path(), none);
  csv_ = csv_head;
  if (!options_.after.empty()) begin_after(options_.after);
}

void run_folder::begin_after(const fs::path& other) {
  const std::vector<fs::path> kept = checkpoints(other);
  if (kept.empty()) refuse(other, "holds no run to go on after");
  const tensor_file last = load_safetensors(kept.back());
  if (entry(last, "stage", kept.back()) != "run")
    refuse(other, "holds an unfinished run: there is nothing to go on after");
  finished_ = lines_of(entry(last, "finished", kept.back()));
  results_ = results_of(entry(last, "results", kept.back()), kept.back().string());
  (void)read_timing(other);
  results_.seconds = 0;
  for (const auto& file : fs::directory_iterator(other / "models"))
    save_file(folder_ / "models" / file.path().filename(), read_whole(file.path(), std::uint64_t{1} << 40));
}

fs::path run_folder::newest() const { return saved_ > 0 ? checkpoint_name(folder_, saved_) : fs::path{}; }

void run_folder::open_checkpoint(const fs::path& path) {
  const tensor_file file = load_safetensors(path);
  if (entry(file, "format", path) != format)
    refuse(path, "no checkpoint that this program can read: its format is `" + entry(file, "format", path) + "`");
  require_same_settings(file, path, folder_, options_.identity, ", another --out, or --anew in place of --resume");
  saved_ = whole(file, "number", path);
  if (checkpoint_name(folder_, saved_) != path) refuse(path, "was renamed: it is number " + std::to_string(saved_));
  stage_ = entry(file, "stage", path);
  at_ = {whole(file, "steps", path), whole(file, "tokens", path)};
  finished_ = lines_of(entry(file, "finished", path));
  results_ = results_of(entry(file, "results", path), path.string());
  csv_size_ = static_cast<std::uint64_t>(whole(file, "metrics.csv", path));
  jsonl_size_ = static_cast<std::uint64_t>(whole(file, "metrics.jsonl", path));
  for (const tensor& t : file.tensors) {
    const auto dot = t.name.find('.');
    saved_part& part = parts_[t.name.substr(0, dot)];
    const std::string which = dot == std::string::npos ? "" : t.name.substr(dot + 1);
    (which == "first_moment"    ? part.first_moment
     : which == "second_moment" ? part.second_moment
                                : part.values) = floats(t, path.string());
  }
  for (auto& [name, part] : parts_) {
    part.steps = whole(file, name + ".steps", path);
    if (const auto it = file.metadata.find(name + ".numbers"); it != file.metadata.end())
      part.numbers = numbers_of(it->second);
  }
  cut(folder_ / "metrics.csv", csv_size_);
  cut(folder_ / "metrics.jsonl", jsonl_size_);

  seconds_before_ = results_.seconds = read_timing(folder_);
}

/// What the clock said goes into the results. That it cannot be read is not worth an error.
double run_folder::read_timing(const fs::path& of) {
  std::error_code none;
  const fs::path timing = of / "timing.json";
  if (!fs::exists(timing, none)) return 0;
  const auto json = ordered_json::parse(as_text(read_whole(timing, std::uint64_t{1} << 26)), nullptr, false);
  if (!json.is_object()) return 0;
  for (curve_point& p : results_.points) {
    const std::string key = p.method + "/" + std::to_string(p.iteration);
    if (json.contains("points") && json["points"].contains(key)) p.seconds = json["points"][key];
  }
  if (json.contains("peak_bytes") && json["peak_bytes"].is_object())
    for (const auto& [method, bytes] : json["peak_bytes"].items())
      if (bytes.is_number()) results_.peaks[method] = bytes;
  if (json.contains("memory"))
    for (const auto& [method, memory] : memory_of(json["memory"].dump())) results_.memory[method] = memory;
  return json.value("seconds", 0.0);
}

bool run_folder::finished(const std::string& stage) const {
  return std::find(finished_.begin(), finished_.end(), stage) != finished_.end();
}

stage_position run_folder::restore(const std::string& stage, const std::vector<trained_part>& parts) {
  if (stage_ != stage) return {};
  for (const trained_part& part : parts) {
    const auto it = parts_.find(part.name);
    if (it == parts_.end() || it->second.values.size() != part.values.size())
      refuse(newest(), "the tensor `" + part.name + "` is missing or of another size");
    if (it->second.numbers.size() != part.numbers.size())
      refuse(newest(), "`" + part.name + ".numbers` holds " + std::to_string(it->second.numbers.size()) +
                           " numbers, wanted " + std::to_string(part.numbers.size()));
    for (std::size_t i = 0; i < part.numbers.size(); ++i) *part.numbers[i] = it->second.numbers[i];
    std::copy(it->second.values.begin(), it->second.values.end(), part.values.begin());
    part.optimiser->steps = it->second.steps;
    part.optimiser->first_moment = it->second.first_moment;
    part.optimiser->second_moment = it->second.second_moment;
  }
  parts_.clear();
  return at_;
}

void run_folder::save(const std::string& stage, stage_position at, const std::vector<trained_part>& parts,
                      const run_results& results, double seconds) {
  write_checkpoint(stage, at, parts, results, seconds);
}
void run_folder::finish(const std::string& stage, const run_results& results, double seconds) {
  finished_.push_back(stage);
  write_checkpoint("", {}, {}, results, seconds);
}
void run_folder::finish_run(const run_results& results, double seconds) {
  if (stage_ == "run") return;
  write_checkpoint("run", {}, {}, results, seconds);
}

void run_folder::write_checkpoint(const std::string& stage, stage_position at, const std::vector<trained_part>& parts,
                                  const run_results& results, double seconds) {
  flush_metrics();
  tensor_file file;
  file.metadata = {{"format", format},
                   {"settings", join(options_.identity)},
                   {"number", std::to_string(saved_ + 1)},
                   {"stage", stage},
                   {"steps", std::to_string(at.steps)},
                   {"tokens", std::to_string(at.tokens)},
                   {"finished", join(finished_)},
                   {"results", to_text(results)},
                   {"metrics.csv", std::to_string(csv_size_)},
                   {"metrics.jsonl", std::to_string(jsonl_size_)}};
  for (const trained_part& part : parts) {
    const auto add = [&](const std::string& name, std::span<const float> values) {
      file.tensors.push_back(float_tensor(name, {static_cast<std::int64_t>(values.size())}, values));
    };
    add(part.name, part.values);
    add(part.name + ".first_moment", part.optimiser->first_moment);
    add(part.name + ".second_moment", part.optimiser->second_moment);
    file.metadata[part.name + ".steps"] = std::to_string(part.optimiser->steps);
    if (!part.numbers.empty()) file.metadata[part.name + ".numbers"] = exact(part.numbers);
  }
  save_safetensors(checkpoint_name(folder_, saved_ + 1), file);
  ++saved_;
  stage_ = stage;
  at_ = at;
  write_timing(results, seconds);
  drop_old_checkpoints();
}

void run_folder::drop_old_checkpoints() const {
  const std::vector<fs::path> kept = checkpoints(folder_);
  std::error_code none;
  for (std::size_t i = 0; i + static_cast<std::size_t>(options_.keep) < kept.size(); ++i) fs::remove(kept[i], none);
}

void run_folder::write_timing(const run_results& results, double seconds) const {
  ordered_json points = ordered_json::object();
  for (const curve_point& p : results.points) points[p.method + "/" + std::to_string(p.iteration)] = p.seconds;
  const ordered_json all = {{"seconds", seconds},
                            {"points", std::move(points)},
                            {"peak_bytes", results.peaks},
                            {"memory", ordered_json::parse(memory_text(results.memory))}};
  save_file(folder_ / "timing.json", all.dump(1) + "\n");
}

void run_folder::flush_metrics() {
  append(folder_ / "metrics.csv", csv_);
  append(folder_ / "metrics.jsonl", jsonl_);
  csv_size_ += csv_.size();
  jsonl_size_ += jsonl_.size();
  csv_.clear();
  jsonl_.clear();
}

void run_folder::log(const std::string& stage, std::int64_t step, const rlhf::statistics& metrics) {
  std::string line = "{\"stage\":\"" + stage + "\",\"step\":" + std::to_string(step);
  for (int i = 0; i < metrics.size; ++i) {
    const std::string name = metrics.entries[i].name;
    const double value = metrics[metrics.entries[i].name];
    const bool finite = std::isfinite(value);
    csv_ += stage + ',' + std::to_string(step) + ',' + name + ',' + printed(value) + '\n';
    line += ",\"" + name + "\":" + (finite ? printed(value) : "null");
    const bool vital = name == "loss" || name.ends_with("grad_norm") || name.rfind("loss/", 0) == 0;
    if (vital && !finite) {
      jsonl_ += line + "}\n";
      flush_metrics();
      throw diverged(stage + ": at step " + std::to_string(step) + " " + name + " is " + printed(value) +
                     "; the last good checkpoint is " +
                     (saved_ > 0 ? newest().string() : "none: there was no checkpoint yet"));
    }
  }
  jsonl_ += line + "}\n";
}

}  // namespace align
