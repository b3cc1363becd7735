// An index that follows the segments of its export: docs/live.md#what-a-server-does.
#ifndef NANN_OPS_KERNELS_LIVE_LIVE_INDEX_H_
#define NANN_OPS_KERNELS_LIVE_LIVE_INDEX_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../index/index.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "segment_folder.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

// Owns the overlay and its one writer. Not thread-safe; the indexes that it hands out are.
class LiveIndex {
 public:
  // Loads the base and applies the segments that are there. Errors are those of Index::Load: a segment that
  // cannot be applied is no error.
  static absl::StatusOr<std::unique_ptr<LiveIndex>> Load(tensorflow::Env* env, const IndexFiles& files,
                                                         bool prefault);
  ~LiveIndex();

  // The index as of the last segment that was applied.
  const std::shared_ptr<const Index>& index() const { return index_; }

  // Applies the next segments of the folder, at most `limit`: they become visible together. Where the last
  // applied one is gone, loads the base anew and applies those that are there: what was handed out before
  // stays as it is. Returns whether index() has changed; then there may be more to apply.
  bool Poll(int limit = kSegmentsAtOnce);

 private:
  // Few enough that nobody waits for them, and many enough that a server which is behind catches up.
  static constexpr int kSegmentsAtOnce = 16;

  // A file that could not be applied to a state, so that it is read and reported once.
  struct Refusal {
    uint32_t applied = 0;
    uint32_t number = 0;
    FileIdentity file;
    bool operator==(const Refusal& other) const {
      return applied == other.applied && number == other.number && file == other.file;
    }
  };

  LiveIndex(tensorflow::Env* env, const IndexFiles& files, bool prefault)
      : env_(env), files_(files), prefault_(prefault), folder_(env, SegmentFolder::PathFor(files.item_ids)) {}

  // Sets the base and an empty overlay over it.
  absl::Status LoadBase();
  // Whether the segment was applied; reports it when not.
  bool Apply(uint32_t number);
  absl::Status ApplyFile(const std::string& path);
  void CountItems(int64_t items);

  tensorflow::Env* const env_;
  const IndexFiles files_;
  const bool prefault_;
  SegmentFolder folder_;
  std::shared_ptr<const Index> base_;
  std::shared_ptr<Overlay> overlay_;
  std::shared_ptr<const Index> index_;
  Refusal refused_;
  int64_t items_counted_ = 0;  // In the metric.
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_LIVE_LIVE_INDEX_H_
