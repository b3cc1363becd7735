// Conditions on rows, in SQL's three-valued logic.
#ifndef NANN_OPS_CORE_FILTER_PREDICATE_H_
#define NANN_OPS_CORE_FILTER_PREDICATE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "attribute_columns.h"
#include "match_kernels.h"
#include "number.h"
#include "value_set.h"

namespace nann {

// What a condition is for up to 64 rows: bit i of `yes` is set where it is TRUE for row i, of `no` where it
// is FALSE; neither where it is NULL. Bits of rows that were not asked for are 0.
struct Truth {
  uint64_t yes;
  uint64_t no;
};

// A condition over the rows of some columns, which must outlive it. Thread-safe: it never changes.
class Predicate {
 public:
  virtual ~Predicate() = default;

  // What it is for the rows begin to begin + count - 1, which the columns have; 1 <= count <= 64.
  virtual Truth Test(int64_t begin, int count) const = 0;

  // What it costs to test 64 rows, on average and at most. The unit is the comparison of 64 values with a
  // literal, some 15 ns.
  virtual double Cost() const = 0;
};

using PredicatePtr = std::unique_ptr<const Predicate>;

// TRUE, FALSE, and NULL as yes and no are both false.
PredicatePtr MakeConstant(bool yes, bool no);
PredicatePtr MakeNot(PredicatePtr child);
// AND, or OR, of at least one child.
PredicatePtr MakeAnd(std::vector<PredicatePtr> children);
PredicatePtr MakeOr(std::vector<PredicatePtr> children);
// Whether the child is NULL.
PredicatePtr MakeIsUnknown(PredicatePtr child);
// Whether the attribute is NULL.
PredicatePtr MakeIsNull(const AttributeColumn& column);

// Whether the value of an attribute is within an interval. T is the type of the values as they are stored,
// int32_t for codes of strings. Of a list: whether any element is, NULL where none is and one of them is
// NULL, FALSE where the list is empty or NULL itself.
template <typename T>
PredicatePtr MakeMatch(const AttributeColumn& column, const Interval<T>& interval);

// Whether the value of an attribute that is no list is in a set. Of floats it holds KeyOfFloat.
template <typename T>
PredicatePtr MakeMember(const AttributeColumn& column, ValueSet set);

// NULL = ANY(list): FALSE where the list is empty or NULL, else NULL.
PredicatePtr MakeNullEqualsAny(const AttributeColumn& column);

// Two attributes, row by row. Numbers are compared in `domain`, and NaN is equal to NaN and greater than any
// other number. The types must fit each other, and `left` is no list. Where `right` is a list the operator is
// kEqual, and any of its elements may be equal.
PredicatePtr MakeCompare(const AttributeColumn& left, CompareOp op, const AttributeColumn& right,
                         NumberDomain domain);

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_PREDICATE_H_
