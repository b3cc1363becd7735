// The neighbour lists that segments have set on one level.
#ifndef NANN_OPS_CORE_LIVE_LIST_STORE_H_
#define NANN_OPS_CORE_LIVE_LIST_STORE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "../index/changes.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "extended_array.h"

namespace nann {

// The newest list of each position, and for those who still read an older state the lists before it.
//
// One thread at a time calls Set and Recycle; any thread reads views. The memory of a replaced list is used
// again once every view is at least as new as its replacement, so that memory is bounded by the lists of all
// positions and not by the number of changes. Memory is never given back before the store is destroyed.
class ListStore {
 public:
  static absl::StatusOr<std::unique_ptr<ListStore>> Create(int32_t capacity);

  // Sets the list of a position below capacity. `epoch` never decreases from call to call.
  void Set(int32_t position, absl::Span<const int32_t> values, uint32_t epoch);

  // Makes lists that were replaced at or before `oldest` usable again: no view of an older epoch is left, and
  // none will be made.
  void Recycle(uint32_t oldest);

  // The lists as of `epoch`: none, which costs readers nothing, until the first list is set, unless
  // `new_positions` exist, whose lists the base does not have.
  ChangedLists View(uint32_t epoch, bool new_positions) const {
    if (!any_ && !new_positions) return {};
    return {reinterpret_cast<const std::atomic<const ListVersion*>*>(newest_.data()), epoch};
  }

  // Memory in bytes, without the addresses.
  int64_t bytes() const { return static_cast<int64_t>(chunks_.size() * kChunkBytes) + large_bytes_; }

 private:
  struct Replaced {
    uint32_t epoch;  // Of the list that replaced it.
    ListVersion* list;
  };

  // Lists are allocated in steps of a cache line and cut from chunks.
  static constexpr size_t kLineBytes = 64;
  static constexpr size_t kChunkBytes = 1 << 20;

  explicit ListStore(ExtendedArray newest) : newest_(std::move(newest)) {}

  ListVersion* Allocate(int32_t size);
  static size_t BytesFor(int32_t size) {
    const size_t bytes = sizeof(ListVersion) + size * sizeof(int32_t);
    return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
  }
  std::atomic<const ListVersion*>* newest() const {
    return reinterpret_cast<std::atomic<const ListVersion*>*>(newest_.data());
  }

  ExtendedArray newest_;  // [capacity] addresses; zeros are null.
  bool any_ = false;
  std::vector<std::unique_ptr<char[]>> chunks_;
  size_t chunk_used_ = kChunkBytes;
  std::vector<std::unique_ptr<char[]>> large_;  // Lists that are longer than a chunk.
  int64_t large_bytes_ = 0;
  std::deque<Replaced> replaced_;                     // By epoch.
  std::map<size_t, std::vector<ListVersion*>> free_;  // By their size in bytes.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_LIST_STORE_H_
