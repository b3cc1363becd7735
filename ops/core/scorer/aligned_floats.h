// Memory that kernels work on.
#ifndef NANN_OPS_CORE_SCORER_ALIGNED_FLOATS_H_
#define NANN_OPS_CORE_SCORER_ALIGNED_FLOATS_H_

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "tile_kernels.h"

namespace nann {

// Floats on cache-line bounds, not initialized, with room to read a strip beyond the end.
class AlignedFloats {
 public:
  AlignedFloats() = default;
  explicit AlignedFloats(int64_t size) {
    constexpr int64_t kCacheLine = 64;
    const int64_t bytes = (size + kStrip) * static_cast<int64_t>(sizeof(float));
    data_.reset(static_cast<float*>(
        std::aligned_alloc(kCacheLine, (bytes + kCacheLine - 1) / kCacheLine * kCacheLine)));
  }

  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float[], Free> data_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_ALIGNED_FLOATS_H_
