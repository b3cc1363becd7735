#include "top_k.h"

#include <algorithm>
#include <functional>

namespace nann {
namespace {

// Every 16th candidate is in the sample: large enough to estimate the k-th score, at a sixteenth of the cost.
constexpr int64_t kSampleStep = 16;
// Of fewer candidates the sample would have fewer than 64 scores: too few to estimate a rank.
constexpr int64_t kWorthASample = 1024;
// With fewer candidates than this per kept one, too few would be dropped to pay for the sample.
constexpr int64_t kFewKept = 4;

// Drops most candidates that are not among the best k, in passes without branches: all below a bound that is
// probably a little less than the k-th score, estimated from a sample (Floyd and Rivest, Expected Time Bounds
// for Selection, 1975). It keeps all of them when fewer than k reach the bound, so the result of the
// selection is always exact.
void DropHopeless(int64_t k, std::vector<Candidate>* candidates) {
  const int64_t size = static_cast<int64_t>(candidates->size());
  if (size < kWorthASample || size < kFewKept * k) return;
  std::vector<float> sample;
  for (int64_t i = 0; i < size; i += kSampleStep) sample.push_back((*candidates)[i].score);
  // k / 16 of the sample are expected to be among the best k. Half as many more, and 8, are some deviations
  // of that count, so that the bound is rarely too high.
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

void KeepTopLive(int64_t k, absl::Span<const int64_t> item_ids, const Deletions& deletions,
                 std::vector<Candidate>* candidates, std::vector<Candidate>* rest) {
  std::sort(candidates->begin(), candidates->end(), Better{item_ids});
  if (rest != nullptr) rest->clear();
  LiveCount count(k);
  size_t kept = 0;
  for (const Candidate& candidate : *candidates) {
    if (count.Takes(deletions.Contains(candidate.position))) {
      (*candidates)[kept++] = candidate;
    } else if (rest != nullptr) {
      rest->push_back(candidate);
    }
  }
  candidates->resize(kept);
}

}  // namespace nann
