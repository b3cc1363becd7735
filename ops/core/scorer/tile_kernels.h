// Arithmetic over a tile of rows, in one version an instruction set, chosen at run time.
#ifndef NANN_OPS_CORE_SCORER_TILE_KERNELS_H_
#define NANN_OPS_CORE_SCORER_TILE_KERNELS_H_

#include <cstdint>
#include <vector>

namespace nann {

// Matrices that are multiplied with are stored in strips of this many columns, and every row that a kernel
// writes is this many floats wide or a multiple: kernels then need no code for the last few columns. What
// lies beyond a row's width is unspecified. Rows are read up to the next multiple too.
inline constexpr int64_t kStrip = 16;

inline constexpr int64_t PaddedWidth(int64_t width) { return (width + kStrip - 1) / kStrip * kStrip; }

// The depth of products of bfloat16 is padded with zeros to a multiple of this, as much as a matrix unit
// takes at a time.
inline constexpr int64_t kBfloat16Depth = 32;

// Rows that products of bfloat16 take at a time: as many may be read where fewer are left.
inline constexpr int64_t kBfloat16Rows = 16;

inline constexpr int64_t PaddedDepth(int64_t depth) {
  return (depth + kBfloat16Depth - 1) / kBfloat16Depth * kBfloat16Depth;
}

// `stride` floats from one row to the next; 0 repeats one row.
struct RowsView {
  const float* data = nullptr;
  int64_t stride = 0;
};

enum class Activation { kNone, kRelu, kPrelu };

// Rows that a product adds: row i of the result takes row i, i / repeat, or, where `period` is not 0,
// i % period.
struct Addend {
  RowsView view;
  int64_t repeat = 1;
  int64_t period = 0;
};

// One summand of a product: rows [rows, depth] times a packed matrix [depth, width].
// float32: `packed` is strips of [depth][16]; bfloat16: of [pairs][16][2], the depth padded with zeros as
// PaddedDepth says, and `rows` holds bfloat16 rows that are padded likewise.
struct GemmTerm {
  const void* rows = nullptr;
  int64_t stride = 0;  // In elements of `rows`.
  const void* packed = nullptr;
  int64_t depth = 0;
};

// Terms, and addends, of one product.
inline constexpr int kMaxSummands = 12;

// out = activation(sum of terms + sum of addends).
struct Gemm {
  int64_t rows = 0;
  int64_t width = 0;
  const GemmTerm* terms = nullptr;
  int num_terms = 0;
  const Addend* addends = nullptr;
  int num_addends = 0;
  Activation activation = Activation::kNone;
  const float* alpha = nullptr;  // PReLU: [padded width].
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Matrices that lie anywhere in a value: floats from one item, group, row and column to the next.
struct BlocksView {
  const float* data = nullptr;
  int64_t item = 0, group = 0, row = 0, column = 0;
};

// For each item and group: out [rows, width] = left [rows, depth] x right [depth, width].
struct GroupedProduct {
  int64_t items = 0, groups = 0, rows = 0, depth = 0, width = 0;
  BlocksView left, right;
  float* out = nullptr;
  int64_t out_item = 0, out_group = 0, out_stride = 0;
  bool whole_strips = false;  // Whether rows of `out` may be written up to the next multiple of kStrip.
  float* strip = nullptr;     // Room for [depth][kStrip].
};

// Comparisons give 1 where they hold, else 0. The order of these enumerations is part of the format of scorer
// programs (docs/scorer-program.md).
enum class BinaryOp {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMax,
  kMin,
  kSquaredDifference,
  kEqual,
  kNotEqual,
  kGreater,
  kGreaterEqual,
  kAtan2
};
enum class UnaryOp {
  kNeg,
  kRelu,
  kRelu6,
  kSquare,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kExp,
  kSigmoid,
  kTanh,
  kErf,
  kAbs,
  kExpm1,
  kLog,
  kLog1p,
  kSoftplus,
  kElu,
  kFloor,
  kSilu,
  kTwiceGelu,
  kSin,
  kCos,
  kTan,
  kAsin,
  kAcos,
  kAtan
};
enum class ReduceOp { kSum, kMean, kMax, kMin };

// Of two vectors: sum of products, sum of squared differences, and both times -1.
enum class SimilarityOp { kDot, kNegativeDot, kSquaredDistance, kNegativeSquaredDistance };

// An operand of an elementwise kernel: whole rows (stride 0: the same row for all), or, as a column, one
// value per row, which is repeated over the columns. `block` floats from one block of rows to the next.
struct Operand {
  RowsView view;
  bool column = false;
  int64_t block = 0;
};

// Of an elementwise result: `blocks` times `rows` rows, `stride` floats apart.
struct Extent {
  int64_t blocks = 1, rows = 0, columns = 0, stride = 0;
};

// An axis of a copy: its size, and the floats from one index to the next.
struct Step {
  int64_t size = 1, floats = 0;
};

// Matrices whose numbers lie anywhere in a value: the rows of the result run over some axes, its columns over
// others, the last axis fastest. At least one axis of each. `from_item` and `out_item` floats from one matrix
// to the next.
struct SteppedCopy {
  const Step* rows = nullptr;
  int row_axes = 0;
  const Step* columns = nullptr;
  int column_axes = 0;
  int64_t items = 0;
  const float* from = nullptr;
  int64_t from_item = 0;
  float* out = nullptr;
  int64_t out_item = 0, out_stride = 0;
};

// The kernels of one instruction set. Constant, so thread-safe. Every row of a result depends on the same row
// of the operands only, and not on how many rows there are.
struct TileKernels {
  const char* name;
  void (*gemm)(const Gemm& gemm);
  // nullptr where the processor has no bfloat16 products. Products are exact, sums are float32.
  void (*gemm_bfloat16)(const Gemm& gemm);
  // Rounds rows [rows, width] to bfloat16, padded with zeros to PaddedDepth(width).
  void (*to_bfloat16)(RowsView in, int64_t rows, int64_t width, uint16_t* out, int64_t out_stride);
  // The first `width` floats of each row; of whole strips, what lies behind them may be written too.
  void (*copy)(RowsView in, int64_t rows, int64_t width, bool whole_strips, float* out, int64_t out_stride);
  // Of one axis of columns, no more than the whole strips of each row are written.
  void (*copy_steps)(const SteppedCopy& copy);
  // Row n of the result is the row of the table that the n-th number of `index` [index_rows, index_columns]
  // says; of a number that is none of its rows, zeros. Whole strips are written.
  void (*gather)(RowsView table, int64_t table_rows, RowsView index, int64_t index_rows,
                 int64_t index_columns, int64_t width, float* out, int64_t out_stride);
  void (*binary)(BinaryOp op, Operand a, Operand b, Extent extent, float* out);
  // a where the condition is not 0, else b.
  void (*select)(Operand condition, Operand a, Operand b, Extent extent, float* out);
  void (*unary)(UnaryOp op, RowsView in, int64_t rows, int64_t width, float* out, int64_t out_stride);
  void (*prelu)(RowsView in, const float* alpha, int64_t rows, int64_t width, float* out, int64_t out_stride);
  void (*softmax)(RowsView in, int64_t rows, int64_t width, float* out, int64_t out_stride);
  // One value a row.
  void (*reduce)(ReduceOp op, RowsView in, int64_t rows, int64_t width, float* out, int64_t out_stride);
  // One row per item: over its `rows` rows.
  void (*reduce_rows)(ReduceOp op, RowsView in, int64_t items, int64_t rows, int64_t width, float* out,
                      int64_t out_stride);
  void (*grouped_product)(const GroupedProduct& product);
  // One value per row: its similarity to `query` [width].
  void (*similarity)(SimilarityOp op, const float* query, RowsView in, int64_t rows, int64_t width,
                     float* out, int64_t out_stride);
  // out[i] = similarity of `query` to row positions[i] of the table [*, width].
  void (*table_similarity)(SimilarityOp op, const float* query, const float* table, int64_t width,
                           const int32_t* positions, int64_t n, float* out);
};

// All that this processor can run, the best last.
const std::vector<const TileKernels*>& SupportedTileKernels();

// The version named `most`. nullptr, or a name that this processor lacks: the fastest. That is the last, or,
// where products of bfloat16 are slower than those of float32, the last without them.
const TileKernels& BestTileKernels(const char* most);

// The version that the environment variable NANN_MAX_CPU_ISA names, else the fastest, so that one machine can
// compute what others do. The variable is read once, at the first call.
const TileKernels& BestTileKernels();

// Packs b [depth, width] (or, transposed, [width, depth]), rows `stride` floats apart, into strips.
void PackStrips(const float* b, int64_t stride, bool transposed, int64_t depth, int64_t width, float* out);
void PackStripsBfloat16(const float* b, int64_t stride, bool transposed, int64_t depth, int64_t width,
                        uint16_t* out);

// Floats that a packed matrix takes.
inline constexpr int64_t PackedSize(int64_t depth, int64_t width, bool bfloat16) {
  return PaddedWidth(width) * (bfloat16 ? PaddedDepth(depth) / 2 : depth);
}

// To the nearest, ties to even; a NaN stays one.
inline uint16_t RoundToBfloat16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_TILE_KERNELS_H_
