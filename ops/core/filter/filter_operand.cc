#include "filter_operand.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "../base/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "filter_lexer.h"

namespace nann {
namespace {

using Kind = FilterNode::Kind;

// Names that a message suggests, and names that are worth comparing letter by letter.
constexpr size_t kSuggestions = 3;
constexpr size_t kListedNames = 20;
constexpr size_t kLongestName = 256;
// A set is made of more values than this; so many are compared one by one, which takes as long.
constexpr size_t kFewIntervals = 4;

ValueFamily FamilyOf(ValueType type) {
  switch (type) {
    case ValueType::kInt64:
    case ValueType::kFloat32:
      return ValueFamily::kNumber;
    case ValueType::kBool:
      return ValueFamily::kBool;
    case ValueType::kString:
      return ValueFamily::kString;
  }
  return ValueFamily::kNull;
}

const char* NameOf(ValueFamily family) {
  switch (family) {
    case ValueFamily::kNull:
      return "NULL";
    case ValueFamily::kNumber:
      return "a number";
    case ValueFamily::kBool:
      return "TRUE or FALSE";
    case ValueFamily::kString:
      return "a string in single quotes";
  }
  return "";
}

// Insertions, deletions and replacements of one letter that make one name of the other.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row[b.size()];
}

// Names that differ from `name` by at most a third of its letters, the nearest first.
std::vector<std::string> NearestNames(absl::string_view name, const AttributeColumns& columns) {
  std::vector<std::pair<size_t, std::string>> near;
  if (name.size() > kLongestName) return {};
  const std::string lower = absl::AsciiStrToLower(name);
  for (const AttributeColumn& column : columns.columns()) {
    if (column.name.size() > kLongestName) continue;
    const size_t distance = EditDistance(lower, absl::AsciiStrToLower(column.name));
    if (distance <= std::max<size_t>(1, name.size() / 3)) near.emplace_back(distance, column.name);
  }
  std::sort(near.begin(), near.end());
  if (near.size() > kSuggestions) near.resize(kSuggestions);
  std::vector<std::string> names;
  for (auto& [distance, each] : near) names.push_back(std::move(each));
  return names;
}

std::string ListedNames(const AttributeColumns& columns) {
  std::vector<std::string> names;
  for (const AttributeColumn& column : columns.columns()) {
    if (names.size() == kListedNames) break;
    names.push_back(column.name);
  }
  const char* more = columns.columns().size() > kListedNames ? ", ..." : "";
  return names.empty() ? "no attributes" : absl::StrCat(absl::StrJoin(names, ", "), more);
}

// The first string of the dictionary for which `before` is false, as the number of strings before it.
template <typename Before>
int64_t CountStrings(const AttributeColumn& column, const Before& before) {
  int64_t low = 0, high = column.num_strings();
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (before(column.String(static_cast<int32_t>(middle)))) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The stored values that `attribute op literal` accepts. T is how the attribute is stored.
template <typename T>
Interval<T> Accepted(const AttributeColumn&, CompareOp, const FilterNode&, NumberDomain);

template <>
Interval<int64_t> Accepted(const AttributeColumn&, CompareOp op, const FilterNode& literal,
                           NumberDomain domain) {
  return literal.number.Int64s(op, domain);
}
template <>
Interval<float> Accepted(const AttributeColumn&, CompareOp op, const FilterNode& literal,
                         NumberDomain domain) {
  return literal.number.Floats(op, domain);
}
template <>
Interval<uint8_t> Accepted(const AttributeColumn&, CompareOp op, const FilterNode& literal, NumberDomain) {
  const int value = literal.flag ? 1 : 0;
  return AcceptedValues<uint8_t>(op, value, value + 1, 0, 1);
}
template <>
Interval<int32_t> Accepted(const AttributeColumn& column, CompareOp op, const FilterNode& literal,
                           NumberDomain) {
  const absl::string_view text = literal.text;
  const int64_t from = CountStrings(column, [text](absl::string_view each) { return each < text; });
  const int64_t after = CountStrings(column, [text](absl::string_view each) { return each <= text; });
  return AcceptedValues<int32_t>(op, from, after, 0, column.num_strings() - 1);
}

template <typename T>
Interval<T> Both(const Interval<T>& a, const Interval<T>& b) {
  return {std::max(a.lo, b.lo), std::min(a.hi, b.hi)};
}
template <>
Interval<float> Both(const Interval<float>& a, const Interval<float>& b) {
  return {std::max(a.lo, b.lo), std::min(a.hi, b.hi), a.nan && b.nan};
}

template <typename T>
Interval<T> Nothing() {
  return {1, 0};
}
template <>
Interval<float> Nothing() {
  return {1, 0, false};
}

// What a ValueSet holds for the interval of one value; nothing where there are several.
template <typename T>
std::optional<int64_t> KeyOf(const Interval<T>& interval) {
  if (interval.lo != interval.hi) return std::nullopt;
  return interval.lo;
}
template <>
std::optional<int64_t> KeyOf(const Interval<float>& interval) {
  if (interval.lo == -1 && interval.hi == 0) return 0;  // -0 and 0.
  if (interval.lo != interval.hi) return std::nullopt;
  return interval.lo;
}

template <typename T>
PredicatePtr Member(const AttributeColumn& attribute, const std::vector<int64_t>& keys) {
  return MakeMember<T>(attribute, ValueSet(keys));
}
template <>
PredicatePtr Member<uint8_t>(const AttributeColumn&, const std::vector<int64_t>&) {
  return nullptr;  // Two values are few.
}

template <typename T>
PredicatePtr OneOf(const AttributeColumn& attribute, const std::vector<Operand>& literals,
                   NumberDomain domain) {
  std::vector<Interval<T>> intervals;
  std::vector<int64_t> keys;
  for (const Operand& literal : literals) {
    const Interval<T> interval = Accepted<T>(attribute, CompareOp::kEqual, *literal.node, domain);
    if (interval.lo > interval.hi) continue;
    intervals.push_back(interval);
    if (const std::optional<int64_t> key = KeyOf(interval)) keys.push_back(*key);
  }
  std::sort(keys.begin(), keys.end());
  const size_t distinct = std::unique(keys.begin(), keys.end()) - keys.begin();
  if (keys.size() == intervals.size() && distinct > kFewIntervals) {
    if (PredicatePtr member = Member<T>(attribute, keys)) return member;
  }
  if (intervals.empty()) intervals.push_back(Nothing<T>());
  std::vector<PredicatePtr> children;
  for (const Interval<T>& interval : intervals) children.push_back(MakeMatch(attribute, interval));
  return MakeOr(std::move(children));
}

// Calls `function` with a null pointer to how the attribute is stored.
template <typename Function>
PredicatePtr WithStoredType(const AttributeColumn& attribute, const Function& function) {
  switch (attribute.type.value) {
    case ValueType::kInt64:
      return function(static_cast<int64_t*>(nullptr));
    case ValueType::kFloat32:
      return function(static_cast<float*>(nullptr));
    case ValueType::kBool:
      return function(static_cast<uint8_t*>(nullptr));
    case ValueType::kString:
      return function(static_cast<int32_t*>(nullptr));
  }
  return nullptr;
}

template <typename Pointer>
using Stored = std::remove_pointer_t<Pointer>;

}  // namespace

std::string Operand::Described() const {
  if (attribute != nullptr) return absl::StrCat(attribute->name, " (", attribute->type.ToString(), ")");
  switch (node->kind) {
    case Kind::kNumber:
      return absl::StrCat("the number ", node->number.text());
    case Kind::kBool:
      return node->flag ? "TRUE" : "FALSE";
    case Kind::kString:
      return absl::StrCat("the string ", ShownInMessage(node->text, '\''));
    default:
      return "NULL";
  }
}

absl::StatusOr<const AttributeColumn*> FindAttribute(const FilterNode& node,
                                                     const AttributeColumns& columns) {
  if (const AttributeColumn* column = columns.Find(node.text)) return column;
  const std::vector<std::string> near = NearestNames(node.text, columns);
  const std::string advice =
      near.empty() ? "" : absl::StrCat("; did you mean ", absl::StrJoin(near, " or "), "?");
  return FilterError(node.column,
                     absl::StrCat("expected one of the attributes of the export (", ListedNames(columns),
                                  "), found ", ShownInMessage(node.text, '"'), advice));
}

absl::StatusOr<Operand> OperandOf(const FilterNode& node, const AttributeColumns& columns) {
  switch (node.kind) {
    case Kind::kNull:
      return Operand{&node, nullptr, ValueFamily::kNull};
    case Kind::kBool:
      return Operand{&node, nullptr, ValueFamily::kBool};
    case Kind::kNumber:
      return Operand{&node, nullptr, ValueFamily::kNumber};
    case Kind::kString:
      return Operand{&node, nullptr, ValueFamily::kString};
    case Kind::kAttribute: {
      NANN_ASSIGN_OR_RETURN(const AttributeColumn* column, FindAttribute(node, columns));
      return Operand{&node, column, FamilyOf(column->type.value)};
    }
    default:
      return FilterError(node.column,
                         "expected an attribute or a literal to compare, found a condition; join conditions "
                         "with AND, OR and NOT");
  }
}

absl::Status CheckComparable(const Operand& first, const Operand& other, bool in_any) {
  const bool list = other.attribute != nullptr && other.attribute->type.is_list;
  if (list && !in_any) {
    return FilterError(other.node->column, absl::StrCat("expected a single value, found ", other.Described(),
                                                        "; write value = ANY(", other.attribute->name, ")"));
  }
  if (first.is_null() || other.is_null() || first.family == other.family) return absl::OkStatus();
  return FilterError(other.node->column, absl::StrCat("expected ", NameOf(first.family), " to compare with ",
                                                      first.Described(), ", found ", other.Described()));
}

NumberDomain DomainOf(const std::vector<Operand>& operands) {
  NumberDomain domain = NumberDomain::kExact;
  for (const Operand& operand : operands) {
    if (operand.attribute == nullptr) {
      domain = std::max(domain, operand.node->number.domain());
    } else if (operand.attribute->type.value == ValueType::kFloat32) {
      domain = std::max(domain, NumberDomain::kFloat32);
    }
  }
  return domain;
}

PredicatePtr CompareWithLiteral(const AttributeColumn& attribute, CompareOp op, const FilterNode& literal,
                                NumberDomain domain) {
  return WithStoredType(attribute, [&](auto* stored) {
    using T = Stored<decltype(stored)>;
    return MakeMatch(attribute, Accepted<T>(attribute, op, literal, domain));
  });
}

PredicatePtr BetweenLiterals(const AttributeColumn& attribute, const FilterNode& low, const FilterNode& high,
                             NumberDomain domain) {
  return WithStoredType(attribute, [&](auto* stored) {
    using T = Stored<decltype(stored)>;
    return MakeMatch(attribute, Both(Accepted<T>(attribute, CompareOp::kGreaterEqual, low, domain),
                                     Accepted<T>(attribute, CompareOp::kLessEqual, high, domain)));
  });
}

PredicatePtr IsOneOf(const AttributeColumn& attribute, const std::vector<Operand>& literals,
                     NumberDomain domain) {
  return WithStoredType(
      attribute, [&](auto* stored) { return OneOf<Stored<decltype(stored)>>(attribute, literals, domain); });
}

PredicatePtr BeginsWith(const AttributeColumn& attribute, absl::string_view prefix) {
  const int64_t from = CountStrings(attribute, [prefix](absl::string_view each) { return each < prefix; });
  const int64_t after = CountStrings(attribute, [prefix](absl::string_view each) {
    return each < prefix || absl::StartsWith(each, prefix);
  });
  return MakeMatch(attribute,
                   AcceptedValues<int32_t>(CompareOp::kEqual, from, after, 0, attribute.num_strings() - 1));
}

bool CompareLiterals(const FilterNode& a, CompareOp op, const FilterNode& b, NumberDomain domain) {
  switch (a.kind) {
    case Kind::kNumber:
      return Accepts(op, a.number.Compare(b.number, domain));
    case Kind::kBool:
      return Accepts(op, static_cast<int>(a.flag) - static_cast<int>(b.flag));
    default:
      return Accepts(op, a.text.compare(b.text));
  }
}

}  // namespace nann
