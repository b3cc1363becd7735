// Tables in mapped memory: embeddings, whose rows are gathered as float32, and vocabularies.
#ifndef NANN_OPS_CORE_INDEX_TABLE_H_
#define NANN_OPS_CORE_INDEX_TABLE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "npy.h"

namespace nann {

enum class TableType { kFloat32, kFloat16, kBfloat16, kInt8, kInt64 };

// A view of an array, whose owner must outlive it. Thread-safe: it never changes.
class Table {
 public:
  // A floating-point table is an array [rows, width]; bfloat16 is stored as uint16, because NumPy lacks the
  // type. An int8 table is an array of uint8, [rows, bytes of a row] (int8_rows.h); it counts as
  // floating-point. An int64 table, a vocabulary, is an array [rows] of ascending ids. InvalidArgument names
  // the file, the expected and the actual type and rank.
  static absl::StatusOr<Table> Create(const NpyArray& array, TableType type);

  // The same table with another number of rows, which its owner knows to be there.
  Table WithRows(int64_t rows) const {
    Table table = *this;
    table.rows_ = rows;
    return table;
  }

  TableType type() const { return type_; }
  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }

  // The values of a kInt64 table.
  absl::Span<const int64_t> AsInt64() const {
    return absl::Span<const int64_t>(static_cast<const int64_t*>(data_), rows_);
  }

  // The values of a kFloat32 table, row by row.
  absl::Span<const float> AsFloat32() const {
    return absl::Span<const float>(static_cast<const float*>(data_), rows_ * width_);
  }

  // A row as it is stored.
  int64_t row_bytes() const { return row_bytes_; }
  const char* RowData(int64_t row) const { return static_cast<const char*>(data_) + row * row_bytes_; }

  // The values of a kFloat16 table as they are stored, row by row.
  const uint16_t* AsFloat16() const { return static_cast<const uint16_t*>(data_); }

  // Columns [begin, begin + count) of row i, as float32, are written to out[i * stride, i * stride + count).
  struct Columns {
    int64_t begin = 0, count = 0;
    float* out = nullptr;
    int64_t stride = 0;
  };

  // Writes the columns of rows[i]. The caller has checked that the table is floating-point and that every row
  // is in [0, rows()).
  template <typename Row>
  void Gather(absl::Span<const Row> rows, absl::Span<const Columns> columns) const;
  template <typename Row>
  void Gather(absl::Span<const Row> rows, float* out) const {
    const Columns all{0, width_, out, width_};
    Gather(rows, absl::MakeConstSpan(&all, 1));
  }

 private:
  void CopyColumns(const char* row, const Columns& columns, float* out) const;  // Of kInt8, all of them.

  TableType type_ = TableType::kFloat32;
  int64_t rows_ = 0;
  int64_t width_ = 0;
  int64_t row_bytes_ = 0;
  const void* data_ = nullptr;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_TABLE_H_
