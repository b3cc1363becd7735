// Kernels that copy. Included after tile_kernels_groups_inl.h, under the same conditions.

NANN_KERNEL void Copy(RowsView in, int64_t rows, int64_t width, bool whole_strips, float* out,
                      int64_t out_stride) {
  if (width == 1 && !whole_strips) {
    for (int64_t row = 0; row < rows; ++row) out[row * out_stride] = in.data[row * in.stride];
    return;
  }
  const int64_t rest = whole_strips ? 0 : width % kWidth;
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = in.data + row * in.stride;
    float* to = out + row * out_stride;
    for (int64_t column = 0; column < width - rest; column += kWidth) Store(to + column, Load(from + column));
    if (rest > 0) StoreFirst(to + width - rest, Load(from + width - rest), rest);
  }
}

// Whole vectors: what is written behind the run is written again by the next one, or lies in the strip that
// every value has behind it.
NANN_SIMD void CopyRun(const Step& run, const float* from, float* to) {
  if (run.floats == 1) {
    for (int64_t i = 0; i < run.size; i += kWidth) Store(to + i, Load(from + i));
  } else {
    for (int64_t i = 0; i < run.size; ++i) to[i] = from[i * run.floats];
  }
}

// Returns where the next run goes.
NANN_KERNEL float* CopyColumns(const Step* axes, int count, const float* from, float* to) {
  const Step& run = axes[count - 1];
  if (count == 1) {
    CopyRun(run, from, to);
    return to + run.size;
  }
  // Turned, or each number several times. What is written by fours must not reach what was written before.
  const bool by_fours = run.size <= 4 || run.size % 4 == 0;
  if (count == 2 && axes[0].floats == 1 && run.floats != 1 && by_fours) {
    Turn(from, run.floats, axes[0].size, run.size, to, run.size);
    return to + axes[0].size * run.size;
  }
  for (int64_t i = 0; i < axes[0].size; ++i, from += axes[0].floats) {
    if (count > 2) {
      to = CopyColumns(axes + 1, count - 1, from, to);
    } else {
      CopyRun(run, from, to);
      to += run.size;
    }
  }
  return to;
}

// The rows of the axes from `axis` on. Returns where the next row goes.
NANN_KERNEL float* CopyRowAxes(const SteppedCopy& copy, int axis, const float* from, float* to) {
  const Step& rows = copy.rows[axis];
  const Step& run = copy.columns[0];
  if (axis + 1 < copy.row_axes) {
    for (int64_t i = 0; i < rows.size; ++i) to = CopyRowAxes(copy, axis + 1, from + i * rows.floats, to);
    return to;
  }
  if (copy.column_axes == 1 && run.floats == 1) {
    Copy({from, rows.floats}, rows.size, run.size, true, to, copy.out_stride);
  } else if (copy.column_axes == 1 && rows.floats == 1) {
    Turn(from, run.floats, rows.size, run.size, to, copy.out_stride);
  } else {
    for (int64_t i = 0; i < rows.size; ++i) {
      CopyColumns(copy.columns, copy.column_axes, from + i * rows.floats, to + i * copy.out_stride);
    }
  }
  return to + rows.size * copy.out_stride;
}

NANN_KERNEL void CopySteps(const SteppedCopy& copy) {
  for (int64_t item = 0; item < copy.items; ++item) {
    CopyRowAxes(copy, 0, copy.from + item * copy.from_item, copy.out + item * copy.out_item);
  }
}

NANN_KERNEL void Gather(RowsView table, int64_t table_rows, RowsView index, int64_t index_rows,
                        int64_t index_columns, int64_t width, float* out, int64_t out_stride) {
  for (int64_t row = 0; row < index_rows; ++row) {
    for (int64_t column = 0; column < index_columns; ++column, out += out_stride) {
      const float wanted = index.data[row * index.stride + column];
      const bool is_there = wanted >= 0.0f && wanted < static_cast<float>(table_rows);  // A NaN is not.
      const float* from = table.data + (is_there ? static_cast<int64_t>(wanted) * table.stride : 0);
      if (width == 1) {
        *out = is_there ? *from : 0.0f;
        continue;
      }
      for (int64_t i = 0; i < width; i += kWidth) Store(out + i, is_there ? Load(from + i) : Set(0.0f));
    }
  }
}
