#include "float16.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace nann {
namespace {

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float Widen(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f) {  // Infinity or NaN. A NaN becomes quiet, as F16C makes it.
    const uint32_t quiet = mantissa == 0 ? 0 : 0x400000;
    return FromBits(sign | 0x7f800000 | quiet | mantissa << 13);
  }
  if (exponent == 0) {  // Zero or subnormal: mantissa x 2^-24.
    const float magnitude = static_cast<float>(mantissa) * FromBits(0x33800000);
    return sign != 0 ? -magnitude : magnitude;
  }
  constexpr uint32_t kBiasDifference = 127 - 15;  // Exponent bias of float32 minus that of binary16.
  return FromBits(sign | (exponent + kBiasDifference) << 23 | mantissa << 13);
}

void WidenAll(const uint16_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = Widen(in[i]);
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) void WidenAllF16c(const uint16_t* in, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  WidenAll(in + i, n - i, out + i);
}
#endif

void WidenBfloat16(const uint16_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = FromBits(static_cast<uint32_t>(in[i]) << 16);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void WidenBfloat16Avx2(const uint16_t* in, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i)));
    _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
  }
  WidenBfloat16(in + i, n - i, out + i);
}
#endif

using WidenFunction = void (*)(const uint16_t*, int64_t, float*);

WidenFunction BestWiden() {
#if defined(__x86_64__)
  if (HasF16c()) return &WidenAllF16c;
#endif
  return &WidenAll;
}

WidenFunction BestWidenBfloat16() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return &WidenBfloat16Avx2;
#endif
  return &WidenBfloat16;
}

}  // namespace

bool HasF16c() {
#if defined(__x86_64__)
  // Clang 16 has no name for F16C in __builtin_cpu_supports.
  unsigned int eax, ebx, ecx, edx;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx");
#else
  return false;
#endif
}

void Float16ToFloat32(const uint16_t* in, int64_t n, float* out) {
  static const WidenFunction widen = BestWiden();
  widen(in, n, out);
}

void Bfloat16ToFloat32(const uint16_t* in, int64_t n, float* out) {
  static const WidenFunction widen = BestWidenBfloat16();
  widen(in, n, out);
}

}  // namespace nann
