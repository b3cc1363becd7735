#include "editable_graph.h"

#include <algorithm>
#include <utility>

#include "../base/status_macros.h"
#include "absl/strings/str_cat.h"

namespace nann {
namespace {

constexpr int64_t kVectorLineBytes = 64;  // Of x86-64, and of most arm64 processors.

}  // namespace

EditableGraph::EditableGraph(const Graph& base, const Table& vectors)
    : base_(base),
      base_vectors_(vectors),
      levels_(base.num_levels()),
      flags_(base.num_items()),
      in_degree_(base.num_items()) {
  for (EditableLevel& level : levels_) level.slots.assign(base.num_items(), kOfBase);
  for (const int32_t neighbor : base.level(0).neighbors) ++in_degree_[neighbor];
  MarkCopies(0);
  for (const int32_t position : base.enter_points()) SetCopy(position, false);
}

const float* EditableGraph::VectorOf(int32_t position, float* scratch) const {
  const int32_t added = position - base_.num_items();
  if (added >= 0) return added_vectors_.data() + added * dim();
  if (base_vectors_.type() == TableType::kFloat32) return base_vectors_.AsFloat32().data() + position * dim();
  base_vectors_.Gather(absl::MakeConstSpan(&position, 1), scratch);
  return scratch;
}

void EditableGraph::Prefetch(int32_t position) const {
  const int32_t added = position - base_.num_items();
  const char* row;
  int64_t bytes = dim() * sizeof(float);
  if (added >= 0) {
    row = reinterpret_cast<const char*>(added_vectors_.data() + added * dim());
  } else {
    row = base_vectors_.RowData(position);
    bytes = base_vectors_.row_bytes();
  }
  for (int64_t byte = 0; byte < bytes; byte += kVectorLineBytes) __builtin_prefetch(row + byte);
}

bool EditableGraph::EqualVectors(int32_t a, int32_t b) const {
  std::vector<float> scratch(2 * dim());
  const float* first = VectorOf(a, scratch.data());
  return std::equal(first, first + dim(), VectorOf(b, scratch.data() + dim()));
}

absl::Span<const int32_t> EditableGraph::NeighborsOf(int level, int32_t position) const {
  const int32_t slot = levels_[level].slots[position];
  if (slot == kOfBase) return base_.level(level).NeighborsOf(position);
  return levels_[level].lists[slot];
}

void EditableGraph::SetCopy(int32_t position, bool copy) {
  flags_[position] = static_cast<uint8_t>(copy ? flags_[position] | kCopy : flags_[position] & ~kCopy);
}

int32_t EditableGraph::AddNode(absl::Span<const float> vector) {
  added_vectors_.insert(added_vectors_.end(), vector.begin(), vector.end());
  for (EditableLevel& level : levels_) {
    level.slots.push_back(static_cast<int32_t>(level.lists.size()));
    level.lists.emplace_back();
  }
  flags_.push_back(0);
  in_degree_.push_back(0);
  return size() - 1;
}

void EditableGraph::SetList(int level, int32_t position, std::vector<int32_t> neighbors) {
  if (level == 0) {
    for (const int32_t neighbor : NeighborsOf(0, position)) --in_degree_[neighbor];
    for (const int32_t neighbor : neighbors) ++in_degree_[neighbor];
  }
  EditableLevel& lists = levels_[level];
  int32_t& slot = lists.slots[position];
  if (slot == kOfBase) {
    slot = static_cast<int32_t>(lists.lists.size());
    lists.lists.emplace_back();
  }
  lists.lists[slot] = std::move(neighbors);
  lists.changed.push_back(position);
}

std::vector<ListChanges> EditableGraph::TakeChanges() {
  std::vector<ListChanges> changes(levels_.size());
  for (size_t l = 0; l < levels_.size(); ++l) {
    std::vector<int32_t>& nodes = changes[l].nodes;
    nodes.swap(levels_[l].changed);
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    changes[l].row_splits.push_back(0);
    for (const int32_t node : nodes) {
      const absl::Span<const int32_t> list = NeighborsOf(static_cast<int>(l), node);
      changes[l].neighbors.insert(changes[l].neighbors.end(), list.begin(), list.end());
      changes[l].row_splits.push_back(static_cast<int64_t>(changes[l].neighbors.size()));
    }
  }
  return changes;
}

absl::Status EditableGraph::Apply(absl::Span<const float> vectors, absl::Span<const ListChanges> changes) {
  if (static_cast<int>(changes.size()) != num_levels() || vectors.size() % dim() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected lists of ", num_levels(), " levels, and rows of ", dim(), " values, found ",
                     changes.size(), " levels and ", vectors.size(), " values"));
  }
  const int32_t first = size();
  for (size_t row = 0; row < vectors.size(); row += dim()) AddNode(vectors.subspan(row, dim()));
  for (int level = 0; level < num_levels(); ++level) {
    const ListChanges& lists = changes[level];
    NANN_RETURN_IF_ERROR(Check(lists, level));
    for (size_t i = 0; i < lists.nodes.size(); ++i) {
      SetList(
          level, lists.nodes[i],
          {lists.neighbors.begin() + lists.row_splits[i], lists.neighbors.begin() + lists.row_splits[i + 1]});
    }
    levels_[level].changed.clear();
  }
  MarkCopies(first);
  return absl::OkStatus();
}

absl::Status EditableGraph::Check(const ListChanges& changes, int level) const {
  const auto fits = [this](int32_t position) { return position >= 0 && position < size(); };
  const std::vector<int64_t>& splits = changes.row_splits;
  const int64_t edges = static_cast<int64_t>(changes.neighbors.size());
  if (splits.size() != changes.nodes.size() + 1 || splits.front() != 0 || splits.back() != edges ||
      !std::is_sorted(splits.begin(), splits.end())) {
    return absl::InvalidArgumentError(absl::StrCat("level ", level,
                                                   ": expected row splits that ascend from 0 to ", edges,
                                                   ", one more than the ", changes.nodes.size(), " nodes"));
  }
  if (!std::all_of(changes.nodes.begin(), changes.nodes.end(), fits) ||
      !std::all_of(changes.neighbors.begin(), changes.neighbors.end(), fits)) {
    return absl::InvalidArgumentError(
        absl::StrCat("level ", level, ": expected positions 0 to ", size() - 1, ", found another"));
  }
  return absl::OkStatus();
}

bool EditableGraph::HangsOnEqualVectors(int32_t position) const {
  const absl::Span<const int32_t> list = NeighborsOf(0, position);
  return !list.empty() &&
         std::all_of(list.begin(), list.end(), [&](int32_t other) { return EqualVectors(position, other); });
}

void EditableGraph::MarkCopies(int32_t begin) {
  for (int32_t position = begin; position < size(); ++position) {
    if (HangsOnEqualVectors(position)) SetCopy(position, true);
  }
}

}  // namespace nann
