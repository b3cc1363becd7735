// Where the numbers of kProduct and kRearrange lie. Immutable, so thread-safe.
#ifndef NANN_OPS_CORE_SCORER_MATRIX_LAYOUTS_H_
#define NANN_OPS_CORE_SCORER_MATRIX_LAYOUTS_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "scorer_program.h"
#include "tile_kernels.h"

namespace nann {

// The matrices of the groups in one value: below one another, or side by side.
struct GroupLayout {
  int64_t groups = 1;
  bool below = false;
  bool transposed = false;  // As they lie: the product takes their transposes.

  bool Fits(const ValueShape& shape) const { return (below ? shape.rows : shape.columns) % groups == 0; }
  // Of one group, as it is multiplied with.
  int64_t Rows(const ValueShape& shape) const { return transposed ? Across(shape) : Down(shape); }
  int64_t Columns(const ValueShape& shape) const { return transposed ? Down(shape) : Across(shape); }
  BlocksView View(RowsView view, const ValueShape& shape) const;

 private:
  int64_t Down(const ValueShape& shape) const { return below ? shape.rows / groups : shape.rows; }
  int64_t Across(const ValueShape& shape) const { return below ? shape.columns : shape.columns / groups; }
};

// Of a kProduct: its parameters, and what follows from them.
struct ProductLayout {
  GroupLayout left, right, out;
  int64_t rows = 0, depth = 0, columns = 0;  // Of one group.
  ValueShape shape;

  static absl::StatusOr<ProductLayout> Of(absl::Span<const uint32_t> parameters, const ValueShape& left,
                                          const ValueShape& right);
};

// Of a kRearrange: the result's numbers, row by row, are those of `x` at first + sum of index x step over all
// axes, the last axis running fastest.
struct Rearrangement {
  struct Axis {
    int64_t size, row_step, column_step;
  };
  ValueShape shape;
  int64_t first_row = 0, first_column = 0;
  std::vector<Axis> axes;
  size_t row_axes = 0;  // The first axes make the rows of the result, the others its columns.

  static absl::StatusOr<Rearrangement> Of(absl::Span<const uint32_t> parameters, const ValueShape& from);
  // Where the result's rows lie in a value whose rows are `from_stride` apart: the first float, and the
  // floats from row to row. None where they do not lie there in one piece each, equally far apart.
  std::optional<std::pair<int64_t, int64_t>> RowStep(int64_t from_stride) const;
  // The matrices of some items, `from_item` and `to_item` floats apart. Of a result of one axis of columns,
  // no more than the whole strips of each row are written.
  void Run(const TileKernels& kernels, RowsView from, int64_t from_item, int64_t items, float* to,
           int64_t to_stride, int64_t to_item) const;
  bool HasOneColumnAxis() const { return axes.size() <= row_axes + 1; }
};

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_MATRIX_LAYOUTS_H_
