#include "matrix_layouts.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace nann {
namespace {

// Bits of a kProduct's second parameter.
enum : uint32_t {
  kLeftBelow = 1,
  kLeftTransposed = 2,
  kRightBelow = 4,
  kRightTransposed = 8,
  kOutBelow = 16,
  kAllBits = 31
};

// More than the axes of any tensor, items and both sides of a matrix included.
constexpr size_t kMostAxes = 10;
constexpr size_t kAxisParameters = 3;
constexpr size_t kBeforeAxes = 4;

}  // namespace

BlocksView GroupLayout::View(RowsView view, const ValueShape& shape) const {
  BlocksView blocks;
  blocks.data = view.data;
  blocks.item = shape.per_item ? shape.rows * view.stride : 0;
  blocks.group = below ? Down(shape) * view.stride : Across(shape);
  blocks.row = transposed ? 1 : view.stride;
  blocks.column = transposed ? view.stride : 1;
  return blocks;
}

absl::StatusOr<ProductLayout> ProductLayout::Of(absl::Span<const uint32_t> parameters, const ValueShape& left,
                                                const ValueShape& right) {
  const int64_t groups = parameters[0];
  const uint32_t bits = parameters[1];
  if (groups < 1 || bits > kAllBits) {
    return absl::InvalidArgumentError(absl::StrCat(groups, " groups, layout ", bits));
  }
  ProductLayout product;
  product.left = {groups, (bits & kLeftBelow) != 0, (bits & kLeftTransposed) != 0};
  product.right = {groups, (bits & kRightBelow) != 0, (bits & kRightTransposed) != 0};
  product.out = {groups, (bits & kOutBelow) != 0, false};
  const bool fits = product.left.Fits(left) && product.right.Fits(right);
  if (!fits || product.left.Columns(left) != product.right.Rows(right)) {
    return absl::InvalidArgumentError(absl::StrCat(left.DebugString(), " x ", right.DebugString(), " in ",
                                                   groups, " groups, layout ", bits));
  }
  product.rows = product.left.Rows(left);
  product.depth = product.left.Columns(left);
  product.columns = product.right.Columns(right);
  product.shape = {left.per_item || right.per_item, product.rows * (product.out.below ? groups : 1),
                   product.columns * (product.out.below ? 1 : groups)};
  return product;
}

absl::StatusOr<Rearrangement> Rearrangement::Of(absl::Span<const uint32_t> parameters,
                                                const ValueShape& from) {
  const size_t count = (parameters.size() - kBeforeAxes) / kAxisParameters;
  if (parameters.size() != kBeforeAxes + kAxisParameters * count || count > kMostAxes) {
    return absl::InvalidArgumentError(absl::StrCat(parameters.size(), " parameters"));
  }
  Rearrangement found;
  found.shape = {from.per_item, parameters[0], parameters[1]};
  found.first_row = parameters[2];
  found.first_column = parameters[3];
  int64_t last_row = found.first_row, last_column = found.first_column;
  for (const uint32_t* at = parameters.data() + kBeforeAxes; found.axes.size() < count;
       at += kAxisParameters) {
    found.axes.push_back({at[0], at[1], at[2]});
    if (at[0] < 1 || at[0] > kMaxSide) return absl::InvalidArgumentError(absl::StrCat("an axis of ", at[0]));
    last_row += (int64_t{at[0]} - 1) * at[1];
    last_column += (int64_t{at[0]} - 1) * at[2];
  }
  if (last_row >= from.rows || last_column >= from.columns) {
    return absl::InvalidArgumentError(
        absl::StrCat("row ", last_row, ", column ", last_column, " of ", from.DebugString()));
  }
  // The last axes make up the columns, the others the rows.
  int64_t rows = 1, columns = 1;
  found.row_axes = count;
  while (found.row_axes > 0 && columns < found.shape.columns) columns *= found.axes[--found.row_axes].size;
  for (size_t axis = 0; axis < found.row_axes && rows <= kMaxSide; ++axis) rows *= found.axes[axis].size;
  if (rows != found.shape.rows || columns != found.shape.columns) {
    return absl::InvalidArgumentError(
        absl::StrCat("axes of ", rows, " rows and ", columns, " columns for ", found.shape.DebugString()));
  }
  return found;
}

namespace {

// The floats from one index to the next of some axes as one; none where there is no such number. 0: one
// index.
std::optional<int64_t> StepOf(absl::Span<const Rearrangement::Axis> axes, int64_t from_stride) {
  int64_t size = 1, step = 0;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    if (axis->size == 1) continue;
    const int64_t floats = axis->row_step * from_stride + axis->column_step;
    if (size == 1) step = floats;
    if (floats != size * step) return std::nullopt;
    size *= axis->size;
  }
  return step;
}

}  // namespace

std::optional<std::pair<int64_t, int64_t>> Rearrangement::RowStep(int64_t from_stride) const {
  const absl::Span<const Axis> all(axes);
  const auto rows = StepOf(all.subspan(0, row_axes), from_stride);
  const auto columns = StepOf(all.subspan(row_axes), from_stride);
  if (!rows.has_value() || !columns.has_value() || *columns > 1 || (*columns == 0 && shape.columns > 1)) {
    return std::nullopt;
  }
  return std::make_pair(first_row * from_stride + first_column, *rows);
}

void Rearrangement::Run(const TileKernels& kernels, RowsView from, int64_t from_item, int64_t items,
                        float* to, int64_t to_stride, int64_t to_item) const {
  Step steps[kMostAxes + 2];
  int count = 0;
  const auto add = [&](const Axis& axis) {
    steps[count++] = {axis.size, axis.row_step * from.stride + axis.column_step};
  };
  // Rows of one number that lie one after the other are one row.
  const size_t axes_of_rows = to_stride == 1 ? 0 : row_axes;
  if (axes_of_rows == 0) add({1, 0, 0});
  for (size_t i = 0; i < axes_of_rows; ++i) add(axes[i]);
  const int rows = count;
  for (size_t i = axes_of_rows; i < axes.size(); ++i) add(axes[i]);
  if (count == rows) add({1, 0, 1});
  SteppedCopy copy;
  copy.rows = steps;
  copy.row_axes = rows;
  copy.columns = steps + rows;
  copy.column_axes = count - rows;
  copy.items = items;
  copy.from = from.data + first_row * from.stride + first_column;
  copy.from_item = from_item;
  copy.out = to;
  copy.out_item = to_item;
  copy.out_stride = to_stride;
  kernels.copy_steps(copy);
}

}  // namespace nann
