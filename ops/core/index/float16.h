// Widening of the two 16-bit floating-point storage types.
#ifndef NANN_OPS_CORE_INDEX_FLOAT16_H_
#define NANN_OPS_CORE_INDEX_FLOAT16_H_

#include <cstdint>

namespace nann {

// IEEE 754 binary16, exact for every value; uses the processor's F16C where it has it.
void Float16ToFloat32(const uint16_t* in, int64_t n, float* out);

// bfloat16: the upper half of a float32.
void Bfloat16ToFloat32(const uint16_t* in, int64_t n, float* out);

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_FLOAT16_H_
