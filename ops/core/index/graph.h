// The HNSW graph that a search walks. It is checked once, when it is made, so that the walk needs no checks.
#ifndef NANN_OPS_CORE_INDEX_GRAPH_H_
#define NANN_OPS_CORE_INDEX_GRAPH_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "npy.h"

namespace nann {

// Neighbour lists of one level, in compressed-sparse-row form. A view: the arrays must outlive it.
struct Level {
  absl::Span<const int32_t> neighbors;   // [edges] positions.
  absl::Span<const int64_t> row_splits;  // [N + 1]; node p owns neighbors[row_splits[p], row_splits[p + 1]).

  absl::Span<const int32_t> NeighborsOf(int32_t position) const {
    return neighbors.subspan(row_splits[position], row_splits[position + 1] - row_splits[position]);
  }

  // Start to fetch what NeighborsOf(position) reads into the cache. FetchNeighbors itself reads the offsets,
  // so FetchOffsets comes first, some time before it.
  void FetchOffsets(int32_t position) const { __builtin_prefetch(&row_splits[position]); }
  void FetchNeighbors(int32_t position) const {
    constexpr int64_t kLineNeighbors = 64 / sizeof(int32_t);  // In one cache line of 64 bytes.
    const int64_t end = row_splits[position + 1];
    for (int64_t i = row_splits[position]; i < end; i += kLineNeighbors) __builtin_prefetch(&neighbors[i]);
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

// A view of checked arrays, which must outlive it. Thread-safe: it never changes.
//
// Invariants: every neighbour, entry point and position of the id order is in [0, num_items()); row splits
// ascend from 0 to the number of neighbours; item ids are unique; entry points are unique and at least one.
class Graph {
 public:
  Graph() = default;

  // Checks all invariants. InvalidArgument names the file, what was expected and what was found.
  static absl::StatusOr<Graph> Create(const GraphArrays& arrays);

  int32_t num_items() const { return static_cast<int32_t>(item_ids_.size()); }
  absl::Span<const int64_t> item_ids() const { return item_ids_; }
  absl::Span<const int32_t> enter_points() const { return enter_points_; }
  int num_levels() const { return static_cast<int>(levels_.size()); }
  const Level& level(int l) const { return levels_[l]; }
  int hops(int l) const { return hops_per_level_[l]; }

  // The number of values in a request's `level_topn`: entry beam, one beam per hop of each level, k.
  int level_topn_length() const;

  // The position of an item id, -1 when the index has no such item. O(log N).
  int32_t PositionOf(int64_t item_id) const;

 private:
  absl::Span<const int64_t> item_ids_;
  absl::Span<const int32_t> id_order_;
  absl::Span<const int32_t> enter_points_;
  std::vector<Level> levels_;
  std::vector<int32_t> hops_per_level_;
};

// The positions of `item_ids` in ascending order of their id, as `item_id_order.npy` holds them.
std::vector<int32_t> SortedById(absl::Span<const int64_t> item_ids);

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_GRAPH_H_
