#include "proxy_kernels.h"

#include <cmath>
#include <limits>

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

// Vectors of sums that are kept in registers at once.
constexpr int64_t kBlock = 4;

template <typename V, int64_t kVectors>
NANN_INLINE void AddBlock(const double* rows, int64_t n, int64_t columns, int64_t i, int64_t j,
                          double* sums_of_row) {
  typename V::DoublesInMemory* out = reinterpret_cast<typename V::DoublesInMemory*>(sums_of_row + j);
  typename V::Doubles sums[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) sums[v] = out[v];
  for (int64_t s = 0; s < n; ++s) {
    const double* row = rows + s * columns;
    const typename V::DoublesInMemory* others = reinterpret_cast<const typename V::DoublesInMemory*>(row + j);
    for (int64_t v = 0; v < kVectors; ++v) sums[v] += row[i] * others[v];
  }
  for (int64_t v = 0; v < kVectors; ++v) out[v] = sums[v];
}

template <typename V>
NANN_INLINE void AddOuterProducts(const double* rows, int64_t n, int64_t columns, double* matrix) {
  for (int64_t i = 0; i < columns; ++i) {
    int64_t j = i / V::kDoubles * V::kDoubles;
    for (; j + kBlock * V::kDoubles <= columns; j += kBlock * V::kDoubles) {
      AddBlock<V, kBlock>(rows, n, columns, i, j, matrix + i * columns);
    }
    for (; j < columns; j += V::kDoubles) AddBlock<V, 1>(rows, n, columns, i, j, matrix + i * columns);
  }
}

// Cholesky's decomposition, row by row of the factor.
template <typename V>
NANN_INLINE void Factorize(int64_t columns, double* matrix) {
  for (int64_t j = 0; j < columns; ++j) {
    double* row = matrix + j * columns;
    const double root = std::sqrt(row[j]);
    row[j] = root;
    for (int64_t k = j + 1; k < columns; ++k) row[k] /= root;
    const typename V::DoublesInMemory* factors = reinterpret_cast<const typename V::DoublesInMemory*>(row);
    for (int64_t i = j + 1; i < columns; ++i) {
      typename V::DoublesInMemory* below =
          reinterpret_cast<typename V::DoublesInMemory*>(matrix + i * columns);
      for (int64_t k = i / V::kDoubles; k < columns / V::kDoubles; ++k) below[k] -= row[i] * factors[k];
    }
  }
}

template <typename V>
NANN_INLINE void Guess(const float* rows, int64_t n, int64_t columns, const float* weights, float intercept,
                       float* guesses) {
  constexpr int64_t kParts = kProxyLanes / V::kFloats;
  const typename V::FloatsInMemory* w = reinterpret_cast<const typename V::FloatsInMemory*>(weights);
  for (int64_t item = 0; item < n; ++item) {
    const typename V::FloatsInMemory* x =
        reinterpret_cast<const typename V::FloatsInMemory*>(rows + item * columns);
    typename V::Floats sums[kParts];
    for (int64_t part = 0; part < kParts; ++part) sums[part] = x[part] * w[part];
    for (int64_t i = kParts; i < columns / V::kFloats; i += kParts) {
      for (int64_t part = 0; part < kParts; ++part) sums[part] += x[i + part] * w[i + part];
    }
    // Lane l and lane l + 8, then l and l + 4, and so on.
    for (int64_t half = kParts / 2; half > 0; half /= 2) {
      for (int64_t part = 0; part < half; ++part) sums[part] += sums[part + half];
    }
    float four[4];
    for (int64_t l = 0; l < 4; ++l) four[l] = V::kFloats == 4 ? sums[0][l] : sums[0][l] + sums[0][l + 4];
    const float guess = ((four[0] + four[2]) + (four[1] + four[3])) + intercept;
    guesses[item] = std::isnan(guess) ? -std::numeric_limits<float>::infinity() : guess;
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
constexpr ProxyKernels kGeneric = {"generic", AddOuterProductsGeneric, FactorizeGeneric, GuessGeneric};

#if defined(__x86_64__)
// Without FMA: there is no instruction that would not round a product. Wider vectors gain nothing where rows
// are this short.
NANN_PROXY_KERNELS(Avx2, __attribute__((target("avx2"))), Vectors<32>)
constexpr ProxyKernels kAvx2 = {"avx2", AddOuterProductsAvx2, FactorizeAvx2, GuessAvx2};
#endif

std::vector<const ProxyKernels*> Supported() {
  std::vector<const ProxyKernels*> kernels = {&kGeneric};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) kernels.push_back(&kAvx2);
#endif
  return kernels;
}

}  // namespace

const std::vector<const ProxyKernels*>& SupportedProxyKernels() {
  static const auto* const kernels = new std::vector<const ProxyKernels*>(Supported());
  return *kernels;
}

}  // namespace nann
