// A graph and its item vectors to which items are added: what a publisher holds of base and segments.
#ifndef NANN_OPS_CORE_LIVE_EDITABLE_GRAPH_H_
#define NANN_OPS_CORE_LIVE_EDITABLE_GRAPH_H_

#include <cstdint>
#include <vector>

#include "../index/graph.h"
#include "../index/table.h"
#include "absl/status/status.h"
#include "absl/types/span.h"

namespace nann {

// Neighbour lists on one level that replace those that their nodes had.
struct ListChanges {
  std::vector<int32_t> nodes;       // [n] positions, ascending, each once.
  std::vector<int64_t> row_splits;  // [n + 1]; node i owns neighbors[row_splits[i], row_splits[i + 1]).
  std::vector<int32_t> neighbors;   // [edges] positions.
};

// The base is a view, which must outlive the object; what is added is owned. Positions are 0 to size() - 1,
// and added nodes follow those of the base. Not thread-safe.
//
// Invariants: every neighbour is a position; in_degree(p) counts the lists of level 0 that hold p.
class EditableGraph {
 public:
  // `vectors` is a floating-point table with one row per node of `base`.
  EditableGraph(const Graph& base, const Table& vectors);

  int32_t size() const { return static_cast<int32_t>(flags_.size()); }
  int64_t dim() const { return base_vectors_.width(); }
  int num_levels() const { return base_.num_levels(); }
  absl::Span<const int32_t> enter_points() const { return base_.enter_points(); }

  // The vector of `position`, dim() values: where it lies, or for other types than float32 in `scratch`,
  // which has room for it. Valid until a node is added. Prefetch starts to fetch what it reads.
  const float* VectorOf(int32_t position, float* scratch) const;
  void Prefetch(int32_t position) const;
  bool EqualVectors(int32_t a, int32_t b) const;

  absl::Span<const int32_t> NeighborsOf(int level, int32_t position) const;
  int32_t in_degree(int32_t position) const { return in_degree_[position]; }

  // Deleted items are walked through, and no new link leads to them.
  bool dead(int32_t position) const { return (flags_[position] & kDead) != 0; }
  void MarkDead(int32_t position) { flags_[position] |= kDead; }

  // A copy hangs on an item of the same vector and leads to items of that vector only: searches leave it out.
  bool copy(int32_t position) const { return (flags_[position] & kCopy) != 0; }
  void SetCopy(int32_t position, bool copy);

  // Adds a node without links; returns its position.
  int32_t AddNode(absl::Span<const float> vector);

  // Replaces a list, and records that it has changed.
  void SetList(int level, int32_t position, std::vector<int32_t> neighbors);

  // The lists that were set since the last call, one element per level, level 0 first.
  std::vector<ListChanges> TakeChanges();

  // Adds nodes with `vectors` [n, dim()] and sets lists that TakeChanges has returned in another process.
  // They do not count as changes. InvalidArgument when a list does not fit; the graph is then not to be used.
  absl::Status Apply(absl::Span<const float> vectors, absl::Span<const ListChanges> changes);

 private:
  static constexpr uint8_t kDead = 1, kCopy = 2;
  static constexpr int32_t kOfBase = -1;

  struct EditableLevel {
    std::vector<int32_t> slots;               // [size()]: where the list is in `lists`, kOfBase where not.
    std::vector<std::vector<int32_t>> lists;  // Those that were set.
    std::vector<int32_t> changed;             // Positions, some of them twice.
  };

  absl::Status Check(const ListChanges& changes, int level) const;
  bool HangsOnEqualVectors(int32_t position) const;
  void MarkCopies(int32_t begin);

  const Graph& base_;
  const Table& base_vectors_;
  std::vector<float> added_vectors_;  // [size() - base, dim()]
  std::vector<EditableLevel> levels_;
  std::vector<uint8_t> flags_;
  std::vector<int32_t> in_degree_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_EDITABLE_GRAPH_H_
