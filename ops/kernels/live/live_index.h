// An index that follows the segments of its export: docs/live.md#what-a-server-does.
#ifndef NANN_OPS_KERNELS_LIVE_LIVE_INDEX_H_
#define NANN_OPS_KERNELS_LIVE_LIVE_INDEX_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
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

  // Applies the next segments of the folder, at most `limit`: they become visible together. After a rollback
  // loads the base anew and applies those that are there: index() and what was handed out before stay as they
  // are until that is done. Returns whether index() has changed; then there may be more to apply. `cancelled`
  // is asked before each file and each segment; what was begun goes on in the next call.
  bool Poll(const IsCancelled& cancelled, int limit = kSegmentsAtOnce);

 private:
  // Few enough that nobody waits for them, and many enough that a server which is behind catches up.
  static constexpr int kSegmentsAtOnce = 16;

  // A rollback is believed after so many looks in a row that miss the segment applied last: a second, which
  // is longer than a file system or a copy of the folder shows a part of it.
  static constexpr int kLooksForRollback = 10;

  // A base and the overlay over it.
  struct Layers {
    std::shared_ptr<const Index> base;
    std::shared_ptr<Overlay> overlay;
  };

  // A file that could not be applied to a state.
  struct Refusal {
    uint32_t applied = 0;
    uint32_t number = 0;
    FileIdentity file;
    bool by_content = false;  // Else it could not be read, which may change without a trace in the file.
    std::string message;

    bool IsOf(uint32_t applied_to, uint32_t of, const FileIdentity& content) const {
      return applied == applied_to && number == of && file == content;
    }
  };

  LiveIndex(tensorflow::Env* env, const IndexFiles& files)
      : env_(env), files_(files), folder_(env, SegmentFolder::PathFor(files.item_ids)) {}

  // The base and an empty overlay.
  absl::StatusOr<Layers> LoadLayers(bool prefault, const IsCancelled& cancelled) const;
  // Applies those of `numbers` that follow, at most `limit`, until one is refused. Returns how many.
  int ApplyNewer(const std::vector<uint32_t>& numbers, int limit, Overlay* overlay,
                 const IsCancelled& cancelled);
  // Whether the segment was applied; reports it when not, once.
  bool Apply(uint32_t number, Overlay* overlay);
  // Whether the segment applied last, which `listing` lacks, was removed by a rollback.
  bool IsRolledBack(const SegmentFolder::Listing& listing);
  // Goes on with second_, and changes to it once it is whole: when it has all of `numbers` up to the segment
  // applied last. Returns whether it has.
  bool RollBack(const std::vector<uint32_t>& numbers, const IsCancelled& cancelled);
  void Publish();
  void CountItems(int64_t items);

  tensorflow::Env* const env_;
  const IndexFiles files_;
  SegmentFolder folder_;
  Layers layers_;
  std::optional<Layers> second_;  // Being built after a rollback.
  std::shared_ptr<const Index> index_;
  Refusal refused_;
  int looks_without_last_ = 0;  // In a row.
  int64_t items_counted_ = 0;   // In the metric.
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_LIVE_LIVE_INDEX_H_
