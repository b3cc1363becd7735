#include "top_k.h"

#include <algorithm>
#include <functional>

namespace nann {
namespace {

// One candidate in so many is looked at first, when there are at least so many in all and for each to be
// kept.
constexpr int64_t kSampleStep = 16;
constexpr int64_t kWorthASample = 1024;
constexpr int64_t kFewKept = 4;

// Drops most of what is not among the k best, in passes without branches, by a score that is likely to be a
// little below the k-th best: that of a sample's rank (Floyd and Rivest, Expected Time Bounds for Selection,
// 1975). Keeps all where the sample misleads.
void DropHopeless(int64_t k, std::vector<Candidate>* candidates) {
  const int64_t size = static_cast<int64_t>(candidates->size());
  if (size < kWorthASample || size < kFewKept * k) return;
  std::vector<float> sample;
  for (int64_t i = 0; i < size; i += kSampleStep) sample.push_back((*candidates)[i].score);
  // Above what is expected, by several times the deviation of such a sample.
  const int64_t rank = k / kSampleStep * 3 / 2 + 8;
  if (rank >= static_cast<int64_t>(sample.size())) return;
  std::nth_element(sample.begin(), sample.begin() + rank, sample.end(), std::greater<float>());
  const float bound = sample[rank];
  int64_t count = 0;
  for (const Candidate& candidate : *candidates) count += candidate.score >= bound ? 1 : 0;
  if (count < k) return;
  int64_t kept = 0;
  for (int64_t i = 0; i < size; ++i) {
    (*candidates)[kept] = (*candidates)[i];
    kept += (*candidates)[i].score >= bound ? 1 : 0;
  }
  candidates->resize(kept);
}

}  // namespace

void KeepTop(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates) {
  if (k >= static_cast<int64_t>(candidates->size())) return;
  DropHopeless(k, candidates);
  std::nth_element(candidates->begin(), candidates->begin() + k, candidates->end(), Better{item_ids});
  candidates->resize(k);
}

void KeepTopSorted(int64_t k, absl::Span<const int64_t> item_ids, std::vector<Candidate>* candidates) {
  KeepTop(k, item_ids, candidates);
  std::sort(candidates->begin(), candidates->end(), Better{item_ids});
}

}  // namespace nann
