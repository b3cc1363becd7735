#include "link_builder.h"

#include <algorithm>
#include <queue>
#include <utility>

namespace nann {
namespace {

// Independent sums, so that a sum does not wait for the one before: four registers of SSE.
constexpr int64_t kSumLanes = 16;
// Copies that hang on a copy, as in the base (export/index/copies.py).
constexpr size_t kCopiesPerCopy = 2;
// A list may hold this many times as many links as it should, where a link less would cut an item off.
constexpr size_t kLongestList = 2;

template <typename Term>
float SumOf(int64_t n, Term term) {
  float sums[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int64_t lane = 0; lane < kSumLanes; ++lane) sums[lane] += term(i + lane);
  }
  float sum = 0;
  for (; i < n; ++i) sum += term(i);
  for (const float lane : sums) sum += lane;
  return sum;
}

bool ListHolds(absl::Span<const int32_t> list, int32_t position) {
  return std::find(list.begin(), list.end(), position) != list.end();
}

}  // namespace

LinkBuilder::LinkBuilder(EditableGraph* graph, const Options& options)
    : graph_(*graph),
      options_(options),
      metrics_(options.inner_product ? std::vector<Metric>{Metric::kL2, Metric::kInnerProduct}
                                     : std::vector<Metric>{Metric::kL2}),
      visited_(graph->size()),
      row_(graph->dim()),
      owner_(graph->dim()) {}

float LinkBuilder::Distance(Metric metric, const float* a, const float* b) const {
  if (metric == Metric::kInnerProduct) return -SumOf(graph_.dim(), [&](int64_t i) { return a[i] * b[i]; });
  return SumOf(graph_.dim(), [&](int64_t i) { return (a[i] - b[i]) * (a[i] - b[i]); });
}

LinkBuilder::Near LinkBuilder::NearOf(Metric metric, const float* query, int32_t position) {
  return {Distance(metric, query, graph_.VectorOf(position, row_.data())), position};
}

std::vector<LinkBuilder::Near> LinkBuilder::SearchLevel(const float* query, const Search& search,
                                                        const std::vector<Near>& starts) {
  struct Farther {
    bool operator()(const Near& a, const Near& b) const { return b < a; }
  };
  std::priority_queue<Near, std::vector<Near>, Farther> waiting(Farther(), starts);
  std::priority_queue<Near> found;
  const auto take = [&](const Near& near) {
    if (graph_.dead(near.position) && !search.with_dead) return;
    found.push(near);
    if (found.size() > search.ef) found.pop();
  };
  const auto too_far = [&](const Near& near) { return found.size() == search.ef && found.top() < near; };
  visited_.Clear();
  for (const Near& start : starts) {
    visited_.Insert(start.position);
    take(start);
  }
  while (!waiting.empty() && !too_far(waiting.top())) {
    const int32_t expanded = waiting.top().position;
    waiting.pop();
    fresh_.clear();
    visited_.InsertAll(graph_.NeighborsOf(search.level, expanded), &fresh_);
    for (const int32_t position : fresh_) graph_.Prefetch(position);
    for (const int32_t position : fresh_) {
      if (graph_.copy(position)) continue;
      const Near near = NearOf(search.metric, query, position);
      if (too_far(near)) continue;
      waiting.push(near);
      take(near);
    }
  }
  std::vector<Near> nearest(found.size());
  for (size_t i = nearest.size(); i > 0; --i, found.pop()) nearest[i - 1] = found.top();
  return nearest;
}

std::vector<std::vector<LinkBuilder::Near>> LinkBuilder::Candidates(const float* query, Metric metric,
                                                                    int32_t level) {
  std::vector<std::vector<Near>> candidates(level + 1);
  std::vector<Near> starts;
  for (const int32_t position : graph_.enter_points()) starts.push_back(NearOf(metric, query, position));
  for (int l = graph_.num_levels() - 1; l >= 0; --l) {
    Search search = {metric, l, 1, /*with_dead=*/true};
    if (l <= level) {
      search.ef = static_cast<size_t>(options_.ef_construction);
      search.with_dead = false;
      candidates[l] = SearchLevel(query, search, starts);
      if (!candidates[l].empty()) {
        starts = candidates[l];
        continue;
      }
      search.with_dead = true;  // Nothing that lives is within reach: the item is linked to deleted ones.
    }
    starts = SearchLevel(query, search, starts);
    if (l <= level) candidates[l] = starts;
  }
  return candidates;
}

std::vector<int32_t> LinkBuilder::Select(Metric metric, const std::vector<Near>& candidates, size_t most) {
  std::vector<int32_t> selected;
  chosen_.clear();
  for (const Near& candidate : candidates) {
    if (selected.size() == most) break;
    const float* vector = graph_.VectorOf(candidate.position, row_.data());
    bool nearest = true;
    for (size_t i = 0; nearest && i < selected.size(); ++i) {
      nearest = Distance(metric, vector, chosen_.data() + i * graph_.dim()) >= candidate.distance;
    }
    if (!nearest) continue;
    selected.push_back(candidate.position);
    chosen_.insert(chosen_.end(), vector, vector + graph_.dim());
  }
  return selected;
}

std::vector<int32_t> LinkBuilder::SelectAll(const std::vector<std::vector<Near>>& candidates_of_metric,
                                            int level) {
  std::vector<int32_t> all;
  for (size_t i = 0; i < metrics_.size(); ++i) {
    const size_t most = MostLinks(level) / metrics_.size();
    for (const int32_t position : Select(metrics_[i], candidates_of_metric[i], most)) {
      if (!ListHolds(all, position)) all.push_back(position);
    }
  }
  return all;
}

int32_t LinkBuilder::Insert(absl::Span<const float> vector, int32_t level) {
  level = std::min(level, graph_.num_levels() - 1);
  std::vector<std::vector<std::vector<Near>>> candidates(level + 1);  // [level][metric]
  for (const Metric metric : metrics_) {
    std::vector<std::vector<Near>> of_metric = Candidates(vector.data(), metric, level);
    for (int32_t l = 0; l <= level; ++l) candidates[l].push_back(std::move(of_metric[l]));
  }
  const int32_t added = graph_.AddNode(vector);
  visited_.Grow(graph_.size());
  const Near nearest = candidates[0][0].front();
  if (!graph_.dead(nearest.position) && graph_.EqualVectors(nearest.position, added)) {
    HangCopy(nearest.position, added);
    return added;
  }
  for (int32_t l = level; l >= 0; --l) {
    const std::vector<int32_t> selected = SelectAll(candidates[l], l);
    graph_.SetList(l, added, selected);
    for (const int32_t position : selected) LinkTo(l, position, added);
  }
  if (graph_.in_degree(added) == 0) {
    const absl::Span<const int32_t> list = graph_.NeighborsOf(0, nearest.position);
    std::vector<int32_t> longer(list.begin(), list.end());
    longer.push_back(added);
    graph_.SetList(0, nearest.position, std::move(longer));
  }
  return added;
}

void LinkBuilder::FollowGraph() {
  visited_.Grow(graph_.size());
  open_copies_.clear();
}

void LinkBuilder::LinkTo(int level, int32_t from, int32_t to) {
  const absl::Span<const int32_t> list = graph_.NeighborsOf(level, from);
  std::vector<int32_t> changed(list.begin(), list.end());
  for (int32_t& position : changed) {
    if (!graph_.dead(position) || !graph_.EqualVectors(position, to)) continue;
    position = to;
    return graph_.SetList(level, from, std::move(changed));
  }
  const size_t links = std::count_if(changed.begin(), changed.end(),
                                     [this](int32_t position) { return !graph_.copy(position); });
  if (links >= MostLinks(level)) return Prune(level, from, to);
  changed.push_back(to);
  graph_.SetList(level, from, std::move(changed));
}

std::vector<int32_t> LinkBuilder::PruneCandidates(int level, int32_t position, int32_t added) {
  std::vector<int32_t> found = {added};
  for (const int32_t neighbor : graph_.NeighborsOf(level, position)) {
    if (!graph_.dead(neighbor)) {
      if (!graph_.copy(neighbor)) found.push_back(neighbor);
      continue;
    }
    for (const int32_t beyond : graph_.NeighborsOf(level, neighbor)) {
      if (!graph_.dead(beyond) && beyond != position) found.push_back(beyond);
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

void LinkBuilder::Prune(int level, int32_t position, int32_t added) {
  const std::vector<int32_t> candidates = PruneCandidates(level, position, added);
  const float* owner = graph_.VectorOf(position, owner_.data());
  std::vector<std::vector<Near>> by_metric;
  for (const Metric metric : metrics_) {
    std::vector<Near>& near = by_metric.emplace_back();
    for (const int32_t candidate : candidates) near.push_back(NearOf(metric, owner, candidate));
    std::sort(near.begin(), near.end());
  }
  std::vector<int32_t> pruned = SelectAll(by_metric, level);
  for (const int32_t chosen : pruned) graph_.SetCopy(chosen, false);
  for (const int32_t neighbor : graph_.NeighborsOf(level, position)) {
    if (ListHolds(pruned, neighbor)) continue;
    // Copies hang on this item alone. The last link to an item stays, or it would never be found.
    const bool last = level == 0 && !graph_.dead(neighbor) && graph_.in_degree(neighbor) == 1 &&
                      pruned.size() < kLongestList * MostLinks(level);
    if (graph_.copy(neighbor) || last) pruned.push_back(neighbor);
  }
  graph_.SetList(level, position, std::move(pruned));
}

void LinkBuilder::HangCopy(int32_t representative, int32_t copy) {
  const absl::Span<const int32_t> view = graph_.NeighborsOf(0, representative);
  std::vector<int32_t> list(view.begin(), view.end());
  graph_.SetCopy(copy, true);
  size_t copies = 0;
  for (int32_t& position : list) {
    if (!graph_.copy(position)) continue;
    ++copies;
    if (!graph_.dead(position)) continue;
    // It takes the place of a deleted copy, with what hangs on that.
    const absl::Span<const int32_t> hanging = graph_.NeighborsOf(0, position);
    graph_.SetList(0, copy, {hanging.begin(), hanging.end()});
    position = copy;
    open_copies_.erase(representative);
    return graph_.SetList(0, representative, std::move(list));
  }
  graph_.SetList(0, copy, {representative});
  std::deque<int32_t>& open = OpenCopies(representative);
  if (copies < MostLinks(0) || open.empty()) {
    list.push_back(copy);
    open.push_back(copy);
    return graph_.SetList(0, representative, std::move(list));
  }
  const int32_t parent = open.front();
  const absl::Span<const int32_t> of_parent = graph_.NeighborsOf(0, parent);
  std::vector<int32_t> longer(of_parent.begin(), of_parent.end());
  longer.push_back(copy);
  if (longer.size() >= 1 + kCopiesPerCopy) open.pop_front();
  open.push_back(copy);
  graph_.SetList(0, parent, std::move(longer));
}

std::deque<int32_t>& LinkBuilder::OpenCopies(int32_t representative) {
  std::deque<int32_t>& open = open_copies_[representative];
  if (!open.empty()) return open;
  // Breadth first, so that the copies nearest to the representative are filled first.
  std::deque<int32_t> reached = {representative};
  visited_.Clear();
  visited_.Insert(representative);
  for (; !reached.empty(); reached.pop_front()) {
    const absl::Span<const int32_t> list = graph_.NeighborsOf(0, reached.front());
    if (reached.front() != representative && list.size() < 1 + kCopiesPerCopy)
      open.push_back(reached.front());
    for (const int32_t position : list) {
      if (graph_.copy(position) && visited_.Insert(position)) reached.push_back(position);
    }
  }
  return open;
}

}  // namespace nann
