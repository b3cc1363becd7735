// The operands of comparisons: attributes and literals.
#ifndef NANN_OPS_CORE_FILTER_FILTER_OPERAND_H_
#define NANN_OPS_CORE_FILTER_FILTER_OPERAND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attribute_columns.h"
#include "filter_parser.h"
#include "predicate.h"

namespace nann {

// What can be compared with each other.
enum class ValueFamily { kNull, kNumber, kBool, kString };

struct Operand {
  const FilterNode* node = nullptr;
  const AttributeColumn* attribute = nullptr;  // nullptr: a literal.
  ValueFamily family = ValueFamily::kNull;

  bool is_null() const { return family == ValueFamily::kNull; }
  // For messages: "price (float32)", "the number 5".
  std::string Described() const;
};

// The attribute of this name. InvalidArgument names the nearest ones.
absl::StatusOr<const AttributeColumn*> FindAttribute(const FilterNode& node, const AttributeColumns& columns);

// The operand that a node is. InvalidArgument for a condition, and for an unknown attribute.
absl::StatusOr<Operand> OperandOf(const FilterNode& node, const AttributeColumns& columns);

// OK where `other` can be compared with `first`, and, unless it is in ANY, is no list.
absl::Status CheckComparable(const Operand& first, const Operand& other, bool in_any = false);

// What a comparison of all these compares as.
NumberDomain DomainOf(const std::vector<Operand>& operands);

// `attribute op literal`; `op` is not kNotEqual. Of a list: whether any element is so.
PredicatePtr CompareWithLiteral(const AttributeColumn& attribute, CompareOp op, const FilterNode& literal,
                                NumberDomain domain);
// `low <= attribute AND attribute <= high`.
PredicatePtr BetweenLiterals(const AttributeColumn& attribute, const FilterNode& low, const FilterNode& high,
                             NumberDomain domain);
// Whether the attribute is one of the literals, of which there may be none.
PredicatePtr IsOneOf(const AttributeColumn& attribute, const std::vector<Operand>& literals,
                     NumberDomain domain);
// Whether the string attribute begins with `prefix`.
PredicatePtr BeginsWith(const AttributeColumn& attribute, absl::string_view prefix);
// `a op b` for two literals of one family; neither is NULL.
bool CompareLiterals(const FilterNode& a, CompareOp op, const FilterNode& b, NumberDomain domain);

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_FILTER_OPERAND_H_
