// The folder of an export's segments: docs/live.md#segment-files.
#ifndef NANN_OPS_KERNELS_LIVE_SEGMENT_FOLDER_H_
#define NANN_OPS_KERNELS_LIVE_SEGMENT_FOLDER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tensorflow/core/platform/env.h"

namespace nann {

// What tells one content of a path from another.
struct FileIdentity {
  uint64_t inode = 0;
  int64_t bytes = -1;  // -1: there is no file.
  int64_t changed_nanos = 0;

  bool operator==(const FileIdentity& other) const {
    return inode == other.inode && bytes == other.bytes && changed_nanos == other.changed_nanos;
  }
};

// Lists a folder often and cheaply. Not thread-safe.
class SegmentFolder {
 public:
  SegmentFolder(tensorflow::Env* env, std::string path) : env_(env), path_(std::move(path)) {}

  // The folder that belongs to the export whose asset lies at `asset`: for MODELS/nann/1/assets/item_ids.npy
  // it is MODELS/nann/updates/1.
  static std::string PathFor(const std::string& asset);

  struct Listing {
    std::vector<uint32_t> numbers;  // Of the segments, ascending.
    bool any_file = false;          // Whether the folder has files, whatever their names.
  };

  // What the folder has. Nothing when it cannot be listed, as when it does not exist, or when its time of
  // change says that it is as it was.
  std::optional<Listing> ListIfChanged();

  // The next ListIfChanged lists the folder in any case.
  void Forget() { listed_ = false; }

  std::string PathOf(uint32_t number) const;

  FileIdentity IdentityOf(uint32_t number) const;

  // Whether the file system says that there is no such file; false where it cannot tell.
  bool IsGone(uint32_t number) const;

 private:
  tensorflow::Env* const env_;
  const std::string path_;
  bool listed_ = false;
  int64_t changed_nanos_ = 0;   // Time of the folder's change before it was listed last,
  uint64_t listed_micros_ = 0;  // and the time of that.
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_LIVE_SEGMENT_FOLDER_H_
