// Which items a search may return.
#ifndef NANN_OPS_CORE_WALK_ITEM_SELECTOR_H_
#define NANN_OPS_CORE_WALK_ITEM_SELECTOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../index/graph.h"
#include "absl/types/span.h"
#include "top_k.h"
#include "visited_set.h"

namespace nann {

// Selects every live item that is not excluded. Set anew for each search; keeps its memory, a bit per
// position, once a search has excluded an item. Not thread-safe.
class ItemSelector {
 public:
  // For graphs of up to `capacity` positions.
  explicit ItemSelector(int32_t capacity) : capacity_(capacity) {}

  // `graph` must live until the next Reset. Arrays of the base alone have graph->num_base_items() rows:
  // positions behind them are new items. `excluded`: positions of live items that are not selected; one may
  // stand there twice.
  void Reset(const Graph* graph, absl::Span<const int32_t> excluded);

  bool SelectsAll() const { return excluded() == 0 && !deletions_.any(); }
  bool Selects(int32_t position) const {
    if (deletions_.any() && deletions_.Contains(position)) return false;
    return excluded() == 0 || !excluded_->Contains(position);
  }

  // How many items are excluded.
  int64_t excluded() const { return excluded_ == nullptr ? 0 : excluded_->size(); }
  // How many items are selected; kUnknown where nobody has counted them.
  int64_t count() const { return count_; }
  static constexpr int64_t kUnknown = -1;

  // Removes what is not selected.
  void Keep(std::vector<Candidate>* candidates) const;

  // Appends the selected positions in [begin, end), ascending.
  void Append(int32_t begin, int32_t end, std::vector<int32_t>* positions) const;

 private:
  const int32_t capacity_;
  Deletions deletions_;
  int64_t count_ = 0;
  std::unique_ptr<VisitedSet> excluded_;  // Made by the first search that excludes items.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_ITEM_SELECTOR_H_
