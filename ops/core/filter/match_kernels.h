// The comparison of 64 values at a time, in one version per instruction set, all with the same results.
#ifndef NANN_OPS_CORE_FILTER_MATCH_KERNELS_H_
#define NANN_OPS_CORE_FILTER_MATCH_KERNELS_H_

#include <cstdint>
#include <cstring>
#include <vector>

namespace nann {

// The order of floats as that of integers: ascending from -infinity to +infinity, with -0 just below 0. NaN
// lies outside of these. Comparing integers gives the same whether or not the thread flushes denormals to
// zero, which TensorFlow's threads do.
inline int32_t OrderOfFloatBits(int32_t bits) { return bits ^ (bits >> 31 & 0x7fffffff); }
inline int32_t OrderOfFloat(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return OrderOfFloatBits(bits);
}
// The same for both zeros.
inline int64_t KeyOfFloat(float x) {
  const int32_t order = OrderOfFloat(x);
  return order == -1 ? 0 : order;
}
inline bool IsNanBits(int32_t bits) { return (bits & 0x7fffffff) > 0x7f800000; }

// The values that a comparison with literals accepts: lo <= x <= hi. None where lo > hi.
template <typename T>
struct Interval {
  T lo;
  T hi;
};

// Of floats, by OrderOfFloat; the ends are those of numbers. NaN is apart.
template <>
struct Interval<float> {
  int32_t lo;
  int32_t hi;
  bool nan;  // Whether NaN is accepted.
};

template <typename T>
inline bool Matches(T x, const Interval<T>& interval) {
  return (x >= interval.lo) & (x <= interval.hi);
}
template <>
inline bool Matches(float x, const Interval<float>& interval) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const int32_t order = OrderOfFloatBits(bits);
  return ((order >= interval.lo) & (order <= interval.hi)) | (interval.nan & IsNanBits(bits));
}

// The kernels of one instruction set: bit i of the result is set where Matches(x[i], interval), for 64
// values. Constant, so thread-safe.
struct MatchKernels {
  const char* name;
  uint64_t (*int64s)(const int64_t* x, const Interval<int64_t>& interval);
  uint64_t (*int32s)(const int32_t* x, const Interval<int32_t>& interval);
  uint64_t (*floats)(const float* x, const Interval<float>& interval);
  uint64_t (*bytes)(const uint8_t* x, const Interval<uint8_t>& interval);
};

// All that this processor can run, the fastest last.
const std::vector<const MatchKernels*>& SupportedMatchKernels();

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_MATCH_KERNELS_H_
