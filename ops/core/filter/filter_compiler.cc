#include "filter_compiler.h"

#include <utility>
#include <vector>

#include "../base/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "filter_lexer.h"
#include "filter_operand.h"

namespace nann {
namespace {

using Kind = FilterNode::Kind;

PredicatePtr MakeNull() { return MakeConstant(false, false); }
PredicatePtr MakeBool(bool value) { return MakeConstant(value, !value); }

// Recurses as deep as the parser did.
class Compiler {
 public:
  explicit Compiler(const AttributeColumns& columns) : columns_(columns) {}

  absl::StatusOr<PredicatePtr> Condition(const FilterNode& node) const {
    switch (node.kind) {
      case Kind::kNull:
        return MakeNull();
      case Kind::kBool:
        return MakeBool(node.flag);
      case Kind::kNumber:
      case Kind::kString:
      case Kind::kAttribute:
        return Flag(node);
      case Kind::kNot: {
        NANN_ASSIGN_OR_RETURN(PredicatePtr child, Condition(node.children[0]));
        return MakeNot(std::move(child));
      }
      case Kind::kAnd:
      case Kind::kOr: {
        NANN_ASSIGN_OR_RETURN(std::vector<PredicatePtr> children, Conditions(node));
        return node.kind == Kind::kAnd ? MakeAnd(std::move(children)) : MakeOr(std::move(children));
      }
      case Kind::kIsNull:
        return IsNull(node.children[0]);
      default:
        return Comparison(node);
    }
  }

 private:
  absl::StatusOr<std::vector<PredicatePtr>> Conditions(const FilterNode& node) const {
    std::vector<PredicatePtr> children;
    for (const FilterNode& each : node.children) {
      NANN_ASSIGN_OR_RETURN(PredicatePtr child, Condition(each));
      children.push_back(std::move(child));
    }
    return children;
  }

  // An operand that stands for a condition: a bool attribute.
  absl::StatusOr<PredicatePtr> Flag(const FilterNode& node) const {
    NANN_ASSIGN_OR_RETURN(const Operand operand, OperandOf(node, columns_));
    const AttributeColumn* attribute = operand.attribute;
    if (attribute != nullptr && attribute->type.value == ValueType::kBool && !attribute->type.is_list) {
      return MakeMatch(*attribute, Interval<uint8_t>{1, 1});
    }
    return FilterError(node.column, absl::StrCat("expected a condition such as price <= 20, found ",
                                                 operand.Described(), " alone; compare it with something"));
  }

  absl::StatusOr<PredicatePtr> IsNull(const FilterNode& node) const {
    switch (node.kind) {
      case Kind::kNull:
        return MakeBool(true);
      case Kind::kBool:
      case Kind::kNumber:
      case Kind::kString:
        return MakeBool(false);
      case Kind::kAttribute: {
        NANN_ASSIGN_OR_RETURN(const AttributeColumn* column, FindAttribute(node, columns_));
        return MakeIsNull(*column);
      }
      default: {
        NANN_ASSIGN_OR_RETURN(PredicatePtr child, Condition(node));
        return MakeIsUnknown(std::move(child));
      }
    }
  }

  absl::StatusOr<PredicatePtr> Comparison(const FilterNode& node) const {
    std::vector<Operand> operands;
    for (const FilterNode& child : node.children) {
      NANN_ASSIGN_OR_RETURN(const Operand operand, OperandOf(child, columns_));
      operands.push_back(operand);
    }
    const Operand& first = operands[0];
    NANN_RETURN_IF_ERROR(CheckComparable(first, first));
    if (node.kind == Kind::kEqualsAny) return EqualsAny(first, operands[1]);
    if (node.kind == Kind::kLike) return Like(first, operands[1]);
    // Where the first is NULL, the others give the type.
    const Operand* typed = &first;
    for (const Operand& operand : operands) {
      NANN_RETURN_IF_ERROR(CheckComparable(*typed, operand));
      if (typed->is_null()) typed = &operand;
    }
    const NumberDomain domain = DomainOf(operands);
    if (node.kind == Kind::kIn) return In(operands, domain);
    if (node.kind == Kind::kBetween) return Between(first, operands[1], operands[2], domain);
    return Compare(first, node.op, operands[1], domain);
  }

  static PredicatePtr Compare(const Operand& left, CompareOp op, const Operand& right, NumberDomain domain) {
    if (left.is_null() || right.is_null()) return MakeNull();
    if (op == CompareOp::kNotEqual) return MakeNot(Compare(left, CompareOp::kEqual, right, domain));
    if (left.attribute != nullptr && right.attribute != nullptr) {
      return MakeCompare(*left.attribute, op, *right.attribute, domain);
    }
    if (left.attribute != nullptr) return CompareWithLiteral(*left.attribute, op, *right.node, domain);
    if (right.attribute != nullptr) {
      return CompareWithLiteral(*right.attribute, Flipped(op), *left.node, domain);
    }
    return MakeBool(CompareLiterals(*left.node, op, *right.node, domain));
  }

  // operands[0] IN (the others): equal to one of them.
  static PredicatePtr In(const std::vector<Operand>& operands, NumberDomain domain) {
    const Operand& left = operands[0];
    if (left.is_null()) return MakeNull();
    std::vector<Operand> literals;
    std::vector<PredicatePtr> children;
    for (size_t i = 1; i < operands.size(); ++i) {
      const Operand& value = operands[i];
      if (left.attribute != nullptr && value.attribute == nullptr && !value.is_null()) {
        literals.push_back(value);
      } else {
        children.push_back(Compare(left, CompareOp::kEqual, value, domain));
      }
    }
    if (left.attribute == nullptr) children.push_back(MakeBool(false));
    if (left.attribute != nullptr && (children.empty() || !literals.empty())) {
      children.insert(children.begin(), IsOneOf(*left.attribute, literals, domain));
    }
    return MakeOr(std::move(children));
  }

  static PredicatePtr Between(const Operand& left, const Operand& low, const Operand& high,
                              NumberDomain domain) {
    const bool literals = low.attribute == nullptr && high.attribute == nullptr;
    if (left.attribute != nullptr && literals && !low.is_null() && !high.is_null()) {
      return BetweenLiterals(*left.attribute, *low.node, *high.node, domain);
    }
    std::vector<PredicatePtr> children;
    children.push_back(Compare(left, CompareOp::kGreaterEqual, low, domain));
    children.push_back(Compare(left, CompareOp::kLessEqual, high, domain));
    return MakeAnd(std::move(children));
  }

  static absl::StatusOr<PredicatePtr> Like(const Operand& left, const Operand& pattern) {
    if (!left.is_null() && left.family != ValueFamily::kString) {
      return FilterError(left.node->column,
                         absl::StrCat("expected a string before LIKE, found ", left.Described()));
    }
    if (pattern.attribute != nullptr || (!pattern.is_null() && pattern.family != ValueFamily::kString)) {
      return FilterError(
          pattern.node->column,
          absl::StrCat("expected a pattern such as 'abc%' after LIKE, found ", pattern.Described()));
    }
    if (left.is_null() || pattern.is_null()) return MakeNull();
    absl::string_view prefix = pattern.node->text;
    while (absl::EndsWith(prefix, "%")) prefix.remove_suffix(1);
    if (prefix.find_first_of("%_") != absl::string_view::npos) {
      return FilterError(pattern.node->column,
                         "expected a pattern with % at its end only and without _, such as 'abc%'; for other "
                         "patterns make an attribute of what they test");
    }
    const bool exact = prefix.size() == pattern.node->text.size();
    if (left.attribute == nullptr) {
      return MakeBool(exact ? left.node->text == prefix : absl::StartsWith(left.node->text, prefix));
    }
    if (!exact) return BeginsWith(*left.attribute, prefix);
    return CompareWithLiteral(*left.attribute, CompareOp::kEqual, *pattern.node, NumberDomain::kExact);
  }

  static absl::StatusOr<PredicatePtr> EqualsAny(const Operand& left, const Operand& list) {
    if (list.attribute == nullptr || !list.attribute->type.is_list) {
      return FilterError(list.node->column,
                         absl::StrCat("expected an attribute that is a list in ANY, found ", list.Described(),
                                      "; for one value write ="));
    }
    NANN_RETURN_IF_ERROR(CheckComparable(left, list, /*in_any=*/true));
    if (left.is_null()) return MakeNullEqualsAny(*list.attribute);
    const NumberDomain domain = DomainOf({left, list});
    if (left.attribute != nullptr) {
      return MakeCompare(*left.attribute, CompareOp::kEqual, *list.attribute, domain);
    }
    return CompareWithLiteral(*list.attribute, CompareOp::kEqual, *left.node, domain);
  }

  const AttributeColumns& columns_;
};

}  // namespace

absl::StatusOr<PredicatePtr> CompileFilter(const FilterNode& filter, const AttributeColumns& columns) {
  return Compiler(columns).Condition(filter);
}

}  // namespace nann
