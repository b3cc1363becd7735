#include "row_filter.h"

#include <algorithm>
#include <utility>

#include "bits.h"
#include "predicate.h"

namespace nann {

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

int64_t RowFilter::bytes() const {
  return static_cast<int64_t>(sizeof(RowFilter) + bitmap_.capacity() * sizeof(uint64_t));
}

std::vector<uint64_t> EvaluateRows(const Predicate& predicate, int64_t num_rows) {
  std::vector<uint64_t> bitmap(NumWords(num_rows));
  for (size_t word = 0; word < bitmap.size(); ++word) {
    const int64_t begin = static_cast<int64_t>(word) * kWordRows;
    const int count = static_cast<int>(std::min<int64_t>(num_rows - begin, kWordRows));
    bitmap[word] = predicate.Test(begin, count).yes;
  }
  return bitmap;
}

}  // namespace nann
