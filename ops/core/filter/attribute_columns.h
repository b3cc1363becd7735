// Attributes: typed columns of the items, which filters read.
#ifndef NANN_OPS_CORE_FILTER_ATTRIBUTE_COLUMNS_H_
#define NANN_OPS_CORE_FILTER_ATTRIBUTE_COLUMNS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../index/npy.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace nann {

enum class ValueType { kInt64, kFloat32, kBool, kString };

// The type of a column: "int64", or "list<int64>" for lists of it.
struct AttributeType {
  ValueType value = ValueType::kInt64;
  bool is_list = false;

  static absl::StatusOr<AttributeType> Parse(absl::string_view name);
  std::string ToString() const;
};

// The arrays of one attribute as they come from files, N rows. docs/filters.md#files.
struct AttributeArrays {
  std::string name;
  AttributeType type;
  // [N], or for lists [elements]: int64, float32, bool, or int32 codes, which are rows of the dictionary.
  NpyArray values;
  // uint64 [ceil(N / 64)]: bit i % 64 of word i / 64 is set where row i is not NULL. Absent: no row is NULL.
  std::optional<NpyArray> valid;
  // Lists only. int64 [N + 1]: row i has the elements offsets[i] to offsets[i + 1] - 1.
  std::optional<NpyArray> offsets;
  // Lists only: as `valid`, for the elements.
  std::optional<NpyArray> element_valid;
  // Strings only. uint8 [bytes] and int64 [V + 1]: the distinct strings in ascending order of their bytes.
  std::optional<NpyArray> dictionary;
  std::optional<NpyArray> dictionary_offsets;
};

// One attribute. A view: the arrays must outlive it. What belongs to another type is empty.
struct AttributeColumn {
  std::string name;
  AttributeType type;
  absl::Span<const int64_t> int64s;
  absl::Span<const float> floats;
  absl::Span<const uint8_t> bools;  // 0 or 1.
  absl::Span<const int32_t> codes;  // -1 where the value is NULL.
  const uint64_t* valid = nullptr;  // nullptr: no row is NULL.
  absl::Span<const int64_t> offsets;
  const uint64_t* element_valid = nullptr;  // nullptr: no element is NULL.
  const char* dictionary = nullptr;
  absl::Span<const int64_t> dictionary_offsets;

  // Of lists, the mean number of elements; else 0.
  double mean_length() const {
    const auto rows = static_cast<double>(offsets.size()) - 1;
    return rows > 0 ? static_cast<double>(offsets.back()) / rows : 0;
  }
  int64_t num_strings() const { return static_cast<int64_t>(dictionary_offsets.size()) - 1; }
  absl::string_view String(int32_t code) const {
    return absl::string_view(dictionary + dictionary_offsets[code],
                             dictionary_offsets[code + 1] - dictionary_offsets[code]);
  }
};

// The attributes of N items, by position. A view of checked arrays, which must outlive it. Thread-safe: it
// never changes.
//
// Invariants: every column has N rows; offsets ascend from 0 to the number of elements; codes are -1, only
// where the value is NULL, or rows of the dictionary; the dictionary's strings strictly ascend; bools are 0
// or 1; names differ by more than the case of ASCII letters.
class AttributeColumns {
 public:
  AttributeColumns() = default;
  // Columns that hold the invariants.
  AttributeColumns(std::vector<AttributeColumn> columns, int64_t num_rows)
      : num_rows_(num_rows), columns_(std::move(columns)) {}

  // Checks all invariants. InvalidArgument names the file, what was expected and what was found.
  static absl::StatusOr<AttributeColumns> Create(absl::Span<const AttributeArrays> attributes,
                                                 int64_t num_rows);

  int64_t num_rows() const { return num_rows_; }
  absl::Span<const AttributeColumn> columns() const { return columns_; }

  // The column of this name, whatever the case of its ASCII letters; nullptr where there is none.
  const AttributeColumn* Find(absl::string_view name) const;

 private:
  int64_t num_rows_ = 0;
  std::vector<AttributeColumn> columns_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_ATTRIBUTE_COLUMNS_H_
