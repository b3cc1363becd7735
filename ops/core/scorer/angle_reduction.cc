#include "angle_reduction.h"

#include <cstring>

namespace nann {
namespace {

// The bits of 2 / pi behind the point, after 32 zeros.
constexpr uint32_t kTwoOverPi[] = {0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
                                   0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561};
constexpr int kMantissaBits = 23, kExponentBias = 127;

// 64 bits of them from bit `first` on, which is at most 198.
uint64_t BitsFrom(int first) {
  const uint32_t* words = kTwoOverPi + first / 32;
  const int shift = first % 32;
  const uint64_t two = static_cast<uint64_t>(words[0]) << 32 | words[1];
  return shift == 0 ? two : two << shift | words[2] >> (32 - shift);
}

// As Payne and Hanek do it: x is a whole number of 24 bits times 2^scale. Of 2 / pi times 2^scale, bits for
// multiples of 4 make no difference, so the product is that of 96 bits from the one for 2 on.
void Reduce(float x, float* rest, int32_t* quarters) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const int exponent = static_cast<int>(bits >> kMantissaBits & 0xff);
  const uint64_t mantissa = (bits & 0x7fffff) | 0x800000;
  const int scale = exponent - kExponentBias - kMantissaBits;
  const int first = 32 - 2 + scale;  // Bit 32 is that for 1/2, or for 2^(scale - 1) after the product.
  const uint64_t low = mantissa * (BitsFrom(first + 64) >> 32);
  const uint64_t turns = mantissa * BitsFrom(first) + (low >> 32);  // Quarter turns, times 2^62.
  const uint64_t whole = (turns + (uint64_t{1} << 61)) >> 62;
  const double part = static_cast<double>(static_cast<int64_t>(turns - (whole << 62)));
  const double angle = part * (1.5707963267948966 / (uint64_t{1} << 62));
  const bool is_negative = bits >> 31 != 0;
  *rest = static_cast<float>(is_negative ? -angle : angle);
  *quarters = static_cast<int32_t>((is_negative ? 4 - whole : whole) & 3);
}

}  // namespace

void ReduceLargeAngles(const float* x, int count, float* rest, int32_t* quarters) {
  for (int i = 0; i < count; ++i) {
    const float magnitude = x[i] < 0.0f ? -x[i] : x[i];
    if (!(magnitude > kMostVectorAngle)) continue;
    if (x[i] - x[i] == 0.0f) {
      Reduce(x[i], rest + i, quarters + i);
    } else {
      rest[i] = x[i] - x[i];
    }
  }
}

}  // namespace nann
