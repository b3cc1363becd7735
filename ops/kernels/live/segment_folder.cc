#include "segment_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/platform/file_statistics.h"

namespace nann {
namespace {

constexpr absl::string_view kSuffix = ".segment";
constexpr size_t kDigits = 10;

// A file system's clock may stand still for some milliseconds, and that of another machine may be off: a
// folder that has changed this recently is listed again although its time is the same.
constexpr int64_t kSettledMicros = 2'000'000;

// Some file systems keep no time for folders: each is listed this often.
constexpr int64_t kLongestMicros = 1'000'000;

// The number in the name of a segment; 0 for other names.
uint32_t NumberOf(absl::string_view name) {
  if (name.size() != kDigits + kSuffix.size() || !absl::EndsWith(name, kSuffix)) return 0;
  uint64_t number = 0;
  for (char digit : name.substr(0, kDigits)) {
    if (digit < '0' || digit > '9') return 0;
    number = 10 * number + static_cast<uint64_t>(digit - '0');
  }
  return number <= UINT32_MAX ? static_cast<uint32_t>(number) : 0;
}

// Everything before the last slash, and everything behind it.
std::pair<std::string, std::string> SplitPath(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace

std::string SegmentFolder::PathFor(const std::string& asset) {
  const std::string version = SplitPath(SplitPath(asset).first).first;
  const auto [base, name] = SplitPath(version);
  const std::string parent = version.find('/') == std::string::npos ? "" : absl::StrCat(base, "/");
  return absl::StrCat(parent, "updates/", name);
}

std::string SegmentFolder::PathOf(uint32_t number) const {
  char name[kDigits + 1];
  std::snprintf(name, sizeof(name), "%010u", number);
  return absl::StrCat(path_, "/", name, kSuffix);
}

FileIdentity SegmentFolder::IdentityOf(uint32_t number) const {
  const std::string path = PathOf(number);
  // TensorFlow's times are whole seconds, and a file may be replaced within one.
  struct stat local;
  if (stat(path.c_str(), &local) == 0) {
    constexpr int64_t kNanos = 1'000'000'000;
    return {local.st_ino, local.st_size, local.st_mtim.tv_sec * kNanos + local.st_mtim.tv_nsec};
  }
  tensorflow::FileStatistics remote;  // Of an object store.
  if (!env_->Stat(path, &remote).ok()) return {};
  return {0, remote.length, remote.mtime_nsec};
}

bool SegmentFolder::IsGone(uint32_t number) const {
  tensorflow::FileStatistics status;
  return absl::IsNotFound(env_->Stat(PathOf(number), &status));
}

std::optional<SegmentFolder::Listing> SegmentFolder::ListIfChanged() {
  tensorflow::FileStatistics status;
  if (!env_->Stat(path_, &status).ok()) return std::nullopt;
  const uint64_t now = env_->NowMicros();
  const int64_t since_change = static_cast<int64_t>(now) - status.mtime_nsec / 1000;
  const int64_t since_list = static_cast<int64_t>(now - listed_micros_);
  const bool settled = status.mtime_nsec == changed_nanos_ && since_change - since_list > kSettledMicros;
  if (listed_ && settled && since_list < kLongestMicros) return std::nullopt;
  std::vector<std::string> names;
  if (!env_->GetChildren(path_, &names).ok()) return std::nullopt;
  listed_ = true;
  changed_nanos_ = status.mtime_nsec;
  listed_micros_ = now;
  Listing listing;
  listing.any_file = !names.empty();
  for (const std::string& name : names) {
    if (const uint32_t number = NumberOf(name); number > 0) listing.numbers.push_back(number);
  }
  std::sort(listing.numbers.begin(), listing.numbers.end());
  return listing;
}

}  // namespace nann
