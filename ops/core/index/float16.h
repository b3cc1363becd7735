// Conversion of the two 16-bit floating-point storage types to float32. Thread-safe.
#ifndef NANN_OPS_CORE_INDEX_FLOAT16_H_
#define NANN_OPS_CORE_INDEX_FLOAT16_H_

#include <cstdint>

namespace nann {

// IEEE 754 binary16 [n] -> float32 [n], exact for every value; a NaN stays one. Uses the F16C instructions
// where the processor has them.
void Float16ToFloat32(const uint16_t* in, int64_t n, float* out);

// Whether this processor has the F16C instructions.
bool HasF16c();

// bfloat16 [n] -> float32 [n]: the upper half of a float32, so exact.
void Bfloat16ToFloat32(const uint16_t* in, int64_t n, float* out);

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_FLOAT16_H_
