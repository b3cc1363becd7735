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

// kRows rows and kVecs vectors of columns of a product; `right` has its rows `right_stride` floats apart.
// Of the last vector, `last` lanes are written.
template <int kRows, int kVecs>
NANN_KERNEL void ProductBlock(const GroupedProduct& product, const float* left, const float* right,
                              int64_t right_stride, int64_t last, float* out) {
  Vec sums[kRows][kVecs];
  for (int m = 0; m < kRows; ++m) {
    for (int v = 0; v < kVecs; ++v) sums[m][v] = Set(0.0f);
  }
  for (int64_t k = 0; k < product.depth; ++k) {
    Vec row[kVecs];
    for (int v = 0; v < kVecs; ++v) row[v] = Load(right + k * right_stride + v * kWidth);
    for (int m = 0; m < kRows; ++m) {
      const Vec value = Set(left[m * product.left.row + k * product.left.column]);
      for (int v = 0; v < kVecs; ++v) sums[m][v] = MultiplyAdd(value, row[v], sums[m][v]);
    }
  }
  for (int m = 0; m < kRows; ++m) {
    float* to = out + m * product.out_stride;
    for (int v = 0; v < kVecs - 1; ++v) Store(to + v * kWidth, sums[m][v]);
    if (last == kWidth) {
      Store(to + (kVecs - 1) * kWidth, sums[m][kVecs - 1]);
    } else {
      StoreFirst(to + (kVecs - 1) * kWidth, sums[m][kVecs - 1], last);
    }
  }
}

using ProductBlockFunction = void (*)(const GroupedProduct& product, const float* left, const float* right,
                                      int64_t right_stride, int64_t last, float* out);

typedef float Four __attribute__((vector_size(16)));

NANN_SIMD Four LoadFour(const float* from) {
  Four x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}

// to[k][n] = from[n * stride + k] for k < depth; the last of `columns` stands for those up to a multiple
// of 4.
NANN_KERNEL void Turn(const float* from, int64_t stride, int64_t depth, int64_t columns, float* to,
                      int64_t to_stride) {
  for (int64_t n = 0; n < columns; n += 4) {
    const float* rows[4];
    for (int64_t i = 0; i < 4; ++i) rows[i] = from + (n + i < columns ? n + i : columns - 1) * stride;
    for (int64_t k = 0; k < depth; k += 4) {
      const Four a = LoadFour(rows[0] + k), b = LoadFour(rows[1] + k), c = LoadFour(rows[2] + k),
                 d = LoadFour(rows[3] + k);
      const Four low_ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                 high_ab = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                 low_cd = __builtin_shufflevector(c, d, 0, 4, 1, 5),
                 high_cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      const Four turned[4] = {__builtin_shufflevector(low_ab, low_cd, 0, 1, 4, 5),
                              __builtin_shufflevector(low_ab, low_cd, 2, 3, 6, 7),
                              __builtin_shufflevector(high_ab, high_cd, 0, 1, 4, 5),
                              __builtin_shufflevector(high_ab, high_cd, 2, 3, 6, 7)};
      for (int64_t i = 0; i < 4 && k + i < depth; ++i) {
        __builtin_memcpy(to + (k + i) * to_stride + n, &turned[i], sizeof(Four));
      }
    }
  }
}

// A product with one column: the rows of the left side, each times the vector `right`.
NANN_KERNEL void ProductWithColumn(const GroupedProduct& product, const float* left, const float* right,
                                   float* out) {
  if (product.right.row != 1) {
    for (int64_t k = 0; k < product.depth; ++k) product.strip[k] = right[k * product.right.row];
    right = product.strip;
  }
  SimilarityOfRows<false>(1.0f, right, {left, product.left.row}, product.rows, product.depth, out,
                          product.out_stride);
}

// One item's product of one group; `blocks[vectors - 1][rows - 1]`.
NANN_KERNEL void ProductOfGroup(const GroupedProduct& product,
                                const ProductBlockFunction (*blocks)[kGemmRows], const float* left,
                                const float* right, float* out) {
  if (product.width == 1 && product.left.column == 1) return ProductWithColumn(product, left, right, out);
  // As even blocks as can be: the sums of a block of few rows wait for each other.
  const int64_t row_blocks = (product.rows + kGemmRows - 1) / kGemmRows;
  const int64_t most = (product.rows + row_blocks - 1) / row_blocks;
  for (int64_t column = 0; column < product.width; column += kStrip) {
    const int64_t rest = product.width - column;
    const int64_t columns = rest < kStrip ? rest : kStrip;
    const float* strip = right + column;
    int64_t stride = product.right.row;
    if (product.right.column != 1) {  // Then rows lie one float apart.
      Turn(right + column * product.right.column, product.right.column, product.depth, columns, product.strip,
           kStrip);
      strip = product.strip;
      stride = kStrip;
    }
    const int64_t vecs = (columns + kWidth - 1) / kWidth;
    const int64_t last = product.whole_strips ? kWidth : columns - (vecs - 1) * kWidth;
    for (int64_t row = 0; row < product.rows; row += most) {
      const int64_t rows = product.rows - row < most ? product.rows - row : most;
      blocks[vecs - 1][rows - 1](product, left + row * product.left.row, strip, stride, last,
                                 out + row * product.out_stride + column);
    }
  }
}

NANN_KERNEL void CoverWithProducts(const GroupedProduct& product,
                                   const ProductBlockFunction (*blocks)[kGemmRows]) {
  for (int64_t item = 0; item < product.items; ++item) {
    for (int64_t group = 0; group < product.groups; ++group) {
      ProductOfGroup(product, blocks,
                     product.left.data + item * product.left.item + group * product.left.group,
                     product.right.data + item * product.right.item + group * product.right.group,
                     product.out + item * product.out_item + group * product.out_group);
    }
  }
}
