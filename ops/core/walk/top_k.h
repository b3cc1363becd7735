// Selection of the best candidates, by the one order that the whole project uses.
#ifndef NANN_OPS_CORE_WALK_TOP_K_H_
#define NANN_OPS_CORE_WALK_TOP_K_H_

#include <cstdint>
#include <vector>

#include "../index/changes.h"
#include "absl/types/span.h"

namespace nann {

struct Candidate {
  int32_t position;
  float score;  // Never NaN: a NaN score drops the item before it becomes a candidate.
};

// The order: higher score first, then smaller item id. All implementations select the same items, whatever
// their positions are, because ids of live items are unique. A deleted item may have the id of a live one:
// then the smaller position comes first.
struct Better {
  absl::Span<const int64_t> item_ids;

  bool operator()(const Candidate& a, const Candidate& b) const {
    if (a.score != b.score) return a.score > b.score;
    const int64_t id_of_a = item_ids[a.position], id_of_b = item_ids[b.position];
    return id_of_a != id_of_b ? id_of_a < id_of_b : a.position < b.position;
  }
};

// Keeps the best `k` of `candidates`, in no particular order. `item_ids` [N] are the ids of all positions.
// O(n).
void KeepTop(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates);

// As KeepTop, best first.
void KeepTopSorted(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates);

// Counts live and deleted candidates, best first, by the rule of docs/live.md#requests: of a walk over
// deleted items, `k` candidates are the best k live ones, and deleted ones that are better than the last of
// these, at most k. Not thread-safe.
class LiveCount {
 public:
  // After `live` and `deleted` candidates that were taken.
  explicit LiveCount(int64_t k, int64_t live = 0, int64_t deleted = 0)
      : k_(k), live_(live), deleted_(deleted) {}

  // Whether the next candidate is among them.
  bool Takes(bool deleted) {
    if (live_ >= k_) return false;
    if (deleted) return deleted_++ < k_;
    ++live_;
    return true;
  }

 private:
  const int64_t k_;
  int64_t live_;
  int64_t deleted_;
};

// As KeepTopSorted, of a walk over deleted items: keeps `k` candidates as LiveCount defines them. Where
// `rest` is not null it is set to the others.
void KeepTopLive(int64_t k, absl::Span<const int64_t> item_ids, const Deletions& deletions,
                 std::vector<Candidate>* candidates, std::vector<Candidate>* rest = nullptr);

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_TOP_K_H_
