// Rows of 8-bit numbers with scales. Thread-safe.
#ifndef NANN_OPS_CORE_INDEX_INT8_ROWS_H_
#define NANN_OPS_CORE_INDEX_INT8_ROWS_H_

#include <cstdint>

namespace nann {

// A row of `width` numbers is the float32 scales of its blocks, little-endian, and then the numbers: a number
// stands for itself times the scale of its block. Blocks are of this many columns; the last may be shorter.
inline constexpr int64_t kInt8Block = 64;

inline constexpr int64_t Int8Blocks(int64_t width) { return (width + kInt8Block - 1) / kInt8Block; }

inline constexpr int64_t Int8RowBytes(int64_t width) {
  return width + Int8Blocks(width) * static_cast<int64_t>(sizeof(float));
}

// The width of rows of so many bytes; -1 where rows of no width have as many.
inline constexpr int64_t Int8RowWidth(int64_t bytes) {
  constexpr int64_t kBlockBytes = Int8RowBytes(kInt8Block);
  const int64_t blocks = bytes / kBlockBytes + (bytes % kBlockBytes != 0 ? 1 : 0);
  const int64_t width = bytes - blocks * static_cast<int64_t>(sizeof(float));
  return width >= 0 && Int8RowBytes(width) == bytes ? width : -1;
}

// Writes the `width` numbers of a row as float32: the same bits on every processor.
void Int8RowToFloat32(const char* row, int64_t width, float* out);

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_INT8_ROWS_H_
