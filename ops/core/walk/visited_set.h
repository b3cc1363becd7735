// The nodes that a walk has met on one level.
#ifndef NANN_OPS_CORE_WALK_VISITED_SET_H_
#define NANN_OPS_CORE_WALK_VISITED_SET_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace nann {

// One bit per node, and a list of the nodes that were inserted. The list makes clearing as cheap as the
// inserting was, whatever N is, so that one set serves many searches. Positions are in [0, num_items); the
// caller has checked them. Not thread-safe; copies are independent.
class VisitedSet {
 public:
  explicit VisitedSet(int32_t num_items) : words_((static_cast<int64_t>(num_items) + 63) / 64) {}

  bool Contains(int32_t position) const {
    return (words_[position >> 6] & uint64_t{1} << (position & 63)) != 0;
  }

  // Returns whether the position was new.
  bool Insert(int32_t position) {
    uint64_t& word = words_[position >> 6];
    const uint64_t bit = uint64_t{1} << (position & 63);
    if (word & bit) return false;
    word |= bit;
    inserted_.push_back(position);
    return true;
  }

  // Inserts positions and appends those that were new to `fresh`, each once, in their order. It has no branch
  // on newness, because the processor cannot predict whether a neighbour was met before.
  void InsertAll(absl::Span<const int32_t> positions, std::vector<int32_t>* fresh) {
    const size_t before = fresh->size();
    fresh->resize(before + positions.size());
    int32_t* to = fresh->data() + before;
    for (int32_t position : positions) {
      uint64_t& word = words_[position >> 6];
      const uint64_t bit = uint64_t{1} << (position & 63);
      *to = position;
      to += (word & bit) == 0 ? 1 : 0;
      word |= bit;
    }
    fresh->resize(to - fresh->data());
    inserted_.insert(inserted_.end(), fresh->begin() + before, fresh->end());
  }

  // Makes room for positions up to num_items - 1.
  void Grow(int32_t num_items) {
    const size_t words = (static_cast<size_t>(num_items) + 63) / 64;
    if (words > words_.size()) words_.resize(words);
  }

  void Clear() {
    for (int32_t position : inserted_) words_[position >> 6] = 0;
    inserted_.clear();
  }

  int64_t size() const { return static_cast<int64_t>(inserted_.size()); }

 private:
  std::vector<uint64_t> words_;
  std::vector<int32_t> inserted_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_VISITED_SET_H_
