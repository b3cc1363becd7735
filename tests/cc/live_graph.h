// A small index with an overlay, for tests.
#ifndef NANN_TESTS_CC_LIVE_GRAPH_H_
#define NANN_TESTS_CC_LIVE_GRAPH_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "ops/core/live/overlay.h"
#include "segment_builder.h"

namespace nann {

// Items on a ring, each linked to the one before and after it, and one table of a number per item: its id.
// Item p has the id 10 p. All levels have the same links.
class LiveGraph {
 public:
  explicit LiveGraph(int32_t items, int32_t room, int levels = 1,
                     std::vector<SegmentSchema::Attribute> attributes = {})
      : items_(items), capacity_(items + room) {
    std::vector<int64_t> ids;
    std::vector<std::vector<int32_t>> lists;
    for (int32_t p = 0; p < items; ++p) {
      ids.push_back(10 * p);
      lists.push_back({(p + items - 1) % items, (p + 1) % items});
    }
    loaded_ = std::make_unique<LoadedGraph>(
        *LoadGraph(MakeIndex(ids, {0}, std::vector(levels, lists)), std::vector<int32_t>(levels, 2)));
    ids_ = std::vector<int64_t>(capacity_);
    numbers_ = std::vector<float>(capacity_);
    std::copy(ids.begin(), ids.end(), ids_.begin());
    std::copy(ids.begin(), ids.end(), numbers_.begin());
    SegmentSchema schema;
    schema.export_id = kTestExport;
    schema.num_levels = levels;
    schema.capacity = capacity_;
    schema.tables = {{"numbers", DType::kFloat32, 1}};
    schema.attributes = std::move(attributes);
    const OverlayArrays arrays = {&loaded_->graph, ids_.data(), {reinterpret_cast<char*>(numbers_.data())}};
    overlay_ = *Overlay::Create(schema, arrays);
  }

  Overlay& overlay() { return *overlay_; }
  absl::Status Apply(const SegmentBuilder& segment) {
    const AlignedBytes bytes(segment.Build());
    return overlay_->Apply("SEGMENT", bytes.view());
  }
  float number(int32_t position) const { return numbers_[position]; }
  int32_t items() const { return items_; }
  int32_t capacity() const { return capacity_; }

 private:
  const int32_t items_, capacity_;
  std::unique_ptr<LoadedGraph> loaded_;
  std::vector<int64_t> ids_;
  std::vector<float> numbers_;
  std::shared_ptr<Overlay> overlay_;
};

inline std::vector<int32_t> Neighbors(const Graph& graph, int32_t position) {
  const auto list = graph.level(0).NeighborsOf(position);
  return std::vector<int32_t>(list.begin(), list.end());
}

}  // namespace nann

#endif  // NANN_TESTS_CC_LIVE_GRAPH_H_
