#include "table.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "../base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "float16.h"
#include "int8_rows.h"

namespace nann {
namespace {

// The rows of a large table lie anywhere in memory, and each would be waited for. While one is copied, eight
// are on their way: 1.3 instead of 1.9 ms for 11,800 rows of 1 kB (docs/notes/speed.md).
constexpr size_t kRowsAhead = 8;
// The cache level to fetch into, as __builtin_prefetch counts: the second, because the first level has too
// few outstanding misses for whole rows.
constexpr int kSecondLevel = 2;
constexpr int64_t kCacheLineBytes = 64;  // Of x86-64, and of most arm64 processors.

DType StorageOf(TableType type) {
  switch (type) {
    case TableType::kFloat32:
      return DType::kFloat32;
    case TableType::kFloat16:
      return DType::kFloat16;
    case TableType::kBfloat16:
      return DType::kUint16;
    case TableType::kInt8:
      return DType::kUint8;
    case TableType::kInt64:
      return DType::kInt64;
  }
  return DType::kFloat32;
}

// Lookups are binary searches: in another order they would miss ids that are there.
absl::Status CheckAscending(const NpyArray& array) {
  const absl::Span<const int64_t> values = array.Elements<int64_t>();
  const auto at = std::adjacent_find(values.begin(), values.end(), std::greater_equal<int64_t>());
  if (at == values.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(array.path, ": expected ids in ascending order, each once, found ", at[1], " after ",
                   at[0], " at index ", at - values.begin() + 1, "; sort the vocabulary and export again"));
}

absl::Status CheckInt8Rows(const NpyArray& array) {
  if (Int8RowWidth(array.shape[1]) >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(array.path, ": expected rows of int8 numbers and a scale for each ", kInt8Block,
                   " of them, found rows of ", array.shape[1], " bytes, which none have; export again"));
}

}  // namespace

absl::StatusOr<Table> Table::Create(const NpyArray& array, TableType type) {
  const int rank = type == TableType::kInt64 ? 1 : 2;
  NANN_RETURN_IF_ERROR(CheckArray(array, StorageOf(type), rank));
  if (type == TableType::kInt64) NANN_RETURN_IF_ERROR(CheckAscending(array));
  if (type == TableType::kInt8) NANN_RETURN_IF_ERROR(CheckInt8Rows(array));
  Table table;
  table.type_ = type;
  table.rows_ = array.shape[0];
  table.width_ = rank == 2 ? array.shape[1] : 1;
  table.row_bytes_ = table.width_ * DTypeSize(array.dtype);
  if (type == TableType::kInt8) table.width_ = Int8RowWidth(array.shape[1]);
  table.data_ = array.data;
  return table;
}

void Table::CopyColumns(const char* row, const Columns& columns, float* out) const {
  if (type_ == TableType::kFloat32) {
    std::memcpy(out, row + columns.begin * sizeof(float), columns.count * sizeof(float));
    return;
  }
  if (type_ == TableType::kInt8) return Int8RowToFloat32(row, width_, out);
  const uint16_t* values = reinterpret_cast<const uint16_t*>(row) + columns.begin;
  if (type_ == TableType::kFloat16) return Float16ToFloat32(values, columns.count, out);
  Bfloat16ToFloat32(values, columns.count, out);
}

template <typename Row>
void Table::Gather(absl::Span<const Row> rows, absl::Span<const Columns> columns) const {
  const auto fetch = [&](size_t i) {
    const char* row = RowData(rows[i]);
    for (int64_t byte = 0; byte < row_bytes_; byte += kCacheLineBytes) {
      __builtin_prefetch(row + byte, 0, kSecondLevel);
    }
    // A row of another size than whole lines may end in one more.
    if (type_ == TableType::kInt8) __builtin_prefetch(row + row_bytes_ - 1, 0, kSecondLevel);
  };
  // Numbers of an int8 row share scales, so that a row is read as a whole.
  const bool in_pieces = type_ == TableType::kInt8 && (columns.size() > 1 || columns[0].count < width_);
  std::vector<float> whole(in_pieces ? width_ : 0);
  for (size_t i = 0; i < rows.size() && i < kRowsAhead; ++i) fetch(i);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i + kRowsAhead < rows.size()) fetch(i + kRowsAhead);
    const char* row = RowData(rows[i]);
    if (in_pieces) Int8RowToFloat32(row, width_, whole.data());
    for (const Columns& part : columns) {
      float* out = part.out + i * part.stride;
      if (in_pieces) {
        std::copy_n(whole.begin() + part.begin, part.count, out);
      } else {
        CopyColumns(row, part, out);
      }
    }
  }
}

template void Table::Gather<int32_t>(absl::Span<const int32_t>, absl::Span<const Columns>) const;
template void Table::Gather<int64_t>(absl::Span<const int64_t>, absl::Span<const Columns>) const;

}  // namespace nann
