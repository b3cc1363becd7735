// The best candidates seen on a level, and which of them were expanded: the `W` of the HNSW paper's Algorithm
// 2 (arXiv 1603.09320).
#ifndef NANN_OPS_CORE_WALK_CANDIDATE_POOL_H_
#define NANN_OPS_CORE_WALK_CANDIDATE_POOL_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "top_k.h"

namespace nann {

// Keeps its memory between levels and searches. Not thread-safe.
class CandidatePool {
 public:
  // Begins with the best `size` of `candidates`, none of them expanded; only the best `width` ever are.
  // `item_ids` breaks ties and must outlive the pool's use.
  void Reset(int64_t width, int64_t size, absl::Span<const int64_t> item_ids,
             std::vector<Candidate>* candidates);

  // Adds `candidates`, which may change their order, and keeps the best.
  void Merge(std::vector<Candidate>* candidates);

  // Moves up to `count` of the best `width` that were not expanded into `candidates`. Returns false when none
  // is left.
  bool TakeUnexpanded(int64_t count, std::vector<Candidate>* candidates);

  // All, best first.
  void CopyTo(std::vector<Candidate>* candidates) const;

 private:
  struct Entry {
    Candidate candidate;
    bool expanded;
  };

  int64_t width_ = 0;
  int64_t size_ = 0;
  absl::Span<const int64_t> item_ids_;
  std::vector<Entry> entries_;  // Best first.
  std::vector<Entry> merged_;
  size_t first_unexpanded_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_CANDIDATE_POOL_H_
