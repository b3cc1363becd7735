// Selection of the best candidates, by the one order that the whole project uses.
#ifndef NANN_OPS_CORE_WALK_TOP_K_H_
#define NANN_OPS_CORE_WALK_TOP_K_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace nann {

struct Candidate {
  int32_t position;
  float score;  // Never NaN: a NaN score drops the item before it becomes a candidate.
};

// The order: higher score first, then smaller item id. It is total, because ids are unique: all
// implementations select the same items, whatever their positions are.
struct Better {
  absl::Span<const int64_t> item_ids;

  bool operator()(const Candidate& a, const Candidate& b) const {
    if (a.score != b.score) return a.score > b.score;
    return item_ids[a.position] < item_ids[b.position];
  }
};

// Keeps the best `k` of `candidates`, in no particular order. `item_ids` [N] are the ids of all positions.
// O(n).
void KeepTop(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates);

// As KeepTop, best first.
void KeepTopSorted(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates);

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_TOP_K_H_
