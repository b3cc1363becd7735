// Sets of integers, for IN.
#ifndef NANN_OPS_CORE_FILTER_VALUE_SET_H_
#define NANN_OPS_CORE_FILTER_VALUE_SET_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace nann {

// A set of int64 values: open addressing in twice as many slots as values or more. Thread-safe: it never
// changes.
class ValueSet {
 public:
  // `values` holds at least one; repetitions are allowed.
  explicit ValueSet(absl::Span<const int64_t> values) {
    int bits = 1;
    while ((size_t{1} << bits) < 2 * values.size()) ++bits;
    shift_ = 64 - bits;
    mask_ = (size_t{1} << bits) - 1;
    slots_.assign(mask_ + 1, 0);
    used_.assign(mask_ + 1, 0);
    for (int64_t value : values) {
      size_t slot = SlotOf(value);
      while (used_[slot] && slots_[slot] != value) slot = (slot + 1) & mask_;
      slots_[slot] = value;
      used_[slot] = 1;
    }
  }

  bool Contains(int64_t value) const {
    for (size_t slot = SlotOf(value); used_[slot]; slot = (slot + 1) & mask_) {
      if (slots_[slot] == value) return true;
    }
    return false;
  }

 private:
  // Fibonacci hashing: the high bits of a product with 2^64 divided by the golden ratio.
  size_t SlotOf(int64_t value) const {
    return static_cast<uint64_t>(value) * 0x9e3779b97f4a7c15ull >> shift_;
  }

  int shift_;
  size_t mask_;
  std::vector<int64_t> slots_;
  std::vector<uint8_t> used_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_VALUE_SET_H_
