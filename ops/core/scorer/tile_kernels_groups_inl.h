// Kernels over matrices of items and of their groups, such as the heads of an attention. Included after
// tile_kernels_inl.h, under the same conditions.

// Over the rows of one item.
NANN_KERNEL void ReduceColumns(ReduceOp op, const float* in, int64_t stride, int64_t rows, int64_t width,
                               float* out) {
  const Vec share = Set(op == ReduceOp::kMean ? 1.0f / static_cast<float>(rows) : 1.0f);
  for (int64_t column = 0; column < width; column += kWidth) {
    Vec total = Load(in + column);
    for (int64_t row = 1; row < rows; ++row) {
      const Vec next = Load(in + row * stride + column);
      total = op == ReduceOp::kMax   ? Larger(total, next)
              : op == ReduceOp::kMin ? Smaller(total, next)
                                     : total + next;
    }
    Store(out + column, total * share);
  }
}

NANN_KERNEL void ReduceRows(ReduceOp op, RowsView in, int64_t items, int64_t rows, int64_t width, float* out,
                            int64_t out_stride) {
  for (int64_t item = 0; item < items; ++item) {
    ReduceColumns(op, in.data + item * rows * in.stride, in.stride, rows, width, out + item * out_stride);
  }
}

// kRows rows of a product's strip; `right` has its rows `right_stride` floats apart.
template <int kRows>
NANN_KERNEL void ProductBlock(const GroupedProduct& product, const float* left, const float* right,
                              int64_t right_stride, int64_t columns, float* out) {
  Vec sums[kRows][kStripVecs];
  for (int m = 0; m < kRows; ++m) {
    for (int v = 0; v < kStripVecs; ++v) sums[m][v] = Set(0.0f);
  }
  for (int64_t k = 0; k < product.depth; ++k) {
    Vec row[kStripVecs];
    for (int v = 0; v < kStripVecs; ++v) row[v] = Load(right + k * right_stride + v * kWidth);
    for (int m = 0; m < kRows; ++m) {
      const Vec value = Set(left[m * product.left.row + k * product.left.column]);
      for (int v = 0; v < kStripVecs; ++v) sums[m][v] = MultiplyAdd(value, row[v], sums[m][v]);
    }
  }
  for (int m = 0; m < kRows; ++m) {
    float* to = out + m * product.out_stride;
    if (columns == kStrip) {
      for (int v = 0; v < kStripVecs; ++v) Store(to + v * kWidth, sums[m][v]);
      continue;
    }
    float rest[kStrip];
    for (int v = 0; v < kStripVecs; ++v) Store(rest + v * kWidth, sums[m][v]);
    for (int64_t i = 0; i < columns; ++i) to[i] = rest[i];
  }
}

using ProductBlockFunction = void (*)(const GroupedProduct& product, const float* left, const float* right,
                                      int64_t right_stride, int64_t columns, float* out);

// One item's product of one group; `blocks[rows - 1]`.
NANN_KERNEL void ProductOfGroup(const GroupedProduct& product, const ProductBlockFunction* blocks,
                                const float* left, const float* right, float* out) {
  for (int64_t column = 0; column < product.width; column += kStrip) {
    const int64_t left_over = product.width - column;
    const int64_t columns = left_over < kStrip ? left_over : kStrip;
    const float* strip = right + column;
    int64_t stride = product.right.row;
    if (product.right.column != 1) {
      strip = product.strip;
      stride = kStrip;
      for (int64_t k = 0; k < product.depth; ++k) {
        const float* from = right + column * product.right.column + k * product.right.row;
        float* to = product.strip + k * kStrip;
        for (int64_t n = 0; n < kStrip; ++n) to[n] = n < columns ? from[n * product.right.column] : 0.0f;
      }
    }
    const int64_t written = product.whole_strips ? kStrip : columns;
    for (int64_t row = 0; row < product.rows; row += kGemmRows) {
      const int64_t rows = product.rows - row < kGemmRows ? product.rows - row : kGemmRows;
      blocks[rows - 1](product, left + row * product.left.row, strip, stride, written,
                       out + row * product.out_stride + column);
    }
  }
}

NANN_KERNEL void CoverWithProducts(const GroupedProduct& product, const ProductBlockFunction* blocks) {
  for (int64_t item = 0; item < product.items; ++item) {
    for (int64_t group = 0; group < product.groups; ++group) {
      ProductOfGroup(product, blocks,
                     product.left.data + item * product.left.item + group * product.left.group,
                     product.right.data + item * product.right.item + group * product.right.group,
                     product.out + item * product.out_item + group * product.out_group);
    }
  }
}
