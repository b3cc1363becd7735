#include "number.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace nann {
namespace {

// Of SQL's decimals; a literal with a point and more digits is a float64.
constexpr size_t kDecimalDigits = 38;

// An integer with more digits is larger than any attribute of type int64, and so are its first
// kDecimalDigits.
__int128 Integer(absl::string_view digits) {
  __int128 value = 0;
  for (char digit : digits.substr(0, kDecimalDigits)) value = value * 10 + (digit - '0');
  return value;
}

// Exact: `exponent` is at most kDecimalDigits. In place of std::pow, since the library links without libm.
__int128 PowerOfTen(size_t exponent) {
  __int128 power = 1;
  for (size_t i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// What a float32 is compared with in place of an integer of more than kDecimalDigits digits: as SQL's engines
// do it, a float32 up to what 128 bits hold, and a larger one as it is.
double LargeAsFloat32(double integer) {
  constexpr double kInt128s = 340282366920938463463374607431768211456.0;  // 2^128.
  return integer < kInt128s ? static_cast<double>(static_cast<float>(integer)) : integer;
}

// The value nearest to that of a decimal as SQL's engines cast it: digits divided by a power of ten, in parts
// where the digits do not fit a float32.
float DecimalAsFloat32(absl::string_view whole, absl::string_view fraction) {
  constexpr __int128 kExactIntegers = 1 << 24;
  const float power = static_cast<float>(static_cast<double>(PowerOfTen(fraction.size())));
  const __int128 digits = Integer(absl::StrCat(whole, fraction));
  if (fraction.empty() || digits <= kExactIntegers) return static_cast<float>(digits) / power;
  return static_cast<float>(Integer(whole)) + static_cast<float>(Integer(fraction)) / power;
}

int CompareTexts(absl::string_view a, absl::string_view b) { return a < b ? -1 : a > b ? 1 : 0; }

// The smallest int64 that `reaches`, which is monotone; one more than the largest where none does.
template <typename Reaches>
__int128 FirstInt64(const Reaches& reaches) {
  __int128 low = std::numeric_limits<int64_t>::min();
  __int128 high = static_cast<__int128>(std::numeric_limits<int64_t>::max()) + 1;
  while (low < high) {
    const __int128 middle = low + (high - low) / 2;
    if (reaches(static_cast<int64_t>(middle))) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

CompareOp Flipped(CompareOp op) {
  switch (op) {
    case CompareOp::kLess:
      return CompareOp::kGreater;
    case CompareOp::kLessEqual:
      return CompareOp::kGreaterEqual;
    case CompareOp::kGreater:
      return CompareOp::kLess;
    case CompareOp::kGreaterEqual:
      return CompareOp::kLessEqual;
    default:
      return op;
  }
}

bool Accepts(CompareOp op, int order) {
  switch (op) {
    case CompareOp::kEqual:
      return order == 0;
    case CompareOp::kNotEqual:
      return order != 0;
    case CompareOp::kLess:
      return order < 0;
    case CompareOp::kLessEqual:
      return order <= 0;
    case CompareOp::kGreater:
      return order > 0;
    case CompareOp::kGreaterEqual:
      return order >= 0;
  }
  return false;
}

bool Number::Parse(absl::string_view digits, bool negative, Number* number) {
  number->text_ = absl::StrCat(negative ? "-" : "", digits);
  number->negative_ = negative;
  const bool parsed = absl::SimpleAtod(digits, &number->float64_);
  if (!parsed || std::isinf(number->float64_)) return false;
  const size_t point = digits.find('.');
  absl::string_view whole = digits.substr(0, point);
  absl::string_view fraction = point == absl::string_view::npos ? "" : digits.substr(point + 1);
  const bool decimal = point != absl::string_view::npos;
  if (!decimal) whole.remove_prefix(std::min(whole.find_first_not_of('0'), whole.size()));
  if (digits.find_first_of("eE") != absl::string_view::npos ||
      (decimal && whole.size() + fraction.size() > kDecimalDigits)) {
    number->domain_ = NumberDomain::kFloat64;
  } else {
    const bool large = whole.size() > kDecimalDigits;
    number->float32_ = large ? LargeAsFloat32(number->float64_) : DecimalAsFloat32(whole, fraction);
    while (!whole.empty() && whole.front() == '0') whole.remove_prefix(1);
    while (!fraction.empty() && fraction.back() == '0') fraction.remove_suffix(1);
    number->whole_ = std::string(whole);
    number->fraction_ = std::string(fraction);
  }
  if (negative) {
    number->float64_ = -number->float64_;
    number->float32_ = -number->float32_;
  }
  return true;
}

double Number::AsDouble(NumberDomain domain) const {
  return domain == NumberDomain::kFloat32 ? float32_ : float64_;
}

int Number::Compare(const Number& other, NumberDomain domain) const {
  if (domain != NumberDomain::kExact) {
    const double a = AsDouble(domain), b = other.AsDouble(domain);
    return a < b ? -1 : a > b ? 1 : 0;
  }
  const bool zero = whole_.empty() && fraction_.empty();
  const bool other_zero = other.whole_.empty() && other.fraction_.empty();
  const int sign = zero ? 0 : negative_ ? -1 : 1;
  const int other_sign = other_zero ? 0 : other.negative_ ? -1 : 1;
  if (sign != other_sign) return sign < other_sign ? -1 : 1;
  if (whole_.size() != other.whole_.size()) return whole_.size() < other.whole_.size() ? -sign : sign;
  const int whole = CompareTexts(whole_, other.whole_);
  return sign * (whole != 0 ? whole : CompareTexts(fraction_, other.fraction_));
}

Interval<int64_t> Number::Int64s(CompareOp op, NumberDomain domain) const {
  __int128 from, after;
  if (domain == NumberDomain::kExact) {
    const __int128 whole = Integer(whole_);
    const int part = fraction_.empty() ? 0 : 1;
    from = negative_ ? -whole : whole + part;
    after = negative_ ? -whole + 1 - part : whole + 1;
  } else {
    const double literal = AsDouble(domain);
    const auto cast = [domain](int64_t x) {
      return domain == NumberDomain::kFloat32 ? static_cast<double>(static_cast<float>(x))
                                              : static_cast<double>(x);
    };
    from = FirstInt64([&](int64_t x) { return cast(x) >= literal; });
    after = FirstInt64([&](int64_t x) { return cast(x) > literal; });
  }
  return AcceptedValues<int64_t>(op, from, after, std::numeric_limits<int64_t>::min(),
                                 std::numeric_limits<int64_t>::max());
}

Interval<float> Number::Floats(CompareOp op, NumberDomain domain) const {
  const int32_t infinity = OrderOfFloat(std::numeric_limits<float>::infinity());
  const int32_t minus_infinity = OrderOfFloat(-std::numeric_limits<float>::infinity());
  const double literal = AsDouble(domain == NumberDomain::kExact ? NumberDomain::kFloat32 : domain);
  const float nearest = static_cast<float>(literal);
  // -0 is equal to 0, and just below it in this order.
  int32_t from = nearest == 0.0f ? OrderOfFloat(-0.0f) : OrderOfFloat(nearest);
  int32_t after = (nearest == 0.0f ? OrderOfFloat(0.0f) : OrderOfFloat(nearest)) + 1;
  if (static_cast<double>(nearest) < literal) from = after;
  if (static_cast<double>(nearest) > literal) after = from;
  const Interval<int32_t> accepted = AcceptedValues<int32_t>(op, from, after, minus_infinity, infinity);
  return {accepted.lo, accepted.hi, op == CompareOp::kGreater || op == CompareOp::kGreaterEqual};
}

}  // namespace nann
