#include "proxy_kernels.h"

#include <cmath>
#include <limits>

#include "../index/float16.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nann {
namespace {

// The code stands here once. Each instruction set compiles it anew, because it is inlined into functions of
// that set.
#define NANN_INLINE static inline __attribute__((always_inline))

// Vectors of kBytes bytes, in registers and where they lie in arrays.
template <int kBytes>
struct Vectors {
  typedef double Doubles __attribute__((vector_size(kBytes)));
  typedef double DoublesInMemory __attribute__((vector_size(kBytes), aligned(8), may_alias));
  typedef float Floats __attribute__((vector_size(kBytes)));
  typedef float FloatsInMemory __attribute__((vector_size(kBytes), aligned(4), may_alias));
  static constexpr int64_t kDoubles = kBytes / sizeof(double);
  static constexpr int64_t kFloats = kBytes / sizeof(float);
};

// A block of sums that is kept in registers: so many rows and vectors of each.
constexpr int64_t kRows = 2, kVectors = 4;

// matrix[i + r, j...] += or -= sum of rows[s, i + r] rows[s, j...] over s < n, for a block of sums.
template <typename V, bool kSubtract, int64_t kBlockRows>
NANN_INLINE void AddBlock(const double* rows, int64_t n, int64_t columns, int64_t i, int64_t j,
                          double* matrix) {
  typedef typename V::DoublesInMemory InMemory;
  typename V::Doubles sums[kBlockRows][kVectors];
  for (int64_t r = 0; r < kBlockRows; ++r) {
    const InMemory* from = reinterpret_cast<const InMemory*>(matrix + (i + r) * columns + j);
    for (int64_t v = 0; v < kVectors; ++v) sums[r][v] = from[v];
  }
  for (int64_t s = 0; s < n; ++s) {
    const double* row = rows + s * columns;
    const InMemory* others = reinterpret_cast<const InMemory*>(row + j);
    for (int64_t v = 0; v < kVectors; ++v) {
      const typename V::Doubles other = others[v];
      for (int64_t r = 0; r < kBlockRows; ++r) {
        sums[r][v] = kSubtract ? sums[r][v] - row[i + r] * other : sums[r][v] + row[i + r] * other;
      }
    }
  }
  for (int64_t r = 0; r < kBlockRows; ++r) {
    InMemory* to = reinterpret_cast<InMemory*>(matrix + (i + r) * columns + j);
    for (int64_t v = 0; v < kVectors; ++v) to[v] = sums[r][v];
  }
}

// AddBlock for the upper triangle of the rows i to i + kBlockRows - 1. Whole blocks only: in a narrower one
// each sum would wait for the one before.
template <typename V, bool kSubtract, int64_t kBlockRows>
NANN_INLINE void AddRows(const double* rows, int64_t n, int64_t columns, int64_t i, double* matrix) {
  constexpr int64_t kWidth = kVectors * V::kDoubles;
  static_assert(kProxyLanes % kWidth == 0, "columns are whole blocks");
  for (int64_t j = i / kWidth * kWidth; j < columns; j += kWidth) {
    AddBlock<V, kSubtract, kBlockRows>(rows, n, columns, i, j, matrix);
  }
}

template <typename V>
NANN_INLINE void AddOuterProducts(const double* rows, int64_t n, int64_t columns, double* matrix) {
  for (int64_t i = 0; i < columns; i += kRows) AddRows<V, false, kRows>(rows, n, columns, i, matrix);
}

// Cholesky's decomposition, row by row of the factor: each row of the matrix, less the outer products of the
// rows above it, is divided by a root.
template <typename V>
NANN_INLINE void Factorize(int64_t columns, double* matrix) {
  for (int64_t i = 0; i < columns; ++i) {
    AddRows<V, true, 1>(matrix, i, columns, i, matrix);
    double* row = matrix + i * columns;
    const double root = std::sqrt(row[i]);
    row[i] = root;
    for (int64_t k = i + 1; k < columns; ++k) row[k] /= root;
  }
}

// The sum of 16 lanes plus the intercept: lane l and lane l + 8, then l and l + 4, and so on.
template <typename V>
NANN_INLINE float GuessOf(typename V::Floats* sums, float intercept) {
  for (int64_t half = kProxyLanes / V::kFloats / 2; half > 0; half /= 2) {
    for (int64_t part = 0; part < half; ++part) sums[part] += sums[part + half];
  }
  float four[4];
  for (int64_t l = 0; l < 4; ++l) four[l] = V::kFloats == 4 ? sums[0][l] : sums[0][l] + sums[0][l + 4];
  const float guess = ((four[0] + four[2]) + (four[1] + four[3])) + intercept;
  return std::isnan(guess) ? -std::numeric_limits<float>::infinity() : guess;
}

template <typename V>
NANN_INLINE void Guess(const float* rows, int64_t n, int64_t columns, const float* weights, float intercept,
                       float* guesses) {
  typedef typename V::FloatsInMemory InMemory;
  constexpr int64_t kParts = kProxyLanes / V::kFloats;
  const InMemory* w = reinterpret_cast<const InMemory*>(weights);
  for (int64_t item = 0; item < n; ++item) {
    const InMemory* x = reinterpret_cast<const InMemory*>(rows + item * columns);
    typename V::Floats sums[kParts];
    for (int64_t part = 0; part < kParts; ++part) sums[part] = x[part] * w[part];
    for (int64_t i = kParts; i < columns / V::kFloats; i += kParts) {
      for (int64_t part = 0; part < kParts; ++part) sums[part] += x[i + part] * w[i + part];
    }
    guesses[item] = GuessOf<V>(sums, intercept);
  }
}

// The three functions of an instruction set.
#define NANN_PROXY_KERNELS(Set, target_attribute, V)                                                       \
  target_attribute void AddOuterProducts##Set(const double* rows, int64_t n, int64_t columns, double* m) { \
    AddOuterProducts<V>(rows, n, columns, m);                                                              \
  }                                                                                                        \
  target_attribute void Factorize##Set(int64_t columns, double* matrix) { Factorize<V>(columns, matrix); } \
  target_attribute void Guess##Set(const float* rows, int64_t n, int64_t columns, const float* weights,    \
                                   float intercept, float* guesses) {                                      \
    Guess<V>(rows, n, columns, weights, intercept, guesses);                                               \
  }

NANN_PROXY_KERNELS(Generic, , Vectors<16>)
constexpr ProxyKernels kGeneric = {"generic", AddOuterProductsGeneric, FactorizeGeneric, GuessGeneric,
                                   nullptr};

#if defined(__x86_64__)
// Without FMA: there is no instruction that would not round a product. Wider vectors gain nothing where rows
// are this short.
NANN_PROXY_KERNELS(Avx2, __attribute__((target("avx2"))), Vectors<32>)

#define NANN_F16C __attribute__((target("avx2,f16c")))

NANN_F16C static inline Vectors<32>::Floats Widen(const uint16_t* eight) {
  return (Vectors<32>::Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(eight)));
}

// Rows lie anywhere in a big table: those of some positions further on are fetched meanwhile, into the
// second-level cache, because the first has too few misses under way.
constexpr int64_t kAhead = 16;
constexpr int kSecondLevel = 2;
constexpr int64_t kLine = 64 / sizeof(uint16_t);  // Numbers in a cache line.

NANN_F16C void GuessFloat16(const uint16_t* table, const int32_t* positions, int64_t n, int64_t columns,
                            const float* weights, float intercept, float* guesses) {
  typedef Vectors<32> V;
  const V::FloatsInMemory* w = reinterpret_cast<const V::FloatsInMemory*>(weights);
  for (int64_t item = 0; item < n + kAhead; ++item) {
    if (item < n) {
      const uint16_t* row = table + positions[item] * columns;
      for (int64_t i = 0; i < columns; i += kLine) __builtin_prefetch(row + i, 0, kSecondLevel);
    }
    if (item < kAhead) continue;
    const uint16_t* row = table + positions[item - kAhead] * columns;
    V::Floats sums[2] = {Widen(row) * w[0], Widen(row + 8) * w[1]};
    for (int64_t i = kProxyLanes; i < columns; i += kProxyLanes) {
      sums[0] += Widen(row + i) * w[i / V::kFloats];
      sums[1] += Widen(row + i + 8) * w[i / V::kFloats + 1];
    }
    guesses[item - kAhead] = GuessOf<V>(sums, intercept);
  }
}

constexpr ProxyKernels kAvx2 = {"avx2", AddOuterProductsAvx2, FactorizeAvx2, GuessAvx2, nullptr};
constexpr ProxyKernels kF16c = {"f16c", AddOuterProductsAvx2, FactorizeAvx2, GuessAvx2, GuessFloat16};
#endif

std::vector<const ProxyKernels*> Supported() {
  std::vector<const ProxyKernels*> kernels = {&kGeneric};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    kernels.push_back(&kAvx2);
    if (HasF16c()) kernels.push_back(&kF16c);
  }
#endif
  return kernels;
}

}  // namespace

const std::vector<const ProxyKernels*>& SupportedProxyKernels() {
  static const auto* const kernels = new std::vector<const ProxyKernels*>(Supported());
  return *kernels;
}

}  // namespace nann
