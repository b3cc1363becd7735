// Which items a search may return.
#ifndef NANN_OPS_CORE_WALK_ITEM_SELECTOR_H_
#define NANN_OPS_CORE_WALK_ITEM_SELECTOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../filter/row_filter.h"
#include "../index/graph.h"
#include "absl/types/span.h"
#include "top_k.h"
#include "visited_set.h"

namespace nann {

// Selects every live item that a filter passes and that is not excluded. Set anew for each search; keeps its
// memory, a bit per position, once a search has excluded an item. Not thread-safe.
class ItemSelector {
 public:
  // For graphs of up to `capacity` positions.
  explicit ItemSelector(int32_t capacity) : capacity_(capacity) {}

  // `graph` and `filter` must live until the next Reset. `filter`: null lets every item pass; deleted items
  // pass none that has a bitmap, as MakeStateFilters makes them. `excluded`: positions of live items that are
  // not selected; one may stand there twice.
  void Reset(const Graph* graph, const RowFilter* filter, absl::Span<const int32_t> excluded);

  // Whether there is a filter that not every item is known to pass.
  bool filters() const { return filter_ != nullptr; }
  bool SelectsAll() const { return filter_ == nullptr && excluded() == 0 && !deletions_.any(); }
  bool Selects(int32_t position) const { return Passes(position) && IsLeftIn(position); }

  // How many items are excluded.
  int64_t excluded() const { return excluded_ == nullptr ? 0 : excluded_->size(); }
  // How many live items the filter passes, excluded ones too; kUnknown where nobody has counted them.
  int64_t passing() const { return passing_; }
  // How many items are selected; kUnknown where `passing` is.
  int64_t count() const { return count_; }
  static constexpr int64_t kUnknown = -1;

  // Removes what is not selected.
  void Keep(std::vector<Candidate>* candidates) const;

  // Appends the selected positions in [begin, end), ascending.
  void Append(int32_t begin, int32_t end, std::vector<int32_t>* positions) const;

 private:
  void AppendPassing(int32_t begin, int32_t end, std::vector<int32_t>* positions) const;
  // Whether the item is neither deleted nor excluded.
  bool IsLeftIn(int32_t position) const {
    if (deletions_.any() && deletions_.Contains(position)) return false;
    return excluded() == 0 || !excluded_->Contains(position);
  }
  bool Passes(int32_t position) const {
    if (filter_ == nullptr) return true;
    if (position >= filter_->num_rows()) return false;
    if (bitmap_.empty()) return filter_->Passes(position);
    return (bitmap_[position >> 6] & uint64_t{1} << (position & 63)) != 0;
  }

  const int32_t capacity_;
  const RowFilter* filter_ = nullptr;  // Null: every item passes.
  absl::Span<const uint64_t> bitmap_;  // Of the filter; empty where it has none.
  Deletions deletions_;
  int64_t passing_ = 0;
  int64_t count_ = 0;
  std::unique_ptr<VisitedSet> excluded_;  // Made by the first search that excludes items.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_ITEM_SELECTOR_H_
