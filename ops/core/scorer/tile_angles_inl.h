// Sines and directions of one vector, for any vector width. Included by one file an instruction set, inside
// its own namespace, after tile_functions_inl.h, under the same conditions.

NANN_SIMD Vec Magnitude(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

// Angles are rest + quarters * pi / 2, the rest in -pi / 4 to pi / 4; of the quarters two bits count.
struct Turned {
  Vec rest;
  IntVec quarters;
};

// Whole quarters that take 15 bits, and the angles that are as large.
constexpr float kMostQuickAngle = 51471.0f;

// Those larger than kMostQuickAngle: as below, with numbers of twice the bits, and those larger than
// kMostVectorAngle lane by lane.
NANN_SIMD void TurnLarge(Vec x, Turned* turned) {
  typedef double Doubles __attribute__((vector_size(2 * sizeof(Vec))));
  const IntVec is_large = Magnitude(x) > Set(kMostQuickAngle);
  const Doubles angle = __builtin_convertvector(Bounded(x, -kMostVectorAngle, kMostVectorAngle), Doubles);
  const double rounder = 6755399441055744.0;  // 1.5 * 2^52
  const Doubles n = (angle * 0.6366197723675814 + rounder) - rounder;
  const Doubles rest =
      ((angle - n * 1.570796012878418) - n * 3.139164164167596e-07) - n * 6.223372171896613e-14;
  turned->rest = is_large ? __builtin_convertvector(rest, Vec) : turned->rest;
  turned->quarters = is_large ? __builtin_convertvector(n, IntVec) : turned->quarters;
  if (!AnyLarger(Magnitude(x), kMostVectorAngle)) return;
  float lanes[kWidth], rests[kWidth];
  int32_t quarters[kWidth];
  Store(lanes, x);
  Store(rests, turned->rest);
  __builtin_memcpy(quarters, &turned->quarters, sizeof(quarters));
  ReduceLargeAngles(lanes, kWidth, rests, quarters);
  turned->rest = Load(rests);
  __builtin_memcpy(&turned->quarters, quarters, sizeof(quarters));
}

// As Cody and Waite do it: pi / 2 in four parts, of which the first three have nine bits. Their multiples are
// exact up to kMostQuickAngle, without a fused product too.
NANN_SIMD Turned Turn(Vec x) {
  const Vec rounder = Set(12582912.0f);  // As in RestOfExp.
  const Vec shifted = MultiplyAdd(x, Set(0.636619772f), rounder);
  const Vec n = shifted - rounder;
  Vec rest = MultiplyAdd(n, Set(-1.5703125f), x);
  rest = MultiplyAdd(n, Set(-4.83512878e-4f), rest);
  rest = MultiplyAdd(n, Set(-3.13855708e-7f), rest);
  rest = MultiplyAdd(n, Set(-6.07710063e-11f), rest);
  Turned turned = {rest, (IntVec)shifted};
  if (__builtin_expect(AnyLarger(Magnitude(x), kMostQuickAngle), 0)) TurnLarge(x, &turned);
  return turned;
}

// Cephes' sinf and cosf, of what is left of a quarter turn.
NANN_SIMD Vec SineOfRest(Vec x, Vec z) {
  Vec p = Set(-1.9515295891e-4f);
  p = MultiplyAdd(p, z, Set(8.3321608736e-3f));
  p = MultiplyAdd(p, z, Set(-1.6666654611e-1f));
  return x * MultiplyAdd(p, z, Set(1.0f));  // A sum would lose the sign of a zero.
}

NANN_SIMD Vec CosineOfRest(Vec z) {
  Vec p = Set(2.443315711809948e-5f);
  p = MultiplyAdd(p, z, Set(-1.388731625493765e-3f));
  p = MultiplyAdd(p, z, Set(4.166664568298827e-2f));
  return MultiplyAdd(p * z, z, MultiplyAdd(z, Set(-0.5f), Set(1.0f)));
}

// Of an odd number of quarters the cosine of the rest; two quarters more change the sign.
NANN_SIMD Vec SineOf(const Turned& turned) {
  const Vec z = turned.rest * turned.rest;
  const IntVec is_odd = (turned.quarters & 1) == 1;
  const Vec sine = is_odd ? CosineOfRest(z) : SineOfRest(turned.rest, z);
  return (Vec)((IntVec)sine ^ ((turned.quarters & 2) << 30));
}

NANN_SIMD Vec Sine(Vec x) { return SineOf(Turn(x)); }

NANN_SIMD Vec Cosine(Vec x) {
  Turned turned = Turn(x);
  turned.quarters += 1;
  return SineOf(turned);
}

NANN_SIMD Vec Tangent(Vec x) {
  const Turned turned = Turn(x);
  const Vec z = turned.rest * turned.rest;
  const Vec sine = SineOfRest(turned.rest, z), cosine = CosineOfRest(z);
  const IntVec is_odd = (turned.quarters & 1) == 1;
  return (is_odd ? -cosine : sine) / (is_odd ? sine : cosine);
}

// The angle of the point (x, y) as atan2 has it, -pi to pi, for zeros of either sign and infinities too.
NANN_SIMD Vec Direction(Vec y, Vec x) {
  const Vec none = Set(0.0f), one = Set(1.0f), height = Magnitude(y), side = Magnitude(x);
  const Vec less = height < side ? height : side, more = height < side ? side : height;
  const Vec ratio = less == more ? (more > none ? one : none) : less / more;
  const Vec z = ratio * ratio;
  // The polynomial of least error relative to the arc tangent of 0 to 1, by weighted least squares.
  Vec p = Set(0.00292069302f);
  p = MultiplyAdd(p, z, Set(-0.0163679309f));
  p = MultiplyAdd(p, z, Set(0.0432118662f));
  p = MultiplyAdd(p, z, Set(-0.0755221471f));
  p = MultiplyAdd(p, z, Set(0.106660046f));
  p = MultiplyAdd(p, z, Set(-0.142110556f));
  p = MultiplyAdd(p, z, Set(0.199937731f));
  p = MultiplyAdd(p, z, Set(-0.333331525f));
  const Vec near = MultiplyAdd(p * z, ratio, ratio);
  const Vec ahead = height > side ? Set(1.57079633f) - near : near;
  const Vec angle = (IntVec)x < 0 ? Set(3.14159265f) - ahead : ahead;  // Also of the negative zero.
  return (Vec)((IntVec)angle | ((IntVec)y & (IntVec)Set(-0.0f)));
}

// sqrt(1 - x^2), a NaN beyond 1.
NANN_SIMD Vec CosineOfSine(Vec x) { return SquareRoot((Set(1.0f) - x) * (Set(1.0f) + x)); }
