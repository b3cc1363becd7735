// The HNSW graph that a search walks. It is checked once, when it is made, so that the walk needs no checks.
#ifndef NANN_OPS_CORE_INDEX_GRAPH_H_
#define NANN_OPS_CORE_INDEX_GRAPH_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "changes.h"
#include "npy.h"

namespace nann {

// Neighbour lists of one level, in compressed-sparse-row form, and those that segments have set in their
// place. A view: the arrays must outlive it.
struct Level {
  absl::Span<const int32_t> neighbors;   // [edges] positions.
  absl::Span<const int64_t> row_splits;  // [N + 1]; node p owns neighbors[row_splits[p], row_splits[p + 1]).
  ChangedLists changed;

  absl::Span<const int32_t> NeighborsOf(int32_t position) const {
    if (changed.any()) {
      if (const ListVersion* list = changed.Find(position); list != nullptr) return list->values();
      if (position >= static_cast<int64_t>(row_splits.size()) - 1) return {};
    }
    return neighbors.subspan(row_splits[position], row_splits[position + 1] - row_splits[position]);
  }

  // Start to fetch what NeighborsOf(position) reads into the cache. FetchNeighbors itself reads the offsets,
  // so FetchOffsets comes first, some time before it.
  void FetchOffsets(int32_t position) const {
    if (changed.any()) changed.FetchAddress(position);
    if (IsOfBase(position)) __builtin_prefetch(&row_splits[position]);
  }
  void FetchNeighbors(int32_t position) const {
    if (changed.any() && changed.FetchNewest(position)) return;
    if (!IsOfBase(position)) return;
    constexpr int64_t kLineNeighbors = 64 / sizeof(int32_t);  // In one cache line of 64 bytes.
    const int64_t end = row_splits[position + 1];
    for (int64_t i = row_splits[position]; i < end; i += kLineNeighbors) __builtin_prefetch(&neighbors[i]);
  }

 private:
  bool IsOfBase(int32_t position) const {
    return !changed.any() || position < static_cast<int64_t>(row_splits.size()) - 1;
  }
};

// The arrays of a graph as they come from files: docs/design.md#files.
struct GraphArrays {
  NpyArray item_ids;      // int64 [N], each id once.
  NpyArray id_order;      // int32 [N], positions sorted by id.
  NpyArray enter_points;  // int32 [P].
  struct LevelArrays {
    NpyArray values;      // int32 [edges].
    NpyArray row_splits;  // int64 [N + 1].
  };
  std::vector<LevelArrays> levels;      // Level 0 first.
  std::vector<int32_t> hops_per_level;  // Level 0 first.
};

// What segments have changed of a graph.
struct GraphChanges {
  uint32_t epoch = 0;
  int32_t num_items = 0;               // Positions of the base and new ones.
  int32_t capacity = 0;                // Positions that later segments may add up to.
  absl::Span<const int64_t> item_ids;  // Of the base, and behind them of new positions.
  NewItems new_items;
  Deletions deletions;
  std::vector<ChangedLists> levels;  // Level 0 first.
};

// A view of checked arrays, which must outlive it. Thread-safe: it never changes.
//
// Invariants: every neighbour, entry point and position of the id order is in [0, num_items()); row splits
// ascend from 0 to the number of neighbours; ids of live items are unique; entry points are unique and at
// least one.
class Graph {
 public:
  Graph() = default;

  // Checks all invariants. InvalidArgument names the file, what was expected and what was found.
  static absl::StatusOr<Graph> Create(const GraphArrays& arrays);

  // This graph, which is of a base alone, with the changes of segments; what they point at must outlive it.
  Graph With(const GraphChanges& changes) const;

  // Positions, deleted ones included: those of the base come first.
  int32_t num_items() const { return static_cast<int32_t>(item_ids_.size()); }
  int32_t num_base_items() const { return static_cast<int32_t>(id_order_.size()); }
  absl::Span<const int64_t> item_ids() const { return item_ids_; }
  absl::Span<const int32_t> enter_points() const { return enter_points_; }
  int num_levels() const { return static_cast<int>(levels_.size()); }
  const Level& level(int l) const { return levels_[l]; }
  int hops(int l) const { return hops_per_level_[l]; }

  // The number of values in a request's `level_topn`: entry beam, one beam per hop of each level, k.
  int level_topn_length() const;

  const Deletions& deletions() const { return deletions_; }
  bool IsDeleted(int32_t position) const { return deletions_.any() && deletions_.Contains(position); }

  // The position of a live item's id, -1 when the index has no such item. O(log N).
  int32_t PositionOf(int64_t item_id) const;

 private:
  absl::Span<const int64_t> item_ids_;
  absl::Span<const int32_t> id_order_;
  absl::Span<const int32_t> enter_points_;
  std::vector<Level> levels_;
  std::vector<int32_t> hops_per_level_;
  NewItems new_items_;
  Deletions deletions_;
};

// The positions of `item_ids` in ascending order of their id, as `item_id_order.npy` holds them.
std::vector<int32_t> SortedById(absl::Span<const int64_t> item_ids);

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_GRAPH_H_
