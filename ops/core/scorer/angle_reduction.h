// What is left of an angle, however large, beyond whole quarter turns.
#ifndef NANN_OPS_CORE_SCORER_ANGLE_REDUCTION_H_
#define NANN_OPS_CORE_SCORER_ANGLE_REDUCTION_H_

#include <cstdint>

namespace nann {

// 2^30: up to here vectors of numbers with twice the bits take quarter turns away.
inline constexpr float kMostVectorAngle = 1073741824.0f;

// Of every x beyond kMostVectorAngle, of either sign: x = rest + quarters * pi / 2, the rest in -pi / 4 to
// pi / 4, rounded once, and of the quarters the last two bits. The rest of an infinity is a NaN. What is not
// beyond is left as it is.
void ReduceLargeAngles(const float* x, int count, float* rest, int32_t* quarters);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_ANGLE_REDUCTION_H_
