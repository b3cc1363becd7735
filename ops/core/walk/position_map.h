// Consecutive numbers for the positions that a walk meets.
#ifndef NANN_OPS_CORE_WALK_POSITION_MAP_H_
#define NANN_OPS_CORE_WALK_POSITION_MAP_H_

#include <cstdint>
#include <vector>

namespace nann {

// A hash table with open addressing, at most half full. A walk meets some thousand of the positions, so it
// stays in the processor's nearest caches, where an array over all positions would not. Positions are at
// least 0. Not thread-safe.
class PositionMap {
 public:
  void Clear() {
    slots_.assign(slots_.empty() ? kFirstSlots : slots_.size(), Slot{kNone, 0});
    size_ = 0;
  }

  int32_t size() const { return size_; }

  // The number of `position`: the one that it got when it was first asked for, or the next one, size().
  // Clear comes first.
  int32_t NumberOf(int32_t position) {
    Slot* slot = Find(position);
    if (slot->position == position) return slot->number;
    *slot = {position, size_++};
    if (2 * static_cast<size_t>(size_) > slots_.size()) Grow();
    return size_ - 1;
  }

 private:
  struct Slot {
    int32_t position;
    int32_t number;
  };
  static constexpr int32_t kNone = -1;
  static constexpr size_t kFirstSlots = 4096;  // Enough for most walks; a power of two.

  // The slot of `position`, or the empty one in which it belongs.
  Slot* Find(int32_t position) {
    const size_t mask = slots_.size() - 1;
    // Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4): near positions spread evenly.
    size_t at = (static_cast<uint64_t>(position) * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (slots_[at].position != position && slots_[at].position != kNone) at = (at + 1) & mask;
    return &slots_[at];
  }

  void Grow() {
    std::vector<Slot> old(2 * slots_.size(), Slot{kNone, 0});
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.position != kNone) *Find(slot.position) = slot;
    }
  }

  std::vector<Slot> slots_;
  int32_t size_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_POSITION_MAP_H_
