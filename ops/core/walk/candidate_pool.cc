#include "candidate_pool.h"

#include <algorithm>
#include <utility>

namespace nann {

void CandidatePool::Reset(int64_t size, absl::Span<const int64_t> item_ids, const Deletions& deletions) {
  size_ = size;
  item_ids_ = item_ids;
  deletions_ = deletions;
  live_ = 0;
  entries_.clear();
  BeginLevel(0);
}

void CandidatePool::BeginLevel(int64_t width) {
  width_ = width;
  first_unexpanded_ = 0;
  for (Entry& entry : entries_) entry.expanded = false;
}

void CandidatePool::Merge(std::vector<Candidate>* candidates) {
  const Better better{item_ids_};
  if (live_ == size_) {
    const Candidate& worst = entries_.back().candidate;
    const auto too_bad = [&](const Candidate& c) { return !better(c, worst); };
    candidates->erase(std::remove_if(candidates->begin(), candidates->end(), too_bad), candidates->end());
  }
  if (candidates->empty()) return;
  if (deletions_.any()) {
    KeepTopLive(size_, item_ids_, deletions_, candidates);
  } else {
    KeepTopSorted(size_, item_ids_, candidates);
  }
  // What is better than the best of the new ones stays where it is: late in a walk, nearly all.
  const auto is_better = [&](const Entry& entry, const Candidate& c) { return better(entry.candidate, c); };
  const auto first = std::lower_bound(entries_.begin(), entries_.end(), candidates->front(), is_better);
  first_unexpanded_ = std::min(first_unexpanded_, static_cast<size_t>(first - entries_.begin()));
  merged_.assign(first, entries_.end());
  entries_.erase(first, entries_.end());
  live_ = LiveEntries();
  LiveCount count(size_, live_, size() - live_);
  size_t old = 0, added = 0;
  while (live_ < size_ && (old < merged_.size() || added < candidates->size())) {
    const bool take_old = added == candidates->size() ||
                          (old < merged_.size() && is_better(merged_[old], (*candidates)[added]));
    const Entry entry = take_old ? merged_[old++] : NewEntry((*candidates)[added++]);
    if (count.Takes(entry.deleted)) entries_.push_back(entry);
    live_ += entry.deleted ? 0 : 1;
  }
}

int64_t CandidatePool::LiveEntries() const {
  if (!deletions_.any()) return size();
  return std::count_if(entries_.begin(), entries_.end(), [](const Entry& entry) { return !entry.deleted; });
}

size_t CandidatePool::EntriesOfWidth() const {
  if (!deletions_.any()) return std::min(entries_.size(), static_cast<size_t>(width_));
  int64_t live = 0;
  size_t count = 0;
  for (; count < entries_.size() && live < width_; ++count) live += entries_[count].deleted ? 0 : 1;
  return count;
}

bool CandidatePool::TakeUnexpanded(int64_t count, std::vector<Candidate>* candidates) {
  candidates->clear();
  const size_t width = EntriesOfWidth();
  while (first_unexpanded_ < width && static_cast<int64_t>(candidates->size()) < count) {
    Entry& entry = entries_[first_unexpanded_++];
    if (entry.expanded) continue;
    entry.expanded = true;
    candidates->push_back(entry.candidate);
  }
  return !candidates->empty();
}

bool CandidatePool::TakeUnexpanded(int64_t count, int64_t wanted, const ItemSelector& selector,
                                   std::vector<Candidate>* candidates) {
  do {
    if (TakeUnexpanded(count, candidates)) return true;
  } while (Widen(wanted, selector));
  return false;
}

bool CandidatePool::Widen(int64_t wanted, const ItemSelector& selector) {
  const int64_t widest = std::min(2 * width_, size());
  int64_t width = 0;
  for (int64_t selected = 0; width < widest && selected < wanted; ++width) {
    if (selector.Selects(entries_[width].candidate.position)) ++selected;
  }
  if (width <= width_) return false;
  width_ = width;
  return true;
}

void CandidatePool::CopyTo(std::vector<Candidate>* candidates) const {
  candidates->clear();
  for (const Entry& entry : entries_) candidates->push_back(entry.candidate);
}

}  // namespace nann
