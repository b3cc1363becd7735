#include "top_k.h"

#include <algorithm>

namespace nann {
void KeepTop(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates) {
  if (k >= static_cast<int64_t>(candidates->size())) return;
  std::nth_element(candidates->begin(), candidates->begin() + k, candidates->end(), Better{item_ids});
  candidates->resize(k);
}

void KeepTopSorted(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates) {
  KeepTop(k, item_ids, candidates);
  std::sort(candidates->begin(), candidates->end(), Better{item_ids});
}

}  // namespace nann
