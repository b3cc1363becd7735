// What segments have changed of a graph, as one search sees it. The overlay (ops/core/live/overlay.h) owns
// what these views point at.
//
// One thread writes while others read. Everything carries the number of the segment that wrote it, its epoch,
// and a view ignores what is newer than its own epoch: a search sees the state that it began with. A view is
// made after its epoch was written, and handed to readers through a lock, so what it may see is complete.
#ifndef NANN_OPS_CORE_INDEX_CHANGES_H_
#define NANN_OPS_CORE_INDEX_CHANGES_H_

#include <atomic>
#include <cstdint>

#include "absl/types/span.h"

namespace nann {

// A neighbour list that a segment has set; its values follow it in memory. Never changes once it is
// published.
struct ListVersion {
  uint32_t epoch;
  int32_t size;
  const ListVersion* before;  // Of the same position; null: the base's list.

  absl::Span<const int32_t> values() const {
    return absl::Span<const int32_t>(reinterpret_cast<const int32_t*>(this + 1), size);
  }
};

// The lists of one level.
struct ChangedLists {
  const std::atomic<const ListVersion*>* newest = nullptr;  // [capacity], by position; null: none was set.
  uint32_t epoch = 0;

  bool any() const { return newest != nullptr; }

  // The list of a position, null where the base's is valid.
  const ListVersion* Find(int32_t position) const {
    const ListVersion* list = newest[position].load(std::memory_order_acquire);
    while (list != nullptr && list->epoch > epoch) list = list->before;
    return list;
  }

  void FetchAddress(int32_t position) const { __builtin_prefetch(&newest[position]); }

  // Starts to fetch the newest list of a position; false where there is none. The list is not read, so its
  // length is not known: four cache lines are as long as most lists.
  bool FetchNewest(int32_t position) const {
    constexpr int64_t kLines = 4, kLineBytes = 64;
    const ListVersion* list = newest[position].load(std::memory_order_relaxed);
    if (list == nullptr) return false;
    for (int64_t i = 0; i < kLines; ++i) {
      __builtin_prefetch(reinterpret_cast<const char*>(list) + i * kLineBytes);
    }
    return true;
  }
};

// Deleted positions.
struct Deletions {
  const std::atomic<uint32_t>* epochs = nullptr;  // [capacity], 0: live. Null: no position is deleted.
  uint32_t epoch = 0;
  int32_t count = 0;  // How many positions are deleted.

  bool any() const { return epochs != nullptr; }

  // Whether a position is deleted; any() must hold. What this view may see was written before it was made, so
  // no order is needed.
  bool Contains(int32_t position) const {
    const uint32_t deleted = epochs[position].load(std::memory_order_relaxed);
    return deleted != 0 && deleted <= epoch;
  }
};

// The positions of new items by their id: a hash table with open addressing, at most half full.
struct NewItems {
  const std::atomic<int32_t>* slots = nullptr;  // [mask + 1]: 1 + the newest position of an id; 0: empty.
  const int32_t* before = nullptr;              // [new items]: 1 + the former new position of its id, or 0.
  const int64_t* item_ids = nullptr;            // [capacity], by position.
  int64_t mask = 0;
  int32_t base_items = 0;

  // The slot of an id, or the empty one in which it belongs.
  int64_t SlotOf(int64_t id) const {
    // Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4): near ids spread evenly.
    int64_t slot = static_cast<int64_t>(static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (true) {
      const int32_t found = slots[slot].load(std::memory_order_acquire);
      if (found == 0 || item_ids[found - 1] == id) return slot;
      slot = (slot + 1) & mask;
    }
  }

  // The newest position below `num_items` that a segment gave to an item; -1 where there is none.
  int32_t Find(int64_t id, int32_t num_items) const {
    if (slots == nullptr) return -1;
    int32_t position = slots[SlotOf(id)].load(std::memory_order_acquire) - 1;
    while (position >= num_items) position = before[position - base_items] - 1;
    return position;
  }
};

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_CHANGES_H_
