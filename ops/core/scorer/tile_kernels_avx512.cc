// AVX-512: vectors of sixteen floats, and on top of it, where the processor has them, products of bfloat16 by
// vectors (AVX512-BF16) or by matrix units (AMX).
#if defined(__x86_64__)
#if !defined(__clang__)
// GCC 12 warns of its own intrinsics, whose unused operands are undefined on purpose.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "tile_kernels_versions.h"

namespace nann {
namespace {

#define NANN_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define NANN_SIMD static inline NANN_TARGET __attribute__((always_inline))
#define NANN_KERNEL static NANN_TARGET

constexpr int kWidth = 16;
constexpr int kGemmRows = 6;  // 24 of 32 registers hold sums, 4 a row of strips.
constexpr int kGemmStrips = 4;
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IntVec __attribute__((vector_size(64)));

NANN_SIMD Vec Load(const float* from) { return (Vec)_mm512_loadu_ps(from); }
NANN_SIMD void Store(float* to, Vec x) { _mm512_storeu_ps(to, (__m512)x); }
NANN_SIMD Vec Set(float x) { return (Vec)_mm512_set1_ps(x); }
NANN_SIMD Vec MultiplyAdd(Vec a, Vec b, Vec c) {
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
NANN_SIMD Vec SquareRoot(Vec x) { return (Vec)_mm512_sqrt_ps((__m512)x); }
NANN_SIMD float SumOf(Vec x) { return _mm512_reduce_add_ps((__m512)x); }
NANN_SIMD float MaxOf(Vec x) { return _mm512_reduce_max_ps((__m512)x); }

// A NaN stays one: these return their second operand then.
NANN_SIMD Vec Bounded(Vec x, float least, float most) {
  return (Vec)_mm512_min_ps(_mm512_set1_ps(most), _mm512_max_ps(_mm512_set1_ps(least), (__m512)x));
}

NANN_SIMD bool AnyLarger(Vec x, float than) {
  return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(than), _CMP_GT_OQ) != 0;
}

// One sum or maximum of each of four vectors, in four lanes each, in the order in which SumOf adds.
#define NANN_REDUCE_FOUR(name, combine)                                                                 \
  NANN_SIMD Vec name(const Vec* x) {                                                                    \
    const __m512 a = (__m512)x[0], b = (__m512)x[1], c = (__m512)x[2], d = (__m512)x[3];                \
    const __m512 ab = combine(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));      \
    const __m512 cd = combine(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));      \
    const __m512 all = combine(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd)); \
    const __m512 pairs = combine(all, _mm512_permute_ps(all, 0x4e));                                    \
    return (Vec)combine(pairs, _mm512_permute_ps(pairs, 0xb1));                                         \
  }
NANN_REDUCE_FOUR(SumsOfFour, _mm512_add_ps)
NANN_REDUCE_FOUR(MaximaOfFour, _mm512_max_ps)
#undef NANN_REDUCE_FOUR

// Four lanes of each number, as those functions return them, to a vector of each.
NANN_SIMD void Spread(Vec four, Vec* x) {
  const __m512 all = (__m512)four;
  x[0] = (Vec)_mm512_shuffle_f32x4(all, all, 0x00);
  x[1] = (Vec)_mm512_shuffle_f32x4(all, all, 0x55);
  x[2] = (Vec)_mm512_shuffle_f32x4(all, all, 0xaa);
  x[3] = (Vec)_mm512_shuffle_f32x4(all, all, 0xff);
}
constexpr int kLanesOfFour = 4;

NANN_SIMD void StoreFirst(float* to, Vec x, int64_t count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), (__m512)x);
}

// Within a rounding; a division takes as long as ten products.
NANN_SIMD Vec Inverse(Vec x) {
  const __m512 rough = _mm512_rcp14_ps((__m512)x);
  return (Vec)_mm512_fmadd_ps(rough, _mm512_fnmadd_ps((__m512)x, rough, _mm512_set1_ps(1.0f)), rough);
}

#include "tile_functions_inl.h"
// After it.
#include "tile_angles_inl.h"
// After it.
#include "tile_kernels_elementwise_inl.h"
// After it.
#include "tile_kernels_inl.h"
// After it.
#include "tile_kernels_groups_inl.h"
// After it.
#include "tile_kernels_copies_inl.h"

#define NANN_BLOCKS(function, strips)                             \
  {function<1, strips>, function<2, strips>, function<3, strips>, \
   function<4, strips>, function<5, strips>, function<6, strips>}

// Half a vector, of which processors do two at a time.
constexpr int64_t kNarrow = 8;

// As GemmBlock, where the last strip has kNarrow columns at most.
template <int kRows, int kStrips>
NANN_KERNEL void NarrowBlock(const Gemm& gemm, int64_t row, int64_t strip) {
  constexpr int kWhole = kStrips - 1;
  Vec sums[kRows][kStrips];
  __m256 last[kRows];
  for (int m = 0; m < kRows; ++m) {
    for (int v = 0; v < kWhole; ++v) sums[m][v] = Set(0.0f);
    last[m] = _mm256_setzero_ps();
  }
  for (int t = 0; t < gemm.num_terms; ++t) {
    const GemmTerm& term = gemm.terms[t];
    const float* a = static_cast<const float*>(term.rows) + row * term.stride;
    const float* b = static_cast<const float*>(term.packed) + strip * term.depth * kStrip;
    const int64_t strip_size = term.depth * kStrip;
    for (int64_t k = 0; k < term.depth; ++k) {
      Vec column[kStrips];
      for (int v = 0; v < kWhole; ++v) column[v] = Load(b + v * strip_size + k * kStrip);
      const __m256 last_column = _mm256_loadu_ps(b + kWhole * strip_size + k * kStrip);
      for (int m = 0; m < kRows; ++m) {
        const __m512 value = _mm512_set1_ps(a[m * term.stride + k]);
        for (int v = 0; v < kWhole; ++v) sums[m][v] = MultiplyAdd((Vec)value, column[v], sums[m][v]);
        last[m] = _mm256_fmadd_ps(_mm512_castps512_ps256(value), last_column, last[m]);
      }
    }
  }
  AddendRow at[kMaxSummands];
  StartAddends(gemm, row, at);
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
    sums[m][kWhole] = (Vec)_mm512_zextps256_ps512(last[m]);
    Finish<kStrips>(gemm, at, row + m, strip * kStrip, sums[m]);
  }
}

constexpr BlockFunction kNarrowBlocks[kGemmStrips][kGemmRows] = {
    NANN_BLOCKS(NarrowBlock, 1), NANN_BLOCKS(NarrowBlock, 2), NANN_BLOCKS(NarrowBlock, 3),
    NANN_BLOCKS(NarrowBlock, 4)};

constexpr BlockFunction kBlocks[kGemmStrips][kGemmRows] = {
    NANN_BLOCKS(GemmBlock, 1), NANN_BLOCKS(GemmBlock, 2), NANN_BLOCKS(GemmBlock, 3),
    NANN_BLOCKS(GemmBlock, 4)};

constexpr ProductBlockFunction kProductBlocks[kStripVecs][kGemmRows] = {
    {ProductBlock<1, 1>, ProductBlock<2, 1>, ProductBlock<3, 1>, ProductBlock<4, 1>, ProductBlock<5, 1>,
     ProductBlock<6, 1>}};

NANN_KERNEL void RunProduct(const GroupedProduct& product) {
  if (product.width <= kNarrow) return Avx2TileKernels().grouped_product(product);
  CoverWithProducts(product, kProductBlocks);
}

NANN_KERNEL void NarrowSoftmax(RowsView in, int64_t rows, int64_t width, float* out, int64_t out_stride) {
  if (width <= kNarrow) return Avx2TileKernels().softmax(in, rows, width, out, out_stride);
  Softmax(in, rows, width, out, out_stride);
}

// Whether the last strip is multiplied by half vectors. Zen 4 runs two of them in place of a whole one: a
// DIN of 80 and 40 columns takes 6 % less time. Intel's processors run no more halves than wholes.
NANN_SIMD bool EndsNarrow(int64_t width) {
  const int64_t columns = width % kStrip;
  return columns > 0 && columns <= kNarrow && !__builtin_cpu_is("intel");
}

NANN_KERNEL void RunGemm(const Gemm& gemm) {
  CoverWithBlocks(gemm, kBlocks, EndsNarrow(gemm.width) ? kNarrowBlocks : kBlocks);
}

#define NANN_BFLOAT16_KERNEL \
  static __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))

// As GemmBlock, two rows of the packed matrix a step.
template <int kRows, int kStrips>
NANN_BFLOAT16_KERNEL void Bfloat16Block(const Gemm& gemm, int64_t row, int64_t strip) {
  __m512 sums[kRows][kStrips];
  for (int m = 0; m < kRows; ++m) {
    for (int v = 0; v < kStrips; ++v) sums[m][v] = _mm512_setzero_ps();
  }
  for (int t = 0; t < gemm.num_terms; ++t) {
    const GemmTerm& term = gemm.terms[t];
    const int64_t pairs = (term.depth + 1) / 2;
    const int64_t strip_size = PaddedDepth(term.depth) / 2 * kStrip;
    // A pair of bfloat16 is handled as one 32-bit value.
    const int32_t* a = static_cast<const int32_t*>(term.rows) + row * (term.stride / 2);
    const int32_t* b = static_cast<const int32_t*>(term.packed) + strip * strip_size;
    for (int64_t k = 0; k < pairs; ++k) {
      __m512i column[kStrips];
      for (int v = 0; v < kStrips; ++v) column[v] = _mm512_loadu_si512(b + v * strip_size + k * kStrip);
      for (int m = 0; m < kRows; ++m) {
        const __m512i value = _mm512_set1_epi32(a[m * (term.stride / 2) + k]);
        for (int v = 0; v < kStrips; ++v) {
          sums[m][v] = _mm512_dpbf16_ps(sums[m][v], (__m512bh)value, (__m512bh)column[v]);
        }
      }
    }
  }
  AddendRow at[kMaxSummands];
  StartAddends(gemm, row, at);
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
    Vec finished[kStrips];
    for (int v = 0; v < kStrips; ++v) finished[v] = (Vec)sums[m][v];
    Finish<kStrips>(gemm, at, row + m, strip * kStrip, finished);
  }
}

constexpr BlockFunction kBfloat16Blocks[kGemmStrips][kGemmRows] = {
    NANN_BLOCKS(Bfloat16Block, 1), NANN_BLOCKS(Bfloat16Block, 2), NANN_BLOCKS(Bfloat16Block, 3),
    NANN_BLOCKS(Bfloat16Block, 4)};
#undef NANN_BLOCKS

NANN_KERNEL void RunBfloat16Gemm(const Gemm& gemm) {
  CoverWithBlocks(gemm, kBfloat16Blocks, kBfloat16Blocks);
}

NANN_BFLOAT16_KERNEL void ToBfloat16(RowsView in, int64_t rows, int64_t width, uint16_t* out,
                                     int64_t out_stride) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = in.data + row * in.stride;
    uint16_t* to = out + row * out_stride;
    for (int64_t column = 0; column < width; column += kWidth) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + column),
                          (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + column)));
    }
    for (int64_t column = width; column < PaddedDepth(width); ++column) to[column] = 0;
  }
}

// One processor core's matrix unit multiplies 16 rows of 32 bfloat16 with 16 columns of them at a time.
#define NANN_AMX_KERNEL \
  static __attribute__((target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))

constexpr int kTileBytes = 64;  // Of a row: 16 sums or 32 bfloat16.
constexpr int64_t kTilePairs = kBfloat16Depth / 2;

// All eight tiles are whole: 0 to 3 hold sums, 4 and 5 rows of the left side, 6 and 7 strips of the right
// one.
struct alignas(64) TileShapes {
  uint8_t palette = 1, first_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {kTileBytes, kTileBytes, kTileBytes, kTileBytes,
                            kTileBytes, kTileBytes, kTileBytes, kTileBytes};
  uint8_t rows[16] = {kBfloat16Rows, kBfloat16Rows, kBfloat16Rows, kBfloat16Rows,
                      kBfloat16Rows, kBfloat16Rows, kBfloat16Rows, kBfloat16Rows};
};

// Sums of kRows x kStrips tiles from (row, strip) on. Rows beyond the product's may be read.
template <int kRows, int kStrips>
NANN_AMX_KERNEL void TileBlock(const Gemm& gemm, int64_t row, int64_t strip) {
  _tile_zero(0);
  if constexpr (kStrips == 2) _tile_zero(1);
  if constexpr (kRows == 2) _tile_zero(2);
  if constexpr (kRows == 2 && kStrips == 2) _tile_zero(3);
  for (int t = 0; t < gemm.num_terms; ++t) {
    const GemmTerm& term = gemm.terms[t];
    const int64_t pairs = PaddedDepth(term.depth) / 2;
    const int64_t strip_size = pairs * kStrip;
    const int64_t row_bytes = term.stride * static_cast<int64_t>(sizeof(uint16_t));
    const uint16_t* a = static_cast<const uint16_t*>(term.rows) + row * term.stride;
    const int32_t* b = static_cast<const int32_t*>(term.packed) + strip * strip_size;
    for (int64_t k = 0; k < pairs; k += kTilePairs) {
      _tile_loadd(6, b + k * kStrip, kTileBytes);
      if constexpr (kStrips == 2) _tile_loadd(7, b + strip_size + k * kStrip, kTileBytes);
      _tile_loadd(4, a + 2 * k, row_bytes);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kStrips == 2) _tile_dpbf16ps(1, 4, 7);
      if constexpr (kRows == 2) {
        _tile_loadd(5, a + kBfloat16Rows * term.stride + 2 * k, row_bytes);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (kStrips == 2) _tile_dpbf16ps(3, 5, 7);
      }
    }
  }
  alignas(kTileBytes) float sums[kRows * kBfloat16Rows][kStrips * kStrip];
  constexpr int kSumBytes = sizeof(sums[0]);
  _tile_stored(0, sums[0], kSumBytes);
  if constexpr (kStrips == 2) _tile_stored(1, sums[0] + kStrip, kSumBytes);
  if constexpr (kRows == 2) _tile_stored(2, sums[kBfloat16Rows], kSumBytes);
  if constexpr (kRows == 2 && kStrips == 2) _tile_stored(3, sums[kBfloat16Rows] + kStrip, kSumBytes);
  const int64_t rows = gemm.rows - row < kRows * kBfloat16Rows ? gemm.rows - row : kRows * kBfloat16Rows;
  AddendRow at[kMaxSummands];
  StartAddends(gemm, row, at);
  for (int64_t m = 0; m < rows; ++m) {
    Vec finished[kStrips];
    for (int v = 0; v < kStrips; ++v) finished[v] = Load(sums[m] + v * kStrip);
    Finish<kStrips>(gemm, at, row + m, strip * kStrip, finished);
  }
}

NANN_AMX_KERNEL void RunAmxGemm(const Gemm& gemm) {
  constexpr BlockFunction kTileBlocks[2][2] = {{TileBlock<1, 1>, TileBlock<2, 1>},
                                               {TileBlock<1, 2>, TileBlock<2, 2>}};
  static constexpr TileShapes kShapes;
  _tile_loadconfig(&kShapes);
  const int64_t strips = PaddedWidth(gemm.width) / kStrip;
  for (int64_t strip = 0; strip < strips; strip += 2) {
    for (int64_t row = 0; row < gemm.rows; row += 2 * kBfloat16Rows) {
      kTileBlocks[strips - strip > 1][gemm.rows - row > kBfloat16Rows](gemm, row, strip);
    }
  }
  // Tiles are this thread's from configuration to release: oneDNN, which shares it, looks before it uses
  // them. The kernel need not save tiles that are released.
  _tile_release();
}

constexpr TileKernels kKernels = {"avx512", RunGemm,    nullptr,    nullptr,    Copy,           CopySteps,
                                  Gather,   Binary,     Select,     Unary,      Prelu,          NarrowSoftmax,
                                  Reduce,   ReduceRows, RunProduct, Similarity, TableSimilarity};

constexpr TileKernels WithBfloat16(const char* name, void (*gemm)(const Gemm& gemm)) {
  TileKernels kernels = kKernels;
  kernels.name = name;
  kernels.gemm_bfloat16 = gemm;
  kernels.to_bfloat16 = ToBfloat16;
  return kernels;
}
constexpr TileKernels kBfloat16Kernels = WithBfloat16("avx512_bf16", RunBfloat16Gemm);
constexpr TileKernels kAmxKernels = WithBfloat16("amx", RunAmxGemm);

}  // namespace

const TileKernels& Avx512TileKernels() { return kKernels; }
const TileKernels& Avx512Bfloat16TileKernels() { return kBfloat16Kernels; }
const TileKernels& AmxTileKernels() { return kAmxKernels; }

}  // namespace nann
#endif
