// AVX2 with FMA: vectors of eight floats.
#if defined(__x86_64__)
#include <immintrin.h>

#include "tile_kernels_versions.h"

namespace nann {
namespace {

#define NANN_TARGET __attribute__((target("avx2,fma")))
#define NANN_SIMD static inline NANN_TARGET __attribute__((always_inline))
#define NANN_KERNEL static NANN_TARGET

constexpr int kWidth = 8;
constexpr int kGemmRows = 6;  // 12 of 16 registers hold sums.
constexpr int kGemmStrips = 1;
typedef float Vec __attribute__((vector_size(32)));
typedef int32_t IntVec __attribute__((vector_size(32)));

NANN_SIMD Vec Load(const float* from) { return (Vec)_mm256_loadu_ps(from); }
NANN_SIMD void Store(float* to, Vec x) { _mm256_storeu_ps(to, (__m256)x); }
NANN_SIMD Vec Set(float x) { return (Vec)_mm256_set1_ps(x); }
NANN_SIMD Vec MultiplyAdd(Vec a, Vec b, Vec c) {
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
NANN_SIMD Vec SquareRoot(Vec x) { return (Vec)_mm256_sqrt_ps((__m256)x); }
NANN_SIMD float SumOf(Vec x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

NANN_SIMD float MaxOf(Vec x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// A NaN stays one: these return their second operand then.
NANN_SIMD Vec Bounded(Vec x, float least, float most) {
  return (Vec)_mm256_min_ps(_mm256_set1_ps(most), _mm256_max_ps(_mm256_set1_ps(least), (__m256)x));
}

NANN_SIMD bool AnyLarger(Vec x, float than) {
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_set1_ps(than), _CMP_GT_OQ)) != 0;
}

NANN_SIMD Vec FirstFour(float a, float b, float c, float d) { return Vec{a, b, c, d, d, d, d, d}; }
// One sum or maximum of each of four vectors, side by side.
NANN_SIMD Vec SumsOfFour(const Vec* x) {
  return FirstFour(SumOf(x[0]), SumOf(x[1]), SumOf(x[2]), SumOf(x[3]));
}
NANN_SIMD Vec MaximaOfFour(const Vec* x) {
  return FirstFour(MaxOf(x[0]), MaxOf(x[1]), MaxOf(x[2]), MaxOf(x[3]));
}
NANN_SIMD void Spread(Vec four, Vec* x) {
  for (int i = 0; i < 4; ++i) x[i] = Set(four[i]);
}
constexpr int kLanesOfFour = 1;

// In parts: masked stores are slow on AMD's processors.
NANN_SIMD void StoreFirst(float* to, Vec x, int64_t count) {
  __m128 rest = _mm256_castps256_ps128((__m256)x);
  if ((count & 4) != 0) {
    _mm_storeu_ps(to, rest);
    rest = _mm256_extractf128_ps((__m256)x, 1);
    to += 4;
  }
  if ((count & 2) != 0) {
    _mm_storel_pi((__m64*)to, rest);
    rest = _mm_movehl_ps(rest, rest);
    to += 2;
  }
  if ((count & 1) != 0) _mm_store_ss(to, rest);
}

NANN_SIMD Vec Inverse(Vec x) { return Set(1.0f) / x; }

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

constexpr BlockFunction kBlocks[kGemmStrips][kGemmRows] = {
    {GemmBlock<1, 1>, GemmBlock<2, 1>, GemmBlock<3, 1>, GemmBlock<4, 1>, GemmBlock<5, 1>, GemmBlock<6, 1>}};

constexpr ProductBlockFunction kProductBlocks[kStripVecs][kGemmRows] = {
    {ProductBlock<1, 1>, ProductBlock<2, 1>, ProductBlock<3, 1>, ProductBlock<4, 1>, ProductBlock<5, 1>,
     ProductBlock<6, 1>},
    {ProductBlock<1, 2>, ProductBlock<2, 2>, ProductBlock<3, 2>, ProductBlock<4, 2>, ProductBlock<5, 2>,
     ProductBlock<6, 2>}};

void RunProduct(const GroupedProduct& product) { CoverWithProducts(product, kProductBlocks); }

void RunGemm(const Gemm& gemm) { CoverWithBlocks(gemm, kBlocks, kBlocks); }

constexpr TileKernels kKernels = {"avx2", RunGemm,    nullptr,    nullptr,    Copy,           CopySteps,
                                  Gather, Binary,     Select,     Unary,      Prelu,          Softmax,
                                  Reduce, ReduceRows, RunProduct, Similarity, TableSimilarity};

}  // namespace

const TileKernels& Avx2TileKernels() { return kKernels; }

}  // namespace nann
#endif
