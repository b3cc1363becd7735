// Number literals, and the values of a column that a comparison with one accepts.
#ifndef NANN_OPS_CORE_FILTER_NUMBER_H_
#define NANN_OPS_CORE_FILTER_NUMBER_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "match_kernels.h"

namespace nann {

enum class CompareOp { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual };

// The operator with its sides exchanged: `a < b` is `b > a`.
CompareOp Flipped(CompareOp op);

// Whether `a op b` holds, where `order` is less than, equal to or greater than 0 as `a` is than `b`.
bool Accepts(CompareOp op, int order);

// The values from `lowest` to `highest` that `x op literal` accepts, where `from` is the first of them that
// is not less than the literal, and `after` the first that is greater; both may be highest + 1. `op` is not
// kNotEqual, which is the negation of kEqual.
template <typename T>
Interval<T> AcceptedValues(CompareOp op, __int128 from, __int128 after, __int128 lowest, __int128 highest) {
  __int128 lo = lowest, hi = highest;
  if (op == CompareOp::kEqual || op == CompareOp::kGreaterEqual) lo = from;
  if (op == CompareOp::kGreater) lo = after;
  if (op == CompareOp::kEqual || op == CompareOp::kLessEqual) hi = after - 1;
  if (op == CompareOp::kLess) hi = from - 1;
  if (lo < lowest) lo = lowest;
  if (hi > highest) hi = highest;
  if (lo > hi) return {1, 0};
  return {static_cast<T>(lo), static_cast<T>(hi)};
}

// The numbers that a comparison compares as, the widest of all its operands: exact for integers and decimals,
// else float32 where there is a float32 attribute, and float64 where there is a literal with an exponent.
enum class NumberDomain { kExact, kFloat32, kFloat64 };

// A literal: digits, perhaps a point and an exponent.
class Number {
 public:
  Number() = default;
  // `digits` is what the lexer accepts: no sign. False when the number is larger than any float64.
  static bool Parse(absl::string_view digits, bool negative, Number* number);

  // kFloat64 with an exponent, or with a point and more digits than a decimal of SQL has; else kExact.
  NumberDomain domain() const { return domain_; }
  const std::string& text() const { return text_; }

  // -1, 0 or 1 as this is less than, equal to or greater than `other` in `domain`.
  int Compare(const Number& other, NumberDomain domain) const;

  // The values of an attribute that `x op this` accepts; `op` as in AcceptedValues.
  Interval<int64_t> Int64s(CompareOp op, NumberDomain domain) const;
  Interval<float> Floats(CompareOp op, NumberDomain domain) const;

 private:
  double AsDouble(NumberDomain domain) const;

  std::string text_;
  bool negative_ = false;
  NumberDomain domain_ = NumberDomain::kExact;
  std::string whole_;     // Digits before the point, without leading zeros.
  std::string fraction_;  // Digits after it, without trailing zeros.
  double float64_ = 0.0;
  double float32_ = 0.0;  // What is compared with a float32: a float32 itself, unless it is too large.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_NUMBER_H_
