// Comparisons of two attributes.
#include <cmath>
#include <cstring>
#include <limits>

#include "bits.h"
#include "predicate.h"

namespace nann {
namespace {

// Of Predicate::Cost: to compare 64 values, or strings, one by one.
constexpr double kCostOfValues = 30, kCostOfStrings = 100;

// A value of an attribute, for comparisons of two attributes. Which member counts follows from type and
// domain.
struct Value {
  int64_t integer = 0;  // Also a float32, as its place in the order of these.
  double real = 0.0;
  absl::string_view text;
};

// -0 is 0, and NaN the greatest.
int64_t PlaceOfFloat(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return IsNanBits(bits) ? std::numeric_limits<int64_t>::max() : KeyOfFloat(x);
}

Value ValueAt(const AttributeColumn& column, int64_t i, NumberDomain domain) {
  switch (column.type.value) {
    case ValueType::kInt64: {
      const int64_t x = column.int64s[i];
      const bool exact = domain == NumberDomain::kExact;
      return {exact ? x : PlaceOfFloat(static_cast<float>(x)), static_cast<double>(x), {}};
    }
    case ValueType::kFloat32:
      return {PlaceOfFloat(column.floats[i]), static_cast<double>(column.floats[i]), {}};
    case ValueType::kBool:
      return {column.bools[i], 0.0, {}};
    case ValueType::kString:
      return {0, 0.0, column.String(column.codes[i])};
  }
  return {};
}

template <typename T>
int ThreeWay(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

int CompareReals(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return static_cast<int>(std::isnan(a)) - std::isnan(b);
  return ThreeWay(a, b);
}

class Compare : public Predicate {
 public:
  Compare(const AttributeColumn& left, CompareOp op, const AttributeColumn& right, NumberDomain domain)
      : left_(left), right_(right), op_(op), domain_(domain) {}
  Truth Test(int64_t begin, int count) const override {
    Truth truth = {0, 0};
    for (int i = 0; i < count; ++i) {
      const Truth one = right_.type.is_list ? TestAny(begin + i) : TestRow(begin + i);
      truth.yes |= one.yes << i;
      truth.no |= one.no << i;
    }
    return truth;
  }
  double Cost() const override {
    const bool strings = left_.type.value == ValueType::kString;
    return (strings ? kCostOfStrings : kCostOfValues) * (1 + right_.mean_length());
  }

 private:
  // Truths of one row, in the lowest bit.
  Truth TestRow(int64_t row) const {
    if (!IsValid(left_.valid, row) || !IsValid(right_.valid, row)) return {0, 0};
    const bool accepted = Accepts(op_, Order(ValueAt(left_, row, domain_), ValueAt(right_, row, domain_)));
    return {accepted, !accepted};
  }

  Truth TestAny(int64_t row) const {
    const int64_t begin = right_.offsets[row], end = right_.offsets[row + 1];
    if (begin == end || !IsValid(right_.valid, row)) return {0, 1};
    if (!IsValid(left_.valid, row)) return {0, 0};
    const Value left = ValueAt(left_, row, domain_);
    bool unknown = false;
    for (int64_t e = begin; e < end; ++e) {
      if (!IsValid(right_.element_valid, e)) {
        unknown = true;
      } else if (Order(left, ValueAt(right_, e, domain_)) == 0) {
        return {1, 0};
      }
    }
    return {0, !unknown};
  }

  static bool IsValid(const uint64_t* valid, int64_t i) { return valid == nullptr || TestBit(valid, i); }

  int Order(const Value& a, const Value& b) const {
    if (left_.type.value == ValueType::kString) return ThreeWay(a.text, b.text);
    return domain_ == NumberDomain::kFloat64 ? CompareReals(a.real, b.real) : ThreeWay(a.integer, b.integer);
  }

  const AttributeColumn& left_;
  const AttributeColumn& right_;
  const CompareOp op_;
  const NumberDomain domain_;
};

}  // namespace

PredicatePtr MakeCompare(const AttributeColumn& left, CompareOp op, const AttributeColumn& right,
                         NumberDomain domain) {
  return std::make_unique<Compare>(left, op, right, domain);
}

}  // namespace nann
