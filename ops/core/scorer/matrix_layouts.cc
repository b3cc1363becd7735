#include "matrix_layouts.h"

#include <algorithm>
#include <cstring>
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

// An axis by its step in floats.
struct Step {
  int64_t size, floats;
};

float* CopyColumns(absl::Span<const Step> axes, const float* from, float* to) {
  if (axes.empty()) {
    *to = *from;
    return to + 1;
  }
  const Step& axis = axes[0];
  if (axes.size() > 1) {
    for (int64_t i = 0; i < axis.size; ++i) to = CopyColumns(axes.subspan(1), from + i * axis.floats, to);
    return to;
  }
  if (axis.floats == 1) {
    std::memcpy(to, from, axis.size * sizeof(float));
  } else {
    for (int64_t i = 0; i < axis.size; ++i) to[i] = from[i * axis.floats];
  }
  return to + axis.size;
}

float* CopyRows(absl::Span<const Step> rows, absl::Span<const Step> columns, const float* from, float* to,
                int64_t to_stride) {
  if (rows.empty()) {
    CopyColumns(columns, from, to);
    return to + to_stride;
  }
  for (int64_t i = 0; i < rows[0].size; ++i) {
    to = CopyRows(rows.subspan(1), columns, from + i * rows[0].floats, to, to_stride);
  }
  return to;
}

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

void Rearrangement::Run(RowsView from, float* to, int64_t to_stride) const {
  Step steps[kMostAxes];
  for (size_t i = 0; i < axes.size(); ++i) {
    steps[i] = {axes[i].size, axes[i].row_step * from.stride + axes[i].column_step};
  }
  const absl::Span<const Step> all(steps, axes.size());
  CopyRows(all.subspan(0, row_axes), all.subspan(row_axes),
           from.data + first_row * from.stride + first_column, to, to_stride);
}

}  // namespace nann
