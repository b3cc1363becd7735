// Some rows of columns, laid together, so that a filter is tried on them quickly.
#ifndef NANN_OPS_CORE_FILTER_ATTRIBUTE_SAMPLE_H_
#define NANN_OPS_CORE_FILTER_ATTRIBUTE_SAMPLE_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "attribute_columns.h"

namespace nann {

// Rows that a sample has. The share that passes is known to within 0.008 (one standard deviation).
inline constexpr int64_t kSampleRows = 4096;

// A copy of kSampleRows rows, spread over all, of columns that have at least as many; dictionaries are not
// copied, so the columns must outlive it. Which rows these are depends on their number alone. Thread-safe: it
// never changes. Not copyable, because its columns are views of its own memory.
class AttributeSample {
 public:
  explicit AttributeSample(const AttributeColumns& columns);
  AttributeSample(const AttributeSample&) = delete;
  AttributeSample& operator=(const AttributeSample&) = delete;

  const AttributeColumns& columns() const { return columns_; }

 private:
  AttributeColumn Copy(const AttributeColumn& column, const std::vector<int64_t>& rows);

  // A deque, so that what is there stays where it is.
  template <typename T>
  using Buffers = std::deque<std::vector<T>>;
  Buffers<int64_t> int64s_;
  Buffers<float> floats_;
  Buffers<uint8_t> bools_;
  Buffers<int32_t> codes_;
  Buffers<uint64_t> bits_;
  AttributeColumns columns_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_ATTRIBUTE_SAMPLE_H_
