#include "axis_spans.h"

#include <algorithm>

namespace nann {

Stepping SteppingOf(const AxisSpan& span, int64_t size, int64_t step) {
  if (size == 1 || step == 0) return Stepping::kNone;
  if (step % (span.count * span.inner) == 0) return Stepping::kOuter;
  if (step == span.inner && size % span.count == 0) return Stepping::kPositions;
  return step < span.inner ? Stepping::kInner : Stepping::kOther;
}

AxisSpreader::AxisSpreader(const ScorerProgram& program, int64_t positions)
    : instructions_(program.instructions()),
      positions_(positions),
      spans_(instructions_.size()),
      kept_(positions, false) {}

bool AxisSpreader::Spread(int value, Side side) {
  Set({value, side}, {1, 1, 0, positions_});
  changed_ = true;
  // An axis turns back a few times at most: from a product to its operands, and on to what they are for.
  constexpr int kMostPasses = 16;
  const int count = static_cast<int>(instructions_.size());
  for (int pass = 0; changed_ && !failed_; ++pass) {
    if (pass == kMostPasses) return false;
    changed_ = false;
    const bool back = pass % 2 == 1;
    for (int i = 0; i < count && !failed_; ++i) {
      const int each = back ? count - 1 - i : i;
      if (At(each).shape.per_item) Relate(each);
    }
  }
  return !failed_;
}

void AxisSpreader::Set(End end, const AxisSpan& span) {
  AxisSpan& known = spans_[end.first][end.second];
  if (known == span) return;
  const bool fits = !known.exists() && span.size() == SizeOf(At(end.first).shape, end.second) &&
                    (span.count == positions_ || !At(end.first).shape.per_item);
  if (!fits) {
    failed_ = true;
    return;
  }
  known = span;
  changed_ = true;
}

// Sides that have the positions in the same way, but for the groups that each of them holds.
void AxisSpreader::Unify(End a, End b, int64_t a_groups, int64_t b_groups) {
  if (!Of(a).exists()) {
    std::swap(a, b);
    std::swap(a_groups, b_groups);
  }
  AxisSpan span = Of(a);
  if (!span.exists()) return;
  if (span.outer % a_groups != 0) {
    failed_ = true;
    return;
  }
  span.outer = span.outer / a_groups * b_groups;
  Set(b, span);
}

// An operand's rows or columns of 1 are repeated.
void AxisSpreader::UnifyBroadcast(int operand, int value) {
  for (Side side : {kRows, kColumns}) {
    if (SizeOf(At(operand).shape, side) > 1) Unify({operand, side}, {value, side});
  }
}

void AxisSpreader::Relate(int value) {
  const Instruction& instruction = At(value);
  const int first = instruction.operands.empty() ? -1 : instruction.operands[0];
  switch (instruction.opcode) {
    case Opcode::kTable:
      failed_ = failed_ || Of({value, kRows}).exists() || Of({value, kColumns}).exists();
      return;
    case Opcode::kGemm:
      return RelateGemm(value);
    case Opcode::kProduct:
      return RelateProduct(value);
    case Opcode::kConcat:
      return RelateConcat(value);
    case Opcode::kReshape:
      return RelateReshape(value);
    case Opcode::kRearrange:
      return RelateRearrange(value);
    case Opcode::kReduce:
      return instruction.over_rows() ? Unify({first, kColumns}, {value, kColumns})
                                     : Unify({first, kRows}, {value, kRows});
    case Opcode::kSimilarity:
      Unify({first, kRows}, {value, kRows});
      return Unify({first, kColumns}, {instruction.operands[1], kColumns});
    case Opcode::kGather:
      return RelateGather(value);
    case Opcode::kTranspose:
      Unify({first, kRows}, {value, kColumns});
      return Unify({first, kColumns}, {value, kRows});
    case Opcode::kSlice:
      Unify({first, kRows}, {value, kRows});
      if (At(first).shape.columns == instruction.shape.columns) {
        return Unify({first, kColumns}, {value, kColumns});
      }
      failed_ = failed_ || Of({first, kColumns}).exists() || Of({value, kColumns}).exists();
      return;
    default:
      for (int operand : instruction.operands) UnifyBroadcast(operand, value);
  }
}

// A row for each number of the index, which says where the rows of a table are: they must stay there.
void AxisSpreader::RelateGather(int value) {
  const int table = At(value).operands[0], index = At(value).operands[1];
  failed_ = failed_ || Of({table, kRows}).exists();
  Unify({table, kColumns}, {value, kColumns});
  if (At(index).shape.columns == 1) return Unify({index, kRows}, {value, kRows});
  if (At(index).shape.rows == 1) return Unify({index, kColumns}, {value, kRows});
  const bool on_index = Of({index, kRows}).exists() || Of({index, kColumns}).exists();
  failed_ = failed_ || on_index || Of({value, kRows}).exists();
}

void AxisSpreader::RelateGemm(int value) {
  const Instruction& gemm = At(value);
  for (int t = 0; t < gemm.num_terms(); ++t) {
    const Side depth = gemm.transposed(t) ? kColumns : kRows, width = gemm.transposed(t) ? kRows : kColumns;
    if (gemm.shape.rows > 1) Unify({gemm.left(t), kRows}, {value, kRows});
    Unify({gemm.matrix(t), width}, {value, kColumns});
    Unify({gemm.left(t), kColumns}, {gemm.matrix(t), depth});
  }
  for (int addend : gemm.addends()) UnifyBroadcast(addend, value);
  if (gemm.has_slope()) Unify({gemm.slope(), kColumns}, {value, kColumns});
}

void AxisSpreader::RelateProduct(int value) {
  const Instruction& product = At(value);
  const int left = product.operands[0], right = product.operands[1];
  const ProductLayout layout = *ProductLayout::Of(product.parameters, At(left).shape, At(right).shape);
  const auto groups = [&](const GroupLayout& of, Side side) {
    return (side == kRows) == of.below ? of.groups : int64_t{1};
  };
  const auto unify = [&](int a, const GroupLayout& a_layout, Side a_side, int b, const GroupLayout& b_layout,
                         Side b_side) {
    Unify({a, a_side}, {b, b_side}, groups(a_layout, a_side), groups(b_layout, b_side));
  };
  const Side left_rows = layout.left.transposed ? kColumns : kRows,
             left_depth = layout.left.transposed ? kRows : kColumns,
             right_depth = layout.right.transposed ? kColumns : kRows,
             right_width = layout.right.transposed ? kRows : kColumns;
  unify(left, layout.left, left_rows, value, layout.out, kRows);
  unify(right, layout.right, right_width, value, layout.out, kColumns);
  unify(left, layout.left, left_depth, right, layout.right, right_depth);
}

// Parts that hold the positions one after the other: those of an item are kept, those of the user are where
// positions are left out.
void AxisSpreader::RelateConcat(int value) {
  const Instruction& joined = At(value);
  const Side along = joined.over_rows() ? kRows : kColumns, across = joined.over_rows() ? kColumns : kRows;
  for (int part : joined.operands) {
    if (SizeOf(At(part).shape, across) > 1) Unify({part, across}, {value, across});
  }
  const AxisSpan whole = Of({value, along});
  int64_t first = 0;
  for (int part : joined.operands) {
    const int64_t size = SizeOf(At(part).shape, along);
    if (!whole.exists()) {
      failed_ = failed_ || Of({part, along}).exists();
    } else if (whole.outer != 1 || whole.inner != 1) {
      failed_ = true;
    } else if (At(part).shape.per_item) {
      std::fill_n(kept_.begin() + first, size, true);
    } else {
      Set({part, along}, {1, 1, first, size});
    }
    first += size;
  }
}

// Of a value's numbers, row by row, as one side.
std::optional<AxisSpan> AxisSpreader::Flat(int value) const {
  const AxisSpans& spans = spans_[value];
  AxisSpan flat = spans[kRows].exists() ? spans[kRows] : spans[kColumns];
  if (!flat.exists() || (spans[kRows].exists() && spans[kColumns].exists())) return std::nullopt;
  (spans[kRows].exists() ? flat.inner : flat.outer) *=
      SizeOf(At(value).shape, spans[kRows].exists() ? kColumns : kRows);
  return flat;
}

void AxisSpreader::SetFlat(int value, const AxisSpan& flat) {
  const ValueShape& shape = At(value).shape;
  AxisSpan span = flat;
  if (flat.inner % shape.columns == 0) {
    span.inner = flat.inner / shape.columns;
    Set({value, kRows}, span);
  } else if (shape.columns % (flat.inner * flat.count) == 0) {
    span.outer = shape.columns / (flat.inner * flat.count);
    Set({value, kColumns}, span);
  } else {
    failed_ = true;
  }
}

void AxisSpreader::RelateReshape(int value) {
  const int from = At(value).operands[0];
  const bool both = (Of({from, kRows}).exists() && Of({from, kColumns}).exists()) ||
                    (Of({value, kRows}).exists() && Of({value, kColumns}).exists());
  failed_ = failed_ || both;
  const std::optional<AxisSpan> forward = Flat(from);
  if (forward.has_value()) SetFlat(value, *forward);
  const std::optional<AxisSpan> backward = Flat(value);
  if (backward.has_value()) SetFlat(from, *backward);
}

void AxisSpreader::RelateRearrange(int value) {
  const Rearrangement moved = *Rearrangement::Of(At(value).parameters, At(At(value).operands[0]).shape);
  RearrangeBackward(value, moved);
  RearrangeForward(value, moved);
}

namespace {

int64_t SizeOfAxes(const Rearrangement& moved, size_t begin, size_t end) {
  int64_t size = 1;
  for (size_t axis = begin; axis < end; ++axis) size *= moved.axes[axis].size;
  return size;
}

}  // namespace

void AxisSpreader::RearrangeForward(int value, const Rearrangement& moved) {
  const int from = At(value).operands[0];
  for (Side side : {kRows, kColumns}) {
    const AxisSpan& span = Of({from, side});
    if (!span.exists()) continue;
    const SpanIndex begin = IndexIn(span, side == kRows ? moved.first_row : moved.first_column);
    int64_t last_inner = begin.inner;
    bool found = false;
    for (size_t i = 0; i < moved.axes.size(); ++i) {
      const Rearrangement::Axis& axis = moved.axes[i];
      const Stepping stepping = SteppingOf(span, axis.size, side == kRows ? axis.row_step : axis.column_step);
      if (stepping == Stepping::kNone) continue;
      const bool diagonal = axis.row_step != 0 && axis.column_step != 0;
      if (stepping == Stepping::kInner)
        last_inner += (axis.size - 1) * (side == kRows ? axis.row_step : axis.column_step);
      if (stepping == Stepping::kPositions && !found && begin.position == 0) {
        const bool in_rows = i < moved.row_axes;
        Set({value, in_rows ? kRows : kColumns},
            {SizeOfAxes(moved, in_rows ? 0 : moved.row_axes, i) * (axis.size / span.count),
             SizeOfAxes(moved, i + 1, in_rows ? moved.row_axes : moved.axes.size()), 0, span.count});
        found = true;
      } else if (stepping == Stepping::kPositions) {
        failed_ = true;
      }
      failed_ = failed_ || diagonal || stepping == Stepping::kOther;
    }
    failed_ = failed_ || last_inner >= span.inner;
    if (!found) kept_[begin.position] = true;
  }
}

void AxisSpreader::RearrangeBackward(int value, const Rearrangement& moved) {
  const int from = At(value).operands[0];
  for (Side side : {kRows, kColumns}) {
    const AxisSpan span = Of({value, side});
    if (!span.exists()) continue;
    const size_t begin = side == kRows ? 0 : moved.row_axes,
                 end = side == kRows ? moved.row_axes : moved.axes.size();
    bool found = false;
    for (size_t i = begin; i < end && !found; ++i) {
      const Rearrangement::Axis& axis = moved.axes[i];
      if (axis.size % span.count != 0 || SizeOfAxes(moved, i + 1, end) != span.inner) continue;
      if ((axis.row_step == 0) == (axis.column_step == 0)) continue;
      const Side of = axis.row_step != 0 ? kRows : kColumns;
      const int64_t step = of == kRows ? axis.row_step : axis.column_step;
      const int64_t size = SizeOf(At(from).shape, of);
      if (size % (span.count * step) != 0) continue;
      Set({from, of}, {size / (span.count * step), step, 0, span.count});
      found = true;
    }
    failed_ = failed_ || !found;
  }
}

}  // namespace nann
