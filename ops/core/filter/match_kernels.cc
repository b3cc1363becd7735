#include "match_kernels.h"

#include "bits.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nann {
namespace {

template <typename T>
uint64_t MatchGeneric(const T* x, const Interval<T>& interval) {
  uint64_t word = 0;
  for (int i = 0; i < kWordRows; ++i) word |= static_cast<uint64_t>(Matches(x[i], interval)) << i;
  return word;
}

constexpr MatchKernels kGeneric = {"generic", MatchGeneric<int64_t>, MatchGeneric<int32_t>,
                                   MatchGeneric<float>, MatchGeneric<uint8_t>};

#if defined(__x86_64__)
#define NANN_AVX2 __attribute__((target("avx2")))
#define NANN_AVX2_INLINE static inline NANN_AVX2 __attribute__((always_inline))

NANN_AVX2_INLINE __m256i Load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

// Collects the 32-bit lanes that are outside of an interval as bits, eight lanes at a time.
NANN_AVX2_INLINE uint64_t BitsOf32(__m256i lanes) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(lanes)));
}

NANN_AVX2 uint64_t MatchInt64Avx2(const int64_t* x, const Interval<int64_t>& interval) {
  const __m256i lo = _mm256_set1_epi64x(interval.lo), hi = _mm256_set1_epi64x(interval.hi);
  uint64_t outside = 0;
  for (int i = 0; i < kWordRows; i += 4) {
    const __m256i four = Load(x + i);
    const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi64(lo, four), _mm256_cmpgt_epi64(four, hi));
    outside |= static_cast<uint64_t>(_mm256_movemask_pd(_mm256_castsi256_pd(out))) << i;
  }
  return ~outside;
}

NANN_AVX2 uint64_t MatchInt32Avx2(const int32_t* x, const Interval<int32_t>& interval) {
  const __m256i lo = _mm256_set1_epi32(interval.lo), hi = _mm256_set1_epi32(interval.hi);
  uint64_t outside = 0;
  for (int i = 0; i < kWordRows; i += 8) {
    const __m256i eight = Load(x + i);
    const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(lo, eight), _mm256_cmpgt_epi32(eight, hi));
    outside |= BitsOf32(out) << i;
  }
  return ~outside;
}

NANN_AVX2 uint64_t MatchFloatAvx2(const float* x, const Interval<float>& interval) {
  const __m256i lo = _mm256_set1_epi32(interval.lo), hi = _mm256_set1_epi32(interval.hi);
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), infinity = _mm256_set1_epi32(0x7f800000);
  uint64_t outside = 0, nan = 0;
  for (int i = 0; i < kWordRows; i += 8) {
    const __m256i bits = Load(x + i);
    const __m256i order = _mm256_xor_si256(bits, _mm256_and_si256(_mm256_srai_epi32(bits, 31), magnitude));
    const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(lo, order), _mm256_cmpgt_epi32(order, hi));
    outside |= BitsOf32(out) << i;
    nan |= BitsOf32(_mm256_cmpgt_epi32(_mm256_and_si256(bits, magnitude), infinity)) << i;
  }
  return ~outside | (interval.nan ? nan : 0);
}

// Bools: an interval of bytes is 0 to 1, or one of the two, so that signed comparisons do.
NANN_AVX2 uint64_t MatchBytesAvx2(const uint8_t* x, const Interval<uint8_t>& interval) {
  const __m256i lo = _mm256_set1_epi8(static_cast<char>(interval.lo));
  const __m256i hi = _mm256_set1_epi8(static_cast<char>(interval.hi));
  uint64_t outside = 0;
  for (int i = 0; i < kWordRows; i += 32) {
    const __m256i bytes = Load(x + i);
    const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi8(lo, bytes), _mm256_cmpgt_epi8(bytes, hi));
    outside |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(out))) << i;
  }
  return ~outside;
}

constexpr MatchKernels kAvx2 = {"avx2", MatchInt64Avx2, MatchInt32Avx2, MatchFloatAvx2, MatchBytesAvx2};
#endif

std::vector<const MatchKernels*> Supported() {
  std::vector<const MatchKernels*> kernels = {&kGeneric};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) kernels.push_back(&kAvx2);
#endif
  return kernels;
}

}  // namespace

const std::vector<const MatchKernels*>& SupportedMatchKernels() {
  static const auto* const kernels = new std::vector<const MatchKernels*>(Supported());
  return *kernels;
}

}  // namespace nann
