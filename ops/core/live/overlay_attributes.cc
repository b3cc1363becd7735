#include "overlay_attributes.h"

#include <limits>
#include <utility>

#include "../base/status_macros.h"
#include "../filter/row_filter_parts.h"

namespace nann {
namespace {

FilterCacheOptions OfChunks() {
  FilterCacheOptions options;
  // A bitmap over the largest chunk of 100,000 new items takes 12 kB: hundreds of filters are kept.
  options.max_bytes = int64_t{4} << 20;
  options.many_passing = std::numeric_limits<int64_t>::max();
  return options;
}

AttributeRows::Source SourceOf(const AttributeChunk& chunk, const std::vector<AttributePart>& parts) {
  return {chunk.num_rows(), parts};
}

}  // namespace

AttributeChunk::AttributeChunk(absl::Span<const AttributeRows::Source> sources)
    : rows_(sources), filters_(&rows_.columns(), OfChunks()) {}

void OverlayAttributes::Append(absl::Span<const AttributePart> parts, int64_t num_rows) {
  if (parts.empty() || num_rows == 0) return;
  const AttributeRows::Source source = {num_rows, parts};
  chunks_.push_back(std::make_shared<const AttributeChunk>(absl::MakeConstSpan(&source, 1)));
  while (chunks_.size() > 1 && (*std::prev(chunks_.end(), 2))->num_rows() <= 2 * chunks_.back()->num_rows()) {
    const AttributeChunk &first = **std::prev(chunks_.end(), 2), &second = *chunks_.back();
    const std::vector<AttributePart> parts_of_first = first.rows().Parts();
    const std::vector<AttributePart> parts_of_second = second.rows().Parts();
    const AttributeRows::Source both[] = {SourceOf(first, parts_of_first), SourceOf(second, parts_of_second)};
    auto joined = std::make_shared<const AttributeChunk>(both);
    chunks_.pop_back();
    chunks_.back() = std::move(joined);
  }
}

std::unique_ptr<FilterCache> MakeStateFilters(FilterCache* base, AttributeChunks chunks, const Graph& graph) {
  const auto evaluate = [base, chunks = std::move(chunks), deletions = graph.deletions()](
                            absl::string_view text,
                            const IsCancelled& is_cancelled) -> absl::StatusOr<RowFilter> {
    std::vector<std::shared_ptr<const RowFilter>> parts(1);
    NANN_ASSIGN_OR_RETURN(parts[0], base->Get(text, nullptr, is_cancelled));
    for (const std::shared_ptr<const AttributeChunk>& chunk : chunks) {
      NANN_ASSIGN_OR_RETURN(parts.emplace_back(), chunk->filters().Get(text, nullptr, is_cancelled));
    }
    return JoinFilters(std::move(parts),
                       [&](int32_t row) { return deletions.any() && deletions.Contains(row); });
  };
  return std::make_unique<FilterCache>(graph.num_items(), evaluate);
}

}  // namespace nann
