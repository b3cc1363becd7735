// Bitmaps: bit i % 64 of word i / 64 belongs to value i.
#ifndef NANN_OPS_CORE_FILTER_BITS_H_
#define NANN_OPS_CORE_FILTER_BITS_H_

#include <cstdint>

namespace nann {

// Rows that are tested at once: one word.
inline constexpr int kWordRows = 64;

inline int64_t NumWords(int64_t bits) { return (bits + kWordRows - 1) / kWordRows; }

// The lowest `count` bits, 0 <= count <= 64.
inline uint64_t LowBits(int count) { return count == kWordRows ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

inline bool TestBit(const uint64_t* words, int64_t i) {
  return (words[i / kWordRows] >> (i % kWordRows) & 1) != 0;
}

// The bits begin to begin + count - 1 in the lowest bits, 1 <= count <= 64. Reads no word without one of
// them.
inline uint64_t BitsAt(const uint64_t* words, int64_t begin, int count) {
  const int shift = static_cast<int>(begin % kWordRows);
  uint64_t bits = words[begin / kWordRows] >> shift;
  if (shift + count > kWordRows) bits |= words[begin / kWordRows + 1] << (kWordRows - shift);
  return bits & LowBits(count);
}

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_BITS_H_
