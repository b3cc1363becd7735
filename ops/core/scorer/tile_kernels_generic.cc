// Any processor: vectors of four floats, which compilers turn into SSE or NEON.
#include "tile_kernels_versions.h"

namespace nann {
namespace {

#define NANN_SIMD static inline __attribute__((always_inline))
#define NANN_KERNEL static

constexpr int kWidth = 4;
#if defined(__aarch64__)
constexpr int kGemmRows = 6;  // 32 registers.
#else
constexpr int kGemmRows = 2;  // 16 registers.
#endif
constexpr int kGemmStrips = 1;
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t IntVec __attribute__((vector_size(16)));

NANN_SIMD Vec Load(const float* from) {
  Vec x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}
NANN_SIMD void Store(float* to, Vec x) { __builtin_memcpy(to, &x, sizeof(x)); }
NANN_SIMD Vec Set(float x) { return Vec{x, x, x, x}; }
NANN_SIMD Vec MultiplyAdd(Vec a, Vec b, Vec c) { return a * b + c; }
NANN_SIMD Vec SquareRoot(Vec x) {
  return Vec{__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]), __builtin_sqrtf(x[3])};
}
NANN_SIMD float SumOf(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }

NANN_SIMD float MaxOf(Vec x) {
  const float even = x[0] > x[2] ? x[0] : x[2], odd = x[1] > x[3] ? x[1] : x[3];
  return even > odd ? even : odd;
}

NANN_SIMD Vec Bounded(Vec x, float least, float most) {
  return x < Set(least) ? Set(least) : (x > Set(most) ? Set(most) : x);
}

NANN_SIMD bool AnyLarger(Vec x, float than) {
  const IntVec larger = x > Set(than);
  uint64_t halves[2];
  __builtin_memcpy(halves, &larger, sizeof(halves));
  return (halves[0] | halves[1]) != 0;
}

NANN_SIMD Vec FirstFour(float a, float b, float c, float d) { return Vec{a, b, c, d}; }
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

NANN_SIMD void StoreFirst(float* to, Vec x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = x[i];
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
#if defined(__aarch64__)
    {GemmBlock<1, 1>, GemmBlock<2, 1>, GemmBlock<3, 1>, GemmBlock<4, 1>, GemmBlock<5, 1>, GemmBlock<6, 1>}};
#else
    {GemmBlock<1, 1>, GemmBlock<2, 1>}};
#endif

#if defined(__aarch64__)
#define NANN_PRODUCTS(vecs)                                             \
  {ProductBlock<1, vecs>, ProductBlock<2, vecs>, ProductBlock<3, vecs>, \
   ProductBlock<4, vecs>, ProductBlock<5, vecs>, ProductBlock<6, vecs>}
#else
#define NANN_PRODUCTS(vecs) {ProductBlock<1, vecs>, ProductBlock<2, vecs>}
#endif
constexpr ProductBlockFunction kProductBlocks[kStripVecs][kGemmRows] = {NANN_PRODUCTS(1), NANN_PRODUCTS(2),
                                                                        NANN_PRODUCTS(3), NANN_PRODUCTS(4)};
#undef NANN_PRODUCTS

void RunProduct(const GroupedProduct& product) { CoverWithProducts(product, kProductBlocks); }

void RunGemm(const Gemm& gemm) { CoverWithBlocks(gemm, kBlocks, kBlocks); }

constexpr TileKernels kKernels = {"generic", RunGemm,    nullptr,    nullptr,    Copy,           CopySteps,
                                  Gather,    Binary,     Select,     Unary,      Prelu,          Softmax,
                                  Reduce,    ReduceRows, RunProduct, Similarity, TableSimilarity};

}  // namespace

const TileKernels& GenericTileKernels() { return kKernels; }

}  // namespace nann
