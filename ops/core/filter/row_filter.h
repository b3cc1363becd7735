// Which rows a filter lets pass.
#ifndef NANN_OPS_CORE_FILTER_ROW_FILTER_H_
#define NANN_OPS_CORE_FILTER_ROW_FILTER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../base/is_cancelled.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace nann {

class Predicate;

// A filter over the N rows of some columns, which must outlive it. Either all rows were tested, and there is
// a bitmap, or a sample showed that many rows pass, and each row is tested when it is asked for. Thread-safe:
// it never changes.
class RowFilter {
 public:
  // A filter with a bitmap of `num_rows` bits; bits at and after `num_rows` are 0.
  RowFilter(std::vector<uint64_t> bitmap, int64_t num_rows);
  // A filter without a bitmap, of which a share of `sampled_share` of the rows passes.
  RowFilter(std::shared_ptr<const Predicate> predicate, int64_t num_rows, double sampled_share);
  // A filter that all rows pass, without a bitmap.
  static RowFilter All(int64_t num_rows);

  // Whether the row passes; `position` is in [0, num_rows()).
  bool Passes(int32_t position) const;

  // Whether each of 64 rows passes: bit i is row 64 x `word` + i, 0 behind the last row. Of a filter without
  // a bitmap, a row costs much less than by Passes.
  uint64_t PassesOf(int64_t word) const;

  // Bit i % 64 of word i / 64 is set where row i passes; bits after the last row are 0. Empty where the
  // filter was not evaluated into a bitmap.
  absl::Span<const uint64_t> bitmap() const { return bitmap_; }

  int64_t num_rows() const { return num_rows_; }
  // How many rows pass; -1 where they were not counted.
  int64_t passing() const { return passing_; }
  // The share of rows that pass, 0 to 1: exact where they were counted, else that of a sample.
  double share() const { return share_; }
  // Memory that the filter holds.
  int64_t bytes() const;

 private:
  std::vector<uint64_t> bitmap_;
  std::shared_ptr<const Predicate> predicate_;  // Null: there is a bitmap, or every row passes.
  int64_t num_rows_ = 0;
  int64_t passing_ = -1;
  double share_ = 0.0;
};

// The bitmap of the rows for which a predicate is TRUE. Cancelled as soon as `is_cancelled`, which is asked
// every millisecond or so, says so; empty: never.
absl::StatusOr<std::vector<uint64_t>> EvaluateRows(const Predicate& predicate, int64_t num_rows,
                                                   const IsCancelled& is_cancelled = {});

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_ROW_FILTER_H_
