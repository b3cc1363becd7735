#include "graph.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "../base/status_macros.h"
#include "absl/strings/str_cat.h"

namespace nann {
namespace {

// As index.json allows (nann.ops.index_meta). Far beyond any useful walk; it keeps the length of level_topn
// small.
constexpr int32_t kMaxHops = 1000;

constexpr char kRebuild[] =
    "; the file is damaged or of another index: build the index or copy the file again";

absl::Status Damaged(const NpyArray& array, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(array.path, ": ", what, kRebuild));
}

absl::Status CheckLength(const NpyArray& array, int64_t expected, const std::string& why) {
  if (array.num_elements() == expected) return absl::OkStatus();
  return Damaged(array,
                 absl::StrCat("expected ", expected, " values (", why, "), found ", array.num_elements()));
}

// OK when every value is in [0, num_items). One pass without branches runs at the speed of memory; a negative
// value is a large unsigned one. The second pass only looks for the value to report.
absl::Status CheckPositions(const NpyArray& array, int64_t num_items, const char* what) {
  const absl::Span<const int32_t> values = array.Elements<int32_t>();
  uint32_t largest = 0;
  for (int32_t value : values) largest = std::max(largest, static_cast<uint32_t>(value));
  if (values.empty() || largest < num_items) return absl::OkStatus();
  const auto bad = std::find_if(values.begin(), values.end(),
                                [num_items](int32_t value) { return value < 0 || value >= num_items; });
  return Damaged(array, absl::StrCat("expected every ", what, " in [0, ", num_items, "), found ", *bad,
                                     " at index ", bad - values.begin()));
}

absl::Status CheckRowSplits(const NpyArray& array, int64_t num_edges) {
  const absl::Span<const int64_t> splits = array.Elements<int64_t>();
  if (splits.front() != 0 || splits.back() != num_edges) {
    return Damaged(array, absl::StrCat("expected offsets from 0 to ", num_edges,
                                       " (the number of neighbours in the values file), found ",
                                       splits.front(), " to ", splits.back()));
  }
  for (size_t i = 1; i < splits.size(); ++i) {
    if (splits[i] < splits[i - 1]) {
      return Damaged(array, absl::StrCat("expected offsets that never decrease, found ", splits[i], " after ",
                                         splits[i - 1], " at index ", i));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLevel(const GraphArrays::LevelArrays& level, int64_t num_items) {
  NANN_RETURN_IF_ERROR(CheckArray(level.values, DType::kInt32, 1));
  NANN_RETURN_IF_ERROR(CheckArray(level.row_splits, DType::kInt64, 1));
  NANN_RETURN_IF_ERROR(CheckLength(level.row_splits, num_items + 1, absl::StrCat(num_items, " items + 1")));
  NANN_RETURN_IF_ERROR(CheckRowSplits(level.row_splits, level.values.num_elements()));
  return CheckPositions(level.values, num_items, "neighbour");
}

absl::Status CheckEnterPoints(const NpyArray& array, int64_t num_items) {
  NANN_RETURN_IF_ERROR(CheckArray(array, DType::kInt32, 1));
  if (array.num_elements() == 0) return Damaged(array, "expected at least one entry point, found none");
  NANN_RETURN_IF_ERROR(CheckPositions(array, num_items, "entry point"));
  const absl::Span<const int32_t> values = array.Elements<int32_t>();
  std::vector<bool> seen(num_items, false);
  for (int32_t value : values) {
    if (seen[value]) {
      return Damaged(array, absl::StrCat("expected each entry point once, found ", value, " twice"));
    }
    seen[value] = true;
  }
  return absl::OkStatus();
}

absl::Status CheckIds(const NpyArray& item_ids, const NpyArray& id_order) {
  const int64_t num_items = item_ids.num_elements();
  NANN_RETURN_IF_ERROR(CheckArray(id_order, DType::kInt32, 1));
  NANN_RETURN_IF_ERROR(CheckLength(id_order, num_items, "one per row of the item ids"));
  NANN_RETURN_IF_ERROR(CheckPositions(id_order, num_items, "position"));
  // Strictly ascending ids also prove that the order is a permutation and that each id is unique.
  const absl::Span<const int64_t> ids = item_ids.Elements<int64_t>();
  const absl::Span<const int32_t> order = id_order.Elements<int32_t>();
  for (size_t i = 1; i < order.size(); ++i) {
    if (ids[order[i - 1]] >= ids[order[i]]) {
      return Damaged(id_order,
                     absl::StrCat("expected positions in increasing order of their item id, found id ",
                                  ids[order[i]], " after ", ids[order[i - 1]], " at index ", i,
                                  " (are the ids in ", item_ids.path, " unique?)"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Graph> Graph::Create(const GraphArrays& arrays) {
  NANN_RETURN_IF_ERROR(CheckArray(arrays.item_ids, DType::kInt64, 1));
  const int64_t num_items = arrays.item_ids.num_elements();
  // Positions, and the number of items, are int32.
  if (num_items < 1 || num_items >= std::numeric_limits<int32_t>::max()) {
    return Damaged(arrays.item_ids, absl::StrCat("expected 1 to 2^31 - 2 items, found ", num_items));
  }
  if (arrays.levels.empty() || arrays.levels.size() != arrays.hops_per_level.size()) {
    return absl::InvalidArgumentError(absl::StrCat("expected hops for each of at least one level, found ",
                                                   arrays.levels.size(), " levels and ",
                                                   arrays.hops_per_level.size(), " numbers of hops"));
  }
  NANN_RETURN_IF_ERROR(CheckIds(arrays.item_ids, arrays.id_order));
  NANN_RETURN_IF_ERROR(CheckEnterPoints(arrays.enter_points, num_items));

  Graph graph;
  graph.item_ids_ = arrays.item_ids.Elements<int64_t>();
  graph.id_order_ = arrays.id_order.Elements<int32_t>();
  graph.enter_points_ = arrays.enter_points.Elements<int32_t>();
  graph.hops_per_level_ = arrays.hops_per_level;
  for (size_t l = 0; l < arrays.levels.size(); ++l) {
    if (arrays.hops_per_level[l] < 1) {
      return absl::InvalidArgumentError(absl::StrCat("expected at least one hop a level, found ",
                                                     arrays.hops_per_level[l], " for level ", l));
    }
    if (arrays.hops_per_level[l] > kMaxHops) {
      return absl::InvalidArgumentError(absl::StrCat("expected at most ", kMaxHops, " hops per level, found ",
                                                     arrays.hops_per_level[l], " for level ", l));
    }
    NANN_RETURN_IF_ERROR(CheckLevel(arrays.levels[l], num_items));
    graph.levels_.push_back(
        {arrays.levels[l].values.Elements<int32_t>(), arrays.levels[l].row_splits.Elements<int64_t>(), {}});
  }
  return graph;
}

Graph Graph::With(const GraphChanges& changes) const {
  Graph graph = *this;
  graph.item_ids_ = changes.item_ids;
  graph.new_items_ = changes.new_items;
  graph.deletions_ = changes.deletions;
  for (size_t l = 0; l < changes.levels.size(); ++l) graph.levels_[l].changed = changes.levels[l];
  return graph;
}

int Graph::level_topn_length() const {
  return std::accumulate(hops_per_level_.begin(), hops_per_level_.end(), 2);
}

int32_t Graph::PositionOf(int64_t item_id) const {
  int32_t position = new_items_.Find(item_id, num_items());
  if (position < 0) {
    const auto at = std::lower_bound(id_order_.begin(), id_order_.end(), item_id,
                                     [this](int32_t p, int64_t id) { return item_ids_[p] < id; });
    if (at == id_order_.end() || item_ids_[*at] != item_id) return -1;
    position = *at;
  }
  return deletions_.any() && deletions_.Contains(position) ? -1 : position;
}

std::vector<int32_t> SortedById(absl::Span<const int64_t> item_ids) {
  std::vector<int32_t> order(item_ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [item_ids](int32_t a, int32_t b) { return item_ids[a] < item_ids[b]; });
  return order;
}

}  // namespace nann
