#include "int8_rows.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nann {
namespace {

// A product of two floats is rounded once, however many are computed at a time.
void WidenInt8(const int8_t* in, float scale, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(in[i]) * scale;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void WidenInt8Avx2(const int8_t* in, float scale, int64_t n, float* out) {
  const __m256 scales = _mm256_set1_ps(scale);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in + i)));
    _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(wide), scales));
  }
  WidenInt8(in + i, scale, n - i, out + i);
}
#endif

using WidenInt8Function = void (*)(const int8_t*, float, int64_t, float*);

WidenInt8Function BestWidenInt8() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return &WidenInt8Avx2;
#endif
  return &WidenInt8;
}

}  // namespace

void Int8RowToFloat32(const char* row, int64_t width, float* out) {
  static const WidenInt8Function widen = BestWidenInt8();
  const auto* numbers = reinterpret_cast<const int8_t*>(row + Int8RowBytes(width) - width);
  for (int64_t column = 0; column < width; column += kInt8Block, row += sizeof(float)) {
    float scale;  // Rows lie at any address.
    std::memcpy(&scale, row, sizeof(scale));
    widen(numbers + column, scale, width - column < kInt8Block ? width - column : kInt8Block, out + column);
  }
}

}  // namespace nann
