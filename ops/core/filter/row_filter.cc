#include "row_filter.h"

#include <algorithm>
#include <utility>

#include "bits.h"
#include "predicate.h"

namespace nann {
namespace {

// Words between two looks at whether the request still waits: 4,096 rows, which take some microseconds, and
// with the longest of filters 100 ms.
constexpr int64_t kWordsAtOnce = 64;

// The rows of one word for which the predicate is TRUE.
uint64_t TestWord(const Predicate& predicate, int64_t word, int64_t num_rows) {
  const int64_t begin = word * kWordRows;
  return predicate.Test(begin, static_cast<int>(std::min<int64_t>(num_rows - begin, kWordRows))).yes;
}

}  // namespace

RowFilter::RowFilter(std::vector<uint64_t> bitmap, int64_t num_rows)
    : bitmap_(std::move(bitmap)), num_rows_(num_rows), passing_(0) {
  for (uint64_t word : bitmap_) passing_ += __builtin_popcountll(word);
  share_ = num_rows > 0 ? static_cast<double>(passing_) / static_cast<double>(num_rows) : 0.0;
}

RowFilter::RowFilter(std::shared_ptr<const Predicate> predicate, int64_t num_rows, double sampled_share)
    : predicate_(std::move(predicate)), num_rows_(num_rows), share_(sampled_share) {}

RowFilter RowFilter::All(int64_t num_rows) {
  RowFilter all(nullptr, num_rows, 1.0);
  all.passing_ = num_rows;
  return all;
}

bool RowFilter::Passes(int32_t position) const {
  if (!bitmap_.empty()) return TestBit(bitmap_.data(), position);
  return predicate_ == nullptr || predicate_->Test(position, 1).yes != 0;
}

uint64_t RowFilter::PassesOf(int64_t word) const {
  if (!bitmap_.empty()) return bitmap_[word];
  if (predicate_ != nullptr) return TestWord(*predicate_, word, num_rows_);
  return LowBits(static_cast<int>(std::min<int64_t>(num_rows_ - word * kWordRows, kWordRows)));
}

int64_t RowFilter::bytes() const {
  return static_cast<int64_t>(sizeof(RowFilter) + bitmap_.capacity() * sizeof(uint64_t));
}

absl::StatusOr<std::vector<uint64_t>> EvaluateRows(const Predicate& predicate, int64_t num_rows,
                                                   const IsCancelled& is_cancelled) {
  std::vector<uint64_t> bitmap(NumWords(num_rows));
  for (int64_t word = 0; word < NumWords(num_rows); ++word) {
    if (word % kWordsAtOnce == 0 && is_cancelled && is_cancelled()) {
      return absl::CancelledError("filter: the request was cancelled or its deadline passed");
    }
    bitmap[word] = TestWord(predicate, word, num_rows);
  }
  return bitmap;
}

}  // namespace nann
