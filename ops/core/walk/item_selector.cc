#include "item_selector.h"

#include <algorithm>

namespace nann {

void ItemSelector::Reset(const Graph* graph, absl::Span<const int32_t> excluded) {
  deletions_ = graph->deletions();
  if (excluded_ != nullptr) excluded_->Clear();
  if (!excluded.empty() && excluded_ == nullptr) excluded_ = std::make_unique<VisitedSet>(capacity_);
  for (int32_t position : excluded) excluded_->Insert(position);
  count_ = graph->num_items() - deletions_.count - this->excluded();
}

void ItemSelector::Keep(std::vector<Candidate>* candidates) const {
  const auto is_left_out = [this](const Candidate& candidate) { return !Selects(candidate.position); };
  candidates->erase(std::remove_if(candidates->begin(), candidates->end(), is_left_out), candidates->end());
}

void ItemSelector::Append(int32_t begin, int32_t end, std::vector<int32_t>* positions) const {
  for (int32_t position = begin; position < end; ++position) {
    if (Selects(position)) positions->push_back(position);
  }
}

}  // namespace nann
