// Functions of one vector, for any vector width. Included by one file an instruction set, inside its own
// namespace, after it has defined:
//   NANN_SIMD                 static inline, always inlined, with the instruction set's target attribute
//   NANN_KERNEL               static, with the target attribute
//   kWidth                    floats in a vector
//   Vec, IntVec               vectors of kWidth floats or int32 (GCC's vector types: + - * / < and ?: work)
//   kGemmRows, kGemmStrips    the block of a product that fits into the registers
//   Load, Store, Set, MultiplyAdd (a * b + c), SquareRoot, SumOf and MaxOf (of a vector's floats),
//   SumsOfFour, MaximaOfFour, Spread, kLanesOfFour (a number of each of four vectors, in so many lanes each)
//   Bounded (x within two numbers, a NaN as it is), AnyLarger (whether any float is larger than a number),
//   StoreFirst, Inverse (1 / x for 1 <= x < 1e38, and of a NaN)
// No header is included from here: a function of the standard library compiled for this instruction set could
// be the copy that the linker keeps for all processors.

NANN_SIMD Vec Relu(Vec x) { return x < Set(0.0f) ? Set(0.0f) : x; }  // A NaN stays a NaN.
NANN_SIMD Vec Larger(Vec a, Vec b) { return a != a ? a : (b > a || b != b ? b : a); }
NANN_SIMD Vec Smaller(Vec a, Vec b) { return a != a ? a : (b < a || b != b ? b : a); }

// From here on the largest power of two in exp(x) would be 2^128.
constexpr float kLargestExp = 88.376f;

// Of Cephes' expf: exp(x) = scale * (1 + rest), where scale is 2^n and rest about exp(r) - 1, both within a
// relative error of 1e-7; for -87.3 <= x <= kLargestExp.
NANN_SIMD Vec RestOfExp(Vec x, Vec* scale) {
  const Vec rounder = Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits.
  const Vec shifted = MultiplyAdd(x, Set(1.44269504f), rounder);
  const Vec n = shifted - rounder;
  const Vec r = MultiplyAdd(n, Set(2.12194440e-4f), MultiplyAdd(n, Set(-0.693359375f), x));
  Vec p = Set(1.9875691500e-4f);
  p = MultiplyAdd(p, r, Set(1.3981999507e-3f));
  p = MultiplyAdd(p, r, Set(8.3334519073e-3f));
  p = MultiplyAdd(p, r, Set(4.1665795894e-2f));
  p = MultiplyAdd(p, r, Set(1.6666665459e-1f));
  p = MultiplyAdd(p, r, Set(5.0000001201e-1f));
  *scale = (Vec)(((IntVec)shifted << 23) + (IntVec)Set(1.0f));
  return MultiplyAdd(p, r * r, r);
}

NANN_SIMD Vec BoundedExp(Vec x) {
  Vec scale;
  const Vec rest = RestOfExp(x, &scale);
  return MultiplyAdd(scale, rest, scale);
}

// exp(x) - 1, for the same x. Nothing cancels.
NANN_SIMD Vec BoundedExpm1(Vec x) {
  Vec scale;
  const Vec rest = RestOfExp(x, &scale);
  return MultiplyAdd(scale, rest, scale - Set(1.0f));
}

NANN_SIMD Vec Exp(Vec x) {
  const Vec bounded = Bounded(x, -87.3f, kLargestExp);
  const Vec infinity = Set(__builtin_inff());
  return x < Set(-87.3f) ? Set(0.0f) : (x > Set(kLargestExp) ? infinity : BoundedExp(bounded));
}

// Of what is at most 0, or NaN.
NANN_SIMD Vec ExpOfNegative(Vec x) {
  const Vec bounded = Bounded(x, -87.3f, 0.0f);
  return x < Set(-87.3f) ? Set(0.0f) : BoundedExp(bounded);
}

NANN_SIMD Vec Sigmoid(Vec x) {
  const Vec bounded = Bounded(x, -87.3f, 87.3f);
  return x < Set(-87.3f) ? Set(0.0f) : Inverse(Set(1.0f) + BoundedExp(-bounded));
}

// e / (e + 2) with e = exp(2x) - 1. It is 1 from 9.1 on.
NANN_SIMD Vec Tanh(Vec x) {
  const Vec e = BoundedExpm1(Bounded(x + x, -18.2f, 18.2f));
  return e * Inverse(e + Set(2.0f));
}

// x * p(x^2) / q(x^2), as Eigen has it, with q(0) = 1: within 4e-7 of erf, which is 1 from 4 on.
NANN_SIMD Vec Erf(Vec x) {
  const Vec bounded = Bounded(x, -4.0f, 4.0f);
  const Vec z = bounded * bounded;
  Vec p = Set(1.91110559e-8f);
  p = MultiplyAdd(p, z, Set(-1.94232885e-6f));
  p = MultiplyAdd(p, z, Set(1.47287939e-4f));
  p = MultiplyAdd(p, z, Set(3.99061376e-3f));
  p = MultiplyAdd(p, z, Set(5.15249965e-2f));
  p = MultiplyAdd(p, z, Set(2.07126103e-1f));
  p = MultiplyAdd(p, z, Set(1.12837909f));
  Vec q = Set(1.02112431e-3f);
  q = MultiplyAdd(q, z, Set(1.49581464e-2f));
  q = MultiplyAdd(q, z, Set(1.17971101e-1f));
  q = MultiplyAdd(q, z, Set(5.16891977e-1f));
  q = MultiplyAdd(q, z, Set(1.0f));
  return Bounded(bounded * p * Inverse(q), -1.0f, 1.0f);
}

NANN_SIMD Vec Silu(Vec x) { return x * Sigmoid(x); }

// Twice the exact GELU: the half of it goes into what comes after.
NANN_SIMD Vec TwiceGelu(Vec x) { return x * (Set(1.0f) + Erf(x * Set(0.707106781f))); }

// Of Cephes' logf: log(2^exponent (1 + r)) for 1 + r between the roots of 1/2 and 2. That of 1 + r is
// r - r^2 / 2 + r^3 p(r), and ln 2 comes in two parts.
NANN_SIMD Vec LogOfParts(Vec exponent, Vec r) {
  const Vec z = r * r;
  Vec p = Set(7.0376836292e-2f);
  p = MultiplyAdd(p, r, Set(-1.1514610310e-1f));
  p = MultiplyAdd(p, r, Set(1.1676998740e-1f));
  p = MultiplyAdd(p, r, Set(-1.2420140846e-1f));
  p = MultiplyAdd(p, r, Set(1.4249322787e-1f));
  p = MultiplyAdd(p, r, Set(-1.6668057665e-1f));
  p = MultiplyAdd(p, r, Set(2.0000714765e-1f));
  p = MultiplyAdd(p, r, Set(-2.4999993993e-1f));
  p = MultiplyAdd(p, r, Set(3.3333331174e-1f));
  const Vec tail = MultiplyAdd(exponent, Set(-2.12194440e-4f), p * r * z) - Set(0.5f) * z;
  return MultiplyAdd(exponent, Set(0.693359375f), r + tail);
}

NANN_SIMD Vec Log(Vec x) {
  const Vec none = Set(0.0f), one = Set(1.0f);
  const Vec smallest = Set(1.17549435e-38f);  // Below it the exponent's bits say nothing.
  const Vec normal = x < smallest ? x * Set(33554432.0f) : x;
  const IntVec bits = (IntVec)normal;
  const Vec mantissa = (Vec)((bits & 0x007fffff) | 0x3f000000);  // In [0.5, 1).
  const Vec root = Set(0.707106781f);
  const Vec exponent = __builtin_convertvector((bits >> 23) - 126, Vec) - (x < smallest ? Set(25.0f) : none) -
                       (mantissa < root ? one : none);
  const Vec r = (mantissa < root ? mantissa + mantissa : mantissa) - one;
  const Vec result = LogOfParts(exponent, r);
  const Vec infinity = Set(__builtin_inff());
  // Of a negative number: a NaN; the sum keeps that of x.
  return x > none ? (x < infinity ? result : x) : (x < none ? Set(__builtin_nanf("")) : x - infinity);
}

// log(1 + x): what the sum was rounded by is added again, to first order.
NANN_SIMD Vec Log1p(Vec x) {
  const Vec one = Set(1.0f), sum = one + x;
  const Vec rounded = x - (sum - one);
  const Vec result = Log(sum);
  return sum > Set(0.0f) && sum < Set(__builtin_inff()) ? MultiplyAdd(rounded, Inverse(sum), result) : result;
}

// It is -1 from -18 on.
NANN_SIMD Vec Expm1(Vec x) {
  const Vec result = BoundedExpm1(Bounded(x, -18.0f, kLargestExp));
  return x > Set(kLargestExp) ? Set(__builtin_inff()) : result;
}

NANN_SIMD Vec Elu(Vec x) { return x < Set(0.0f) ? BoundedExpm1(Bounded(x, -18.0f, 0.0f)) : x; }

// Relu(x) + log(1 + e) with e = exp(-|x|): 1 + e is between 1 and 2, so that its exponent is 0 or 1.
NANN_SIMD Vec Softplus(Vec x) {
  const Vec e = ExpOfNegative(x < Set(0.0f) ? x : -x);
  const Vec least = Set(0.414213562f);  // From here on 1 + e is more than the root of 2.
  const Vec exponent = e > least ? Set(1.0f) : Set(0.0f);
  return Relu(x) + LogOfParts(exponent, e > least ? Set(0.5f) * (e - Set(1.0f)) : e);
}

// Numbers of 2^23 and more are whole.
NANN_SIMD Vec Floor(Vec x) {
  const Vec magnitude = x < Set(0.0f) ? -x : x;
  const Vec limit = Set(8388608.0f);
  const Vec whole =
      __builtin_convertvector(__builtin_convertvector(magnitude < limit ? x : limit, IntVec), Vec);
  return magnitude < limit ? (whole > x ? whole - Set(1.0f) : whole) : x;
}
