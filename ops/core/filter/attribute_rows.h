// Attributes in memory of their own: rows of several sources, one after the other.
#ifndef NANN_OPS_CORE_FILTER_ATTRIBUTE_ROWS_H_
#define NANN_OPS_CORE_FILTER_ATTRIBUTE_ROWS_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "attribute_columns.h"

namespace nann {

// Some rows of one attribute, as a source has them. A view. No element of a list is NULL.
struct AttributePart {
  // Of strings: `codes` may be empty, then value i is string i of the dictionary. The dictionary may have any
  // order, and a string several times.
  AttributeColumn column;
  const uint8_t* nulls = nullptr;  // [rows], 1 where a row is NULL; replaces column.valid.

  bool IsNull(int64_t row) const;
};

// Owns its columns. Thread-safe: it never changes. Not copyable, because the columns are views of its memory.
class AttributeRows {
 public:
  // Rows of a source: one part for each attribute, whose names and types are the same in all sources.
  struct Source {
    int64_t num_rows = 0;
    absl::Span<const AttributePart> parts;
  };

  // The rows of all sources, at least one, in their order. Takes time by their size and, for strings, by the
  // logarithm of how many there are. Fewer than 2^31 strings.
  explicit AttributeRows(absl::Span<const Source> sources);
  AttributeRows(const AttributeRows&) = delete;
  AttributeRows& operator=(const AttributeRows&) = delete;

  const AttributeColumns& columns() const { return columns_; }

  // The columns as parts of a further source.
  std::vector<AttributePart> Parts() const;

 private:
  // What belongs to another type is empty.
  struct Memory {
    std::vector<int64_t> int64s;
    std::vector<float> floats;
    std::vector<uint8_t> bools;
    std::vector<int32_t> codes;
    std::vector<uint64_t> valid;
    std::vector<int64_t> offsets;
    std::string dictionary;
    std::vector<int64_t> dictionary_offsets;
  };

  AttributeColumn Join(absl::Span<const Source> sources, size_t attribute, int64_t num_rows, Memory* memory);
  static void JoinStrings(absl::Span<const Source> sources, size_t attribute, Memory* memory);

  std::deque<Memory> memory_;  // By attribute. A deque, so that what is there stays where it is.
  AttributeColumns columns_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_ATTRIBUTE_ROWS_H_
