// The kernels once, for any vector width. Included by one file an instruction set, inside its own namespace,
// after tile_functions_inl.h, under the same conditions.

constexpr int kStripVecs = kStrip / kWidth;

// The row of an addend for one row of a product. It goes on from row to row, because divisions would take as
// long as a short product.
struct AddendRow {
  int64_t row, left;  // `left`: rows of the product that take it, from this one on.
};

NANN_SIMD void StartAddends(const Gemm& gemm, int64_t row, AddendRow* at) {
  for (int i = 0; i < gemm.num_addends; ++i) {
    const Addend& addend = gemm.addends[i];
    at[i] = {row, addend.repeat};
    // Of 32 bits: rows are fewer, and divisions then take half as long.
    if (addend.repeat > 1) {
      const uint32_t repeat = static_cast<uint32_t>(addend.repeat);
      at[i] = {static_cast<uint32_t>(row) / repeat, repeat - static_cast<uint32_t>(row) % repeat};
    }
    if (addend.period > 0) at[i].row = static_cast<uint32_t>(row) % static_cast<uint32_t>(addend.period);
  }
}

NANN_SIMD void NextRow(const Addend& addend, AddendRow* at) {
  if (--at->left > 0) return;
  at->left = addend.repeat;
  if (++at->row == addend.period) at->row = 0;
}

// Writes a row of sums with what comes after them, from a column on; `at` goes on to the next row.
template <int kVecs>
NANN_SIMD void Finish(const Gemm& gemm, AddendRow* at, int64_t row, int64_t column, Vec* sums) {
  for (int i = 0; i < gemm.num_addends; ++i) {
    const Addend& addend = gemm.addends[i];
    const float* from = addend.view.data + at[i].row * addend.view.stride + column;
    for (int v = 0; v < kVecs; ++v) sums[v] += Load(from + v * kWidth);
    NextRow(addend, &at[i]);
  }
  if (gemm.activation == Activation::kRelu) {
    for (int v = 0; v < kVecs; ++v) sums[v] = Relu(sums[v]);
  } else if (gemm.activation == Activation::kPrelu) {
    for (int v = 0; v < kVecs; ++v) {
      const Vec scaled = sums[v] * Load(gemm.alpha + column + v * kWidth);
      sums[v] = sums[v] < Set(0.0f) ? scaled : sums[v];
    }
  }
  float* out = gemm.out + row * gemm.out_stride + column;
  for (int v = 0; v < kVecs; ++v) Store(out + v * kWidth, sums[v]);
}

// A block of kRows rows and kStrips strips, from (row, strip) on.
template <int kRows, int kStrips>
NANN_KERNEL void GemmBlock(const Gemm& gemm, int64_t row, int64_t strip) {
  constexpr int kVecs = kStrips * kStripVecs;
  Vec sums[kRows][kVecs];
  for (int m = 0; m < kRows; ++m) {
    for (int v = 0; v < kVecs; ++v) sums[m][v] = Set(0.0f);
  }
  for (int t = 0; t < gemm.num_terms; ++t) {
    const GemmTerm& term = gemm.terms[t];
    const float* a = static_cast<const float*>(term.rows) + row * term.stride;
    const float* b = static_cast<const float*>(term.packed) + strip * term.depth * kStrip;
    const int64_t strip_size = term.depth * kStrip;
    for (int64_t k = 0; k < term.depth; ++k) {
      Vec column[kVecs];
      for (int v = 0; v < kVecs; ++v) {
        column[v] = Load(b + (v / kStripVecs) * strip_size + k * kStrip + (v % kStripVecs) * kWidth);
      }
      for (int m = 0; m < kRows; ++m) {
        const Vec value = Set(a[m * term.stride + k]);
        for (int v = 0; v < kVecs; ++v) sums[m][v] = MultiplyAdd(value, column[v], sums[m][v]);
      }
    }
  }
  AddendRow at[kMaxSummands];
  StartAddends(gemm, row, at);
  // Written out, so that sums are in registers from beginning to end.
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) Finish<kVecs>(gemm, at, row + m, strip * kStrip, sums[m]);
}

using BlockFunction = void (*)(const Gemm& gemm, int64_t row, int64_t strip);

// Covers a product with blocks of up to kGemmRows x kGemmStrips; `blocks[strips - 1][rows - 1]`, and those
// with the last strip by `last_blocks`.
NANN_KERNEL void CoverWithBlocks(const Gemm& gemm, const BlockFunction (*blocks)[kGemmRows],
                                 const BlockFunction (*last_blocks)[kGemmRows]) {
  const int64_t strips = PaddedWidth(gemm.width) / kStrip;
  for (int64_t strip = 0; strip < strips; strip += kGemmStrips) {
    const int64_t block_strips = strips - strip < kGemmStrips ? strips - strip : kGemmStrips;
    const auto& chosen = (strip + block_strips == strips ? last_blocks : blocks)[block_strips - 1];
    for (int64_t row = 0; row < gemm.rows; row += kGemmRows) {
      const int64_t block_rows = gemm.rows - row < kGemmRows ? gemm.rows - row : kGemmRows;
      chosen[block_rows - 1](gemm, row, strip);
    }
  }
}

// Rows side by side: their sums do not wait for each other.
template <int kRows>
NANN_SIMD void ReduceSome(ReduceOp op, const float* x, int64_t stride, int64_t width, float* out,
                          int64_t out_stride) {
  const bool is_sum = op == ReduceOp::kSum || op == ReduceOp::kMean, is_max = op == ReduceOp::kMax;
  const float neutral = is_sum ? 0.0f : is_max ? -__builtin_inff() : __builtin_inff();
  Vec totals[kRows];
  for (int r = 0; r < kRows; ++r) totals[r] = LoadRow(x + r * stride, 0, width, neutral);
  for (int64_t i = kWidth; i < width; i += kWidth) {
    for (int r = 0; r < kRows; ++r) {
      const Vec next = LoadRow(x + r * stride, i, width, neutral);
      totals[r] = is_sum ? totals[r] + next : is_max ? Larger(totals[r], next) : Smaller(totals[r], next);
    }
  }
  const float divisor = op == ReduceOp::kMean ? static_cast<float>(width) : 1.0f;
  Vec sign = Set(op == ReduceOp::kMin ? -1.0f : 1.0f), nans[kRows];
  for (int r = 0; r < kRows && !is_sum; ++r) {
    nans[r] = totals[r] != totals[r] ? Set(1.0f) : Set(0.0f);
    totals[r] = sign * totals[r];
  }
  if constexpr (kRows == 4) {
    Vec four = is_sum ? SumsOfFour(totals) / Set(divisor) : sign * MaximaOfFour(totals);
    if (!is_sum) four = SumsOfFour(nans) > Set(0.0f) ? Set(__builtin_nanf("")) : four;
    for (int r = 0; r < kRows; ++r) out[r * out_stride] = four[r * kLanesOfFour];
  } else {
    for (int r = 0; r < kRows; ++r) {
      float total = is_sum ? SumOf(totals[r]) / divisor : sign[0] * MaxOf(totals[r]);
      if (!is_sum && SumOf(nans[r]) > 0.0f) total = __builtin_nanf("");
      out[r * out_stride] = total;
    }
  }
}

NANN_KERNEL void Reduce(ReduceOp op, RowsView in, int64_t rows, int64_t width, float* out,
                        int64_t out_stride) {
  constexpr int kTogether = 4;
  int64_t row = 0;
  for (; row + kTogether <= rows; row += kTogether) {
    ReduceSome<kTogether>(op, in.data + row * in.stride, in.stride, width, out + row * out_stride,
                          out_stride);
  }
  for (; row < rows; ++row) {
    ReduceSome<1>(op, in.data + row * in.stride, in.stride, width, out + row * out_stride, out_stride);
  }
}

// Rows side by side: their sums and maxima do not wait for each other.
template <int kRows>
NANN_SIMD void SoftmaxRows(RowsView in, int64_t row, int64_t width, float* out, int64_t out_stride) {
  const float* x = in.data + row * in.stride;
  float* y = out + row * out_stride;
  // A NaN may be overlooked here, but not in the sum.
  Vec largest[kRows], sums[kRows];
  for (int r = 0; r < kRows; ++r) largest[r] = LoadRow(x + r * in.stride, 0, width, -__builtin_inff());
  for (int64_t i = kWidth; i < width; i += kWidth) {
    for (int r = 0; r < kRows; ++r) {
      const Vec next = LoadRow(x + r * in.stride, i, width, -__builtin_inff());
      largest[r] = next > largest[r] ? next : largest[r];
    }
  }
  if constexpr (kRows == 4) {
    Spread(MaximaOfFour(largest), largest);
  } else {
    for (int r = 0; r < kRows; ++r) largest[r] = Set(MaxOf(largest[r]));
  }
  for (int r = 0; r < kRows; ++r) sums[r] = Set(0.0f);
  for (int64_t i = 0; i < width; i += kWidth) {
    for (int r = 0; r < kRows; ++r) {
      const Vec e = ExpOfNegative(LoadRow(x + r * in.stride, i, width, -__builtin_inff()) - largest[r]);
      Store(y + r * out_stride + i, e);
      sums[r] += e;
    }
  }
  if constexpr (kRows == 4) {
    Spread(Set(1.0f) / SumsOfFour(sums), sums);
  } else {
    for (int r = 0; r < kRows; ++r) sums[r] = Set(1.0f / SumOf(sums[r]));
  }
  for (int64_t i = 0; i < width; i += kWidth) {
    for (int r = 0; r < kRows; ++r) {
      float* scaled = y + r * out_stride + i;
      Store(scaled, Load(scaled) * sums[r]);
    }
  }
}

NANN_KERNEL void Softmax(RowsView in, int64_t rows, int64_t width, float* out, int64_t out_stride) {
  constexpr int kTogether = 4;
  int64_t row = 0;
  for (; row + kTogether <= rows; row += kTogether) SoftmaxRows<kTogether>(in, row, width, out, out_stride);
  for (; row < rows; ++row) SoftmaxRows<1>(in, row, width, out, out_stride);
}

template <bool kDistance>
NANN_SIMD Vec Accumulate(Vec x, Vec y, Vec sums) {
  return kDistance ? MultiplyAdd(x - y, x - y, sums) : MultiplyAdd(x, y, sums);
}

// Two sums side by side: they do not wait for each other.
template <bool kDistance>
NANN_SIMD float SimilarityOf(const float* query, const float* item, int64_t width) {
  const int64_t whole = width / (2 * kWidth) * (2 * kWidth);
  Vec even = Set(0.0f), odd = Set(0.0f);
  for (int64_t j = 0; j < whole; j += 2 * kWidth) {
    even = Accumulate<kDistance>(Load(query + j), Load(item + j), even);
    odd = Accumulate<kDistance>(Load(query + j + kWidth), Load(item + j + kWidth), odd);
  }
  float sum = SumOf(even + odd);
  for (int64_t j = whole; j < width; ++j) {
    sum += kDistance ? (query[j] - item[j]) * (query[j] - item[j]) : query[j] * item[j];
  }
  return sum;
}

// Rows of a tile, side by side: what lies beyond their width may be read.
template <bool kDistance, int kRows>
NANN_SIMD void SimilarityOfSome(float sign, const float* query, const float* x, int64_t stride, int64_t width,
                                float* out, int64_t out_stride) {
  Vec sums[kRows];
  for (int r = 0; r < kRows; ++r) sums[r] = Set(0.0f);
  for (int64_t i = 0; i < width; i += kWidth) {
    const Vec y = LoadRow(query, i, width, 0.0f);
    for (int r = 0; r < kRows; ++r) {
      sums[r] = Accumulate<kDistance>(y, LoadRow(x + r * stride, i, width, 0.0f), sums[r]);
    }
  }
  if constexpr (kRows == 4) {
    const Vec totals = Set(sign) * SumsOfFour(sums);
    for (int r = 0; r < kRows; ++r) out[r * out_stride] = totals[r * kLanesOfFour];
  } else {
    for (int r = 0; r < kRows; ++r) out[r * out_stride] = sign * SumOf(sums[r]);
  }
}

template <bool kDistance>
NANN_KERNEL void SimilarityOfRows(float sign, const float* query, RowsView in, int64_t rows, int64_t width,
                                  float* out, int64_t out_stride) {
  constexpr int kTogether = 4;
  int64_t row = 0;
  for (; row + kTogether <= rows; row += kTogether) {
    SimilarityOfSome<kDistance, kTogether>(sign, query, in.data + row * in.stride, in.stride, width,
                                           out + row * out_stride, out_stride);
  }
  for (; row < rows; ++row) {
    SimilarityOfSome<kDistance, 1>(sign, query, in.data + row * in.stride, in.stride, width,
                                   out + row * out_stride, out_stride);
  }
}

// Rows that lie anywhere in a big table: the rows of some positions further on are fetched meanwhile, into
// the second-level cache, because the first has too few misses under way.
constexpr int64_t kAhead = 24;
constexpr int kSecondLevel = 2;

NANN_SIMD void Prefetch(const float* row, int64_t width) {
  for (int64_t i = 0; i < width; i += 16) __builtin_prefetch(row + i, 0, kSecondLevel);
}

template <bool kDistance>
NANN_KERNEL void SimilarityOfPositions(float sign, const float* query, const float* table, int64_t width,
                                       const int32_t* positions, int64_t n, float* out) {
  for (int64_t i = 0; i < n && i < kAhead; ++i) Prefetch(table + positions[i] * width, width);
  for (int64_t i = 0; i < n; ++i) {
    if (i + kAhead < n) Prefetch(table + positions[i + kAhead] * width, width);
    out[i] = sign * SimilarityOf<kDistance>(query, table + positions[i] * width, width);
  }
}

NANN_SIMD bool IsDistance(SimilarityOp op) {
  return op == SimilarityOp::kSquaredDistance || op == SimilarityOp::kNegativeSquaredDistance;
}
NANN_SIMD float SignOf(SimilarityOp op) {
  return op == SimilarityOp::kNegativeDot || op == SimilarityOp::kNegativeSquaredDistance ? -1.0f : 1.0f;
}

NANN_KERNEL void Similarity(SimilarityOp op, const float* query, RowsView in, int64_t rows, int64_t width,
                            float* out, int64_t out_stride) {
  const auto run = IsDistance(op) ? SimilarityOfRows<true> : SimilarityOfRows<false>;
  run(SignOf(op), query, in, rows, width, out, out_stride);
}

NANN_KERNEL void TableSimilarity(SimilarityOp op, const float* query, const float* table, int64_t width,
                                 const int32_t* positions, int64_t n, float* out) {
  const auto run = IsDistance(op) ? SimilarityOfPositions<true> : SimilarityOfPositions<false>;
  run(SignOf(op), query, table, width, positions, n, out);
}
