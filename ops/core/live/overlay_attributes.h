// The attributes of new items, and the filters over base and overlay.
#ifndef NANN_OPS_CORE_LIVE_OVERLAY_ATTRIBUTES_H_
#define NANN_OPS_CORE_LIVE_OVERLAY_ATTRIBUTES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../filter/attribute_rows.h"
#include "../filter/filter_cache.h"
#include "../index/graph.h"

namespace nann {

// Consecutive new items: their attributes, and the filters over these. Thread-safe: the rows never change,
// and the cache guards itself.
class AttributeChunk {
 public:
  explicit AttributeChunk(absl::Span<const AttributeRows::Source> sources);

  const AttributeRows& rows() const { return rows_; }
  int64_t num_rows() const { return rows_.columns().num_rows(); }
  // Every filter that it makes has a bitmap.
  FilterCache& filters() const { return filters_; }

 private:
  const AttributeRows rows_;
  mutable FilterCache filters_;
};

// Chunks in the order of their items, without gaps.
using AttributeChunks = std::vector<std::shared_ptr<const AttributeChunk>>;

// Keeps the attributes of segments. A chunk never changes; small ones are joined, so that each has less than
// half the items of the one before it: there are at most log2 of the items, and each item is copied as often
// at most. Not thread-safe.
class OverlayAttributes {
 public:
  // The attributes of further new items; `parts` is empty where the export has none.
  void Append(absl::Span<const AttributePart> parts, int64_t num_rows);

  const AttributeChunks& chunks() const { return chunks_; }

 private:
  AttributeChunks chunks_;
};

// The filters over the items of `graph`: those of the base, whose filters are `base`, and of `chunks`. Base
// and graph must outlive it. It is of one state of the overlay, so no filter of it is ever out of date.
std::unique_ptr<FilterCache> MakeStateFilters(FilterCache* base, AttributeChunks chunks, const Graph& graph);

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_OVERLAY_ATTRIBUTES_H_
