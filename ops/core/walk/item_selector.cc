#include "item_selector.h"

#include <algorithm>

namespace nann {

void ItemSelector::Reset(const Graph* graph, const RowFilter* filter, absl::Span<const int32_t> excluded) {
  deletions_ = graph->deletions();
  filter_ = filter != nullptr && filter->passing() == graph->num_items() ? nullptr : filter;
  bitmap_ = filter_ == nullptr ? absl::Span<const uint64_t>() : filter_->bitmap();
  count_ = passing_ = filter_ == nullptr ? graph->num_items() - deletions_.count : filter_->passing();
  if (excluded_ != nullptr) excluded_->Clear();
  if (!excluded.empty() && excluded_ == nullptr) excluded_ = std::make_unique<VisitedSet>(capacity_);
  for (int32_t position : excluded) {
    const bool is_new = excluded_->Insert(position);
    if (count_ != kUnknown && is_new && Passes(position)) --count_;
  }
}

void ItemSelector::Keep(std::vector<Candidate>* candidates) const {
  const auto is_left_out = [this](const Candidate& candidate) { return !Selects(candidate.position); };
  candidates->erase(std::remove_if(candidates->begin(), candidates->end(), is_left_out), candidates->end());
}

void ItemSelector::Append(int32_t begin, int32_t end, std::vector<int32_t>* positions) const {
  if (filter_ != nullptr) return AppendPassing(begin, end, positions);
  for (int32_t position = begin; position < end; ++position) {
    if (Selects(position)) positions->push_back(position);
  }
}

// Goes through the filter word by word: most words of a filter that few items pass are 0, and without a
// bitmap, rows that are tested together cost much less.
void ItemSelector::AppendPassing(int32_t begin, int32_t end, std::vector<int32_t>* positions) const {
  end = std::min(end, static_cast<int32_t>(filter_->num_rows()));
  for (int64_t word = begin >> 6; word < (end + 63) >> 6; ++word) {
    const auto first = static_cast<int32_t>(word << 6);
    uint64_t bits = filter_->PassesOf(word);
    if (first < begin) bits &= ~uint64_t{0} << (begin - first);
    if (first + 64 > end) bits &= ~uint64_t{0} >> (first + 64 - end);
    for (; bits != 0; bits &= bits - 1) {
      const int32_t position = first + __builtin_ctzll(bits);
      if (IsLeftIn(position)) positions->push_back(position);
    }
  }
}

}  // namespace nann
