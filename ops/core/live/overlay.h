// What a server holds of the changes to an index: docs/live.md.
#ifndef NANN_OPS_CORE_LIVE_OVERLAY_H_
#define NANN_OPS_CORE_LIVE_OVERLAY_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "../index/graph.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "extended_array.h"
#include "list_store.h"
#include "overlay_attributes.h"
#include "segment.h"

namespace nann {

// The arrays behind an overlay. They have room for schema.capacity positions; their first N rows are the
// base's. All must outlive the overlay.
struct OverlayArrays {
  const Graph* base = nullptr;
  int64_t* item_ids = nullptr;
  std::vector<char*> tables;  // In the order of the schema's.
};

// Threads: one thread at a time calls Apply; any thread makes and reads states. A state is handed to readers
// through a lock (std::shared_ptr behind a mutex). Readers and Apply never wait for each other, but for the
// counter of states.
class Overlay : public std::enable_shared_from_this<Overlay> {
 public:
  static absl::StatusOr<std::shared_ptr<Overlay>> Create(SegmentSchema schema, const OverlayArrays& arrays);

  // What a search sees: `graph`, as long as `hold` lives. Later segments do not change it.
  struct State {
    Graph graph;
    uint32_t segment = 0;              // The last one that it has; 0: the base alone.
    AttributeChunks attributes;        // Of the new items.
    std::shared_ptr<const void> hold;  // Keeps the overlay, and what the state sees, as they are.
  };

  // Checks the segment in the file `bytes`, whose first byte is aligned to 64 bytes, and applies all of it
  // or, with an error that begins with `path`, nothing.
  absl::Status Apply(const std::string& path, absl::string_view bytes);

  // The state after the last segment. To be called by the thread that calls Apply.
  State state();

  uint32_t segment() const { return segment_; }
  int64_t published_micros() const { return published_micros_; }
  int32_t new_items() const { return num_items_ - base_items_; }
  // Memory of the lists, in bytes.
  int64_t list_bytes() const;

 private:
  Overlay(SegmentSchema schema, const OverlayArrays& arrays)
      : schema_(std::move(schema)), arrays_(arrays), base_items_(arrays.base->num_items()) {
    num_items_ = base_items_;
  }

  absl::Status Reserve();
  // Whether the segment fits the state that it is to be applied to.
  absl::Status CheckFollows(const Segment& segment) const;
  absl::Status CheckItems(const Segment& segment) const;
  void WriteItems(const Segment& segment);
  void WriteLists(const Segment& segment);
  Graph CurrentGraph() const;
  // The epoch of the oldest state that is held.
  uint32_t OldestHeld();
  void Release(uint32_t epoch);

  NewItems NewItemsView() const;
  std::atomic<int32_t>* slots() const { return reinterpret_cast<std::atomic<int32_t>*>(slots_.data()); }
  std::atomic<uint32_t>* deletions() const {
    return reinterpret_cast<std::atomic<uint32_t>*>(deletions_.data());
  }

  const SegmentSchema schema_;
  const OverlayArrays arrays_;
  const int32_t base_items_;

  ExtendedArray slots_;  // Of NewItems.
  int64_t slot_mask_ = 0;
  ExtendedArray before_;                           // Of NewItems.
  ExtendedArray deletions_;                        // Of Deletions.
  std::vector<std::unique_ptr<ListStore>> lists_;  // By level.
  OverlayAttributes attributes_;

  int32_t num_items_ = 0;
  uint32_t segment_ = 0;
  int32_t num_deleted_ = 0;
  int64_t published_micros_ = 0;

  std::mutex mutex_;
  std::multiset<uint32_t> held_;  // Epochs of the states that live; guarded by mutex_.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_OVERLAY_H_
