#include "filter_parser.h"

#include <utility>

#include "../base/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "filter_lexer.h"

namespace nann {
namespace {

using Kind = FilterNode::Kind;

constexpr absl::string_view kReserved[] = {"AND", "OR",   "NOT", "IN",   "BETWEEN", "LIKE",
                                           "IS",  "NULL", "ANY", "TRUE", "FALSE"};

struct Operator {
  absl::string_view symbol;
  CompareOp op;
};
constexpr Operator kOperators[] = {{"=", CompareOp::kEqual},     {"==", CompareOp::kEqual},
                                   {"!=", CompareOp::kNotEqual}, {"<>", CompareOp::kNotEqual},
                                   {"<", CompareOp::kLess},      {"<=", CompareOp::kLessEqual},
                                   {">", CompareOp::kGreater},   {">=", CompareOp::kGreaterEqual}};

// Recursive descent with one token of look-ahead, in the precedence of PostgreSQL and DuckDB: from weak to
// strong OR, AND, NOT, IS, comparisons, IN with BETWEEN and LIKE. Only parentheses recurse.
class Parser {
 public:
  explicit Parser(absl::string_view text) : lexer_(text) {}

  absl::StatusOr<FilterNode> Parse() {
    NANN_RETURN_IF_ERROR(Advance());
    NANN_ASSIGN_OR_RETURN(FilterNode node, ParseOr());
    if (token_.kind == FilterToken::Kind::kEnd) return node;
    return Expected("AND, OR or the end");
  }

 private:
  absl::Status Advance() {
    NANN_ASSIGN_OR_RETURN(token_, lexer_.Next());
    return absl::OkStatus();
  }

  absl::Status Expected(absl::string_view what) const {
    return FilterError(token_.column, absl::StrCat("expected ", what, ", found ", token_.Found(),
                                                   "; docs/filters.md has the language"));
  }

  bool AtSymbol(absl::string_view symbol) const {
    return token_.kind == FilterToken::Kind::kSymbol && token_.text == symbol;
  }

  // Goes on behind a symbol or a keyword that must be here.
  absl::Status Skip(absl::string_view what) {
    if (!AtSymbol(what) && !token_.Is(what)) return Expected(what);
    return Advance();
  }

  // A node that begins at `column`.
  absl::StatusOr<FilterNode> Make(Kind kind, int column) {
    if (++nodes_ > kMaxFilterNodes) {
      return FilterError(column, absl::StrCat("expected at most ", kMaxFilterNodes,
                                              " conditions and literals, found more; shorten the filter, or "
                                              "make an attribute of what it tests"));
    }
    FilterNode node;
    node.kind = kind;
    node.column = column;
    return node;
  }

  // A node over these children, which begins where the first of them does.
  absl::StatusOr<FilterNode> Over(Kind kind, std::vector<FilterNode> children) {
    NANN_ASSIGN_OR_RETURN(FilterNode node, Make(kind, children[0].column));
    node.children = std::move(children);
    return node;
  }
  template <typename... Children>
  absl::StatusOr<FilterNode> Around(Kind kind, FilterNode first, Children... others) {
    std::vector<FilterNode> children;
    children.reserve(1 + sizeof...(others));
    children.push_back(std::move(first));
    (children.push_back(std::move(others)), ...);
    return Over(kind, std::move(children));
  }

  absl::StatusOr<FilterNode> Negated(bool negated, FilterNode node) {
    if (!negated) return node;
    return Around(Kind::kNot, std::move(node));
  }

  absl::StatusOr<FilterNode> ParseOr() { return ParseChain(Kind::kOr, "OR", &Parser::ParseAnd); }
  absl::StatusOr<FilterNode> ParseAnd() { return ParseChain(Kind::kAnd, "AND", &Parser::ParseNot); }

  absl::StatusOr<FilterNode> ParseChain(Kind kind, absl::string_view keyword,
                                        absl::StatusOr<FilterNode> (Parser::*parse)()) {
    std::vector<FilterNode> children;
    while (true) {
      NANN_ASSIGN_OR_RETURN(FilterNode child, (this->*parse)());
      children.push_back(std::move(child));
      if (!token_.Is(keyword)) break;
      NANN_RETURN_IF_ERROR(Advance());
    }
    if (children.size() == 1) return std::move(children[0]);
    return Over(kind, std::move(children));
  }

  absl::StatusOr<FilterNode> ParseNot() {
    bool negated = false;
    while (token_.Is("NOT")) {
      negated = !negated;
      NANN_RETURN_IF_ERROR(Advance());
    }
    NANN_ASSIGN_OR_RETURN(FilterNode node, ParseIs());
    return Negated(negated, std::move(node));
  }

  absl::StatusOr<FilterNode> ParseIs() {
    NANN_ASSIGN_OR_RETURN(FilterNode node, ParseComparison());
    if (!token_.Is("IS")) return node;
    NANN_RETURN_IF_ERROR(Advance());
    const bool negated = token_.Is("NOT");
    if (negated) NANN_RETURN_IF_ERROR(Advance());
    NANN_RETURN_IF_ERROR(Skip("NULL"));
    NANN_ASSIGN_OR_RETURN(node, Around(Kind::kIsNull, std::move(node)));
    return Negated(negated, std::move(node));
  }

  absl::StatusOr<FilterNode> ParseComparison() {
    NANN_ASSIGN_OR_RETURN(FilterNode left, ParseRange());
    for (const Operator& each : kOperators) {
      if (!AtSymbol(each.symbol)) continue;
      NANN_RETURN_IF_ERROR(Advance());
      if (token_.Is("ANY")) return ParseAny(each, std::move(left));
      NANN_ASSIGN_OR_RETURN(FilterNode right, ParseRange());
      NANN_ASSIGN_OR_RETURN(FilterNode node, Around(Kind::kCompare, std::move(left), std::move(right)));
      node.op = each.op;
      return node;
    }
    return left;
  }

  absl::StatusOr<FilterNode> ParseAny(const Operator& op, FilterNode left) {
    if (op.op != CompareOp::kEqual) {
      return FilterError(token_.column, absl::StrCat("expected = before ANY, found ", op.symbol,
                                                     "; for \"not in the list\" write NOT x = ANY(list)"));
    }
    NANN_RETURN_IF_ERROR(Advance());
    NANN_RETURN_IF_ERROR(Skip("("));
    NANN_ASSIGN_OR_RETURN(FilterNode list, ParseOperand());
    NANN_RETURN_IF_ERROR(Skip(")"));
    return Around(Kind::kEqualsAny, std::move(left), std::move(list));
  }

  // An operand, perhaps with IN, BETWEEN or LIKE.
  absl::StatusOr<FilterNode> ParseRange() {
    NANN_ASSIGN_OR_RETURN(FilterNode left, ParseOperand());
    const bool negated = token_.Is("NOT");
    if (negated) NANN_RETURN_IF_ERROR(Advance());
    if (token_.Is("IN")) {
      NANN_ASSIGN_OR_RETURN(left, ParseIn(std::move(left)));
    } else if (token_.Is("BETWEEN")) {
      NANN_ASSIGN_OR_RETURN(left, ParseBetween(std::move(left)));
    } else if (token_.Is("LIKE")) {
      NANN_RETURN_IF_ERROR(Advance());
      NANN_ASSIGN_OR_RETURN(FilterNode pattern, ParseOperand());
      NANN_ASSIGN_OR_RETURN(left, Around(Kind::kLike, std::move(left), std::move(pattern)));
    } else if (negated) {
      return Expected("IN, BETWEEN or LIKE after NOT");
    }
    return Negated(negated, std::move(left));
  }

  absl::StatusOr<FilterNode> ParseIn(FilterNode left) {
    NANN_RETURN_IF_ERROR(Advance());
    NANN_RETURN_IF_ERROR(Skip("("));
    NANN_ASSIGN_OR_RETURN(FilterNode node, Around(Kind::kIn, std::move(left)));
    while (!AtSymbol(")") || node.children.size() > 1) {
      NANN_ASSIGN_OR_RETURN(FilterNode value, ParseOperand());
      node.children.push_back(std::move(value));
      if (!AtSymbol(",")) break;
      NANN_RETURN_IF_ERROR(Advance());
    }
    if (!AtSymbol(")")) return Expected(", or )");
    NANN_RETURN_IF_ERROR(Advance());
    return node;
  }

  absl::StatusOr<FilterNode> ParseBetween(FilterNode left) {
    NANN_RETURN_IF_ERROR(Advance());
    NANN_ASSIGN_OR_RETURN(FilterNode low, ParseOperand());
    NANN_RETURN_IF_ERROR(Skip("AND"));
    NANN_ASSIGN_OR_RETURN(FilterNode high, ParseOperand());
    return Around(Kind::kBetween, std::move(left), std::move(low), std::move(high));
  }

  absl::StatusOr<FilterNode> ParseOperand() {
    if (AtSymbol("(")) {
      if (++depth_ > kMaxFilterDepth) {
        return FilterError(token_.column,
                           absl::StrCat("expected at most ", kMaxFilterDepth,
                                        " nested parentheses, found more; flatten the filter"));
      }
      NANN_RETURN_IF_ERROR(Advance());
      NANN_ASSIGN_OR_RETURN(FilterNode inside, ParseOr());
      --depth_;
      NANN_RETURN_IF_ERROR(Skip(")"));
      return inside;
    }
    if (AtSymbol("-") || AtSymbol("+")) return ParseSigned();
    const FilterToken token = token_;
    switch (token.kind) {
      case FilterToken::Kind::kNumber:
        return ParseNumber(false, token.column);
      case FilterToken::Kind::kString:
        return Leaf(Kind::kString, token);
      case FilterToken::Kind::kName:
        return ParseName(token);
      default:
        return Expected("an attribute, a literal or (");
    }
  }

  absl::StatusOr<FilterNode> ParseName(const FilterToken& token) {
    if (token.Is("NULL")) return Leaf(Kind::kNull, token);
    if (token.Is("TRUE") || token.Is("FALSE")) {
      NANN_ASSIGN_OR_RETURN(FilterNode node, Leaf(Kind::kBool, token));
      node.flag = token.Is("TRUE");
      return node;
    }
    for (absl::string_view word : kReserved) {
      if (!token.Is(word)) continue;
      return FilterError(token.column,
                         absl::StrCat("expected an attribute, a literal or (, found ", token.Found(),
                                      "; put an attribute of this name in double quotes"));
    }
    return Leaf(Kind::kAttribute, token);
  }

  absl::StatusOr<FilterNode> Leaf(Kind kind, const FilterToken& token) {
    NANN_RETURN_IF_ERROR(Advance());
    NANN_ASSIGN_OR_RETURN(FilterNode node, Make(kind, token.column));
    node.text = token.text;
    return node;
  }

  absl::StatusOr<FilterNode> ParseSigned() {
    const int column = token_.column;
    const bool negative = AtSymbol("-");
    NANN_RETURN_IF_ERROR(Advance());
    if (token_.kind != FilterToken::Kind::kNumber) return Expected("a number after the sign");
    return ParseNumber(negative, column);
  }

  absl::StatusOr<FilterNode> ParseNumber(bool negative, int column) {
    NANN_ASSIGN_OR_RETURN(FilterNode node, Make(Kind::kNumber, column));
    if (!Number::Parse(token_.text, negative, &node.number)) {
      return Expected("a number within the range of float64");
    }
    NANN_RETURN_IF_ERROR(Advance());
    return node;
  }

  FilterLexer lexer_;
  FilterToken token_;
  int nodes_ = 0;
  int depth_ = 0;  // Of open parentheses.
};

}  // namespace

bool IsBlankFilter(absl::string_view text) { return absl::StripAsciiWhitespace(text).empty(); }

absl::StatusOr<FilterNode> ParseFilter(absl::string_view text) {
  if (text.size() > kMaxFilterBytes) {
    return FilterError(1, absl::StrCat("expected at most ", kMaxFilterBytes, " bytes, found ", text.size(),
                                       "; shorten the filter, or make an attribute of what it tests"));
  }
  if (!IsUtf8(text)) return FilterError(1, "expected UTF-8, found other bytes; encode the filter");
  return Parser(text).Parse();
}

}  // namespace nann
