// The best candidates that an adaptive walk has met, and which of them were expanded on its level: `W` of
// Algorithm 2 in the HNSW paper (arXiv 1603.09320).
#ifndef NANN_OPS_CORE_WALK_CANDIDATE_POOL_H_
#define NANN_OPS_CORE_WALK_CANDIDATE_POOL_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "item_selector.h"
#include "top_k.h"

namespace nann {

// Where it is told of deleted items, sizes and widths count live ones, and deleted ones are kept and expanded
// beside them, as LiveCount says.
//
// Invariants: at most `size` live entries, best first; every entry before `first_unexpanded_` was expanded.
// Keeps its memory between levels and searches. Not thread-safe.
class CandidatePool {
 public:
  // Empties the pool, which will keep the best `size` candidates. `item_ids` [N] breaks ties; it and
  // `deletions` must live until the next Reset.
  void Reset(int64_t size, absl::Span<const int64_t> item_ids, const Deletions& deletions = {});

  // Begins a level: no entry is expanded yet, and only entries among the best `width` will be.
  void BeginLevel(int64_t width);

  // Adds `candidates`, which the pool has not met before, and keeps the best `size` of all. Reorders
  // `candidates`.
  void Merge(std::vector<Candidate>* candidates);

  // Marks up to `count` entries as expanded, the best of those among the best `width` that were not, and sets
  // `candidates` to them. Returns false when there was none.
  bool TakeUnexpanded(int64_t count, std::vector<Candidate>* candidates);

  // As above, for a pool that was not told of deleted items, but a level whose best `width` are all expanded
  // goes on with a larger width as long as fewer than `wanted` of these are selected.
  bool TakeUnexpanded(int64_t count, int64_t wanted, const ItemSelector& selector,
                      std::vector<Candidate>* candidates);

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

  // The entry of this rank; 0 is the best.
  const Candidate& operator[](int64_t rank) const { return entries_[rank].candidate; }

  // Sets `candidates` to all entries, best first.
  void CopyTo(std::vector<Candidate>* candidates) const;

 private:
  struct Entry {
    Candidate candidate;
    bool expanded;
    bool deleted;
  };

  Entry NewEntry(const Candidate& candidate) const {
    return {candidate, false, deletions_.any() && deletions_.Contains(candidate.position)};
  }
  int64_t LiveEntries() const;
  // The number of entries from the best on that have the best `width_` live ones.
  size_t EntriesOfWidth() const;

  // Widens the level, at most twofold, to where `wanted` entries are selected; false when there are no more.
  bool Widen(int64_t wanted, const ItemSelector& selector);

  int64_t width_ = 0;
  int64_t size_ = 0;
  absl::Span<const int64_t> item_ids_;
  Deletions deletions_;
  int64_t live_ = 0;            // Live entries.
  std::vector<Entry> entries_;  // Best first.
  std::vector<Entry> merged_;
  size_t first_unexpanded_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_CANDIDATE_POOL_H_
