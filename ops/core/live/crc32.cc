#include "crc32.h"

#include <array>
#include <cstddef>
#include <cstring>

namespace nann {
namespace {

// Bytes per step. Eight tables of 1 kB stay in the first cache and take one word per step (Kounavis and
// Berry, A Systematic Approach to Building High Performance Software-based CRC Generators, 2005): a byte at a
// time takes six times as long.
constexpr size_t kStep = 8;

using Tables = std::array<std::array<uint32_t, 256>, kStep>;

// Table 0 is the remainder of one byte; table t, of one byte with t bytes of zeros behind it.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ (remainder & 1 ? 0xEDB88320u : 0);
    tables[0][byte] = remainder;
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    for (size_t t = 1; t < kStep; ++t) {
      tables[t][byte] = (tables[t - 1][byte] >> 8) ^ tables[0][tables[t - 1][byte] & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

uint32_t Crc32(absl::string_view bytes) {
  uint32_t remainder = 0xFFFFFFFFu;
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= kStep; at += kStep, left -= kStep) {
    uint64_t word;  // Little-endian, as every processor that TensorFlow is built for.
    std::memcpy(&word, at, kStep);
    word ^= remainder;
    remainder = 0;
    for (size_t i = 0; i < kStep; ++i) remainder ^= kTables[kStep - 1 - i][(word >> (8 * i)) & 0xff];
  }
  for (; left > 0; ++at, --left) {
    remainder = (remainder >> 8) ^ kTables[0][(remainder ^ static_cast<unsigned char>(*at)) & 0xff];
  }
  return ~remainder;
}

}  // namespace nann
