#include "row_filter_parts.h"

#include <algorithm>
#include <utility>

#include "bits.h"
#include "predicate.h"

namespace nann {
namespace {

using Parts = std::vector<std::shared_ptr<const RowFilter>>;

// Whether rows pass the part that they are in.
class InParts : public Predicate {
 public:
  explicit InParts(Parts parts) : parts_(std::move(parts)) {
    int64_t end = 0;
    for (const auto& part : parts_) ends_.push_back(end += part->num_rows());
  }

  Truth Test(int64_t begin, int count) const override {
    uint64_t yes = 0;
    if (begin % kWordRows == 0 && begin + count <= ends_[0]) {
      // Nearly all rows are of the base, where 64 of them cost little more than one.
      yes = parts_[0]->PassesOf(begin / kWordRows) & LowBits(count);
    } else {
      for (int i = 0; i < count; ++i) yes |= static_cast<uint64_t>(Passes(begin + i)) << i;
    }
    return {yes, LowBits(count) & ~yes};
  }

  // The unit: the base's filter has checked what its own predicate costs, and a new row is a bit.
  double Cost() const override { return 1; }

 private:
  bool Passes(int64_t row) const {
    const size_t part = std::upper_bound(ends_.begin(), ends_.end(), row) - ends_.begin();
    const int64_t begin = ends_[part] - parts_[part]->num_rows();
    return parts_[part]->Passes(static_cast<int32_t>(row - begin));
  }

  const Parts parts_;
  std::vector<int64_t> ends_;  // Of the rows of each part.
};

// Sets the bits from `begin` on to `count` bits, where none is set.
void WriteBits(absl::Span<const uint64_t> bits, int64_t count, int64_t begin, std::vector<uint64_t>* to) {
  const int shift = static_cast<int>(begin % kWordRows);
  for (int64_t i = 0; i < NumWords(count); ++i) {
    const int64_t word = begin / kWordRows + i;
    (*to)[word] |= bits[i] << shift;
    const uint64_t rest = shift == 0 ? 0 : bits[i] >> (kWordRows - shift);
    if (rest != 0) (*to)[word + 1] |= rest;
  }
}

}  // namespace

RowFilter JoinFilters(Parts parts, const std::function<bool(int32_t row)>& deleted) {
  int64_t num_rows = 0;
  for (const auto& part : parts) num_rows += part->num_rows();
  if (parts[0]->bitmap().empty()) {
    const double share = parts[0]->share();
    return RowFilter(std::make_shared<const InParts>(std::move(parts)), num_rows, share);
  }
  std::vector<uint64_t> bitmap(NumWords(num_rows));
  int64_t begin = 0;
  for (const auto& part : parts) {
    WriteBits(part->bitmap(), part->num_rows(), begin, &bitmap);
    begin += part->num_rows();
  }
  for (size_t word = 0; word < bitmap.size(); ++word) {
    for (uint64_t bits = bitmap[word]; bits != 0; bits &= bits - 1) {
      const int bit = __builtin_ctzll(bits);
      if (deleted(static_cast<int32_t>(word) * kWordRows + bit)) bitmap[word] &= ~(uint64_t{1} << bit);
    }
  }
  return RowFilter(std::move(bitmap), num_rows);
}

}  // namespace nann
