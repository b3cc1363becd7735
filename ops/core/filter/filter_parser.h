// The syntax of filters: docs/filters.md#grammar.
#ifndef NANN_OPS_CORE_FILTER_FILTER_PARSER_H_
#define NANN_OPS_CORE_FILTER_FILTER_PARSER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "number.h"

namespace nann {

// The bounds of a text. A request has one filter per user, and each is parsed on the request's thread; the
// longest takes some milliseconds.
inline constexpr size_t kMaxFilterBytes = 65'536;
inline constexpr int kMaxFilterNodes = 16'384;
inline constexpr int kMaxFilterDepth = 64;  // Of parentheses; bounds the stack.

// Whether a text has nothing but white space, so that every item passes.
bool IsBlankFilter(absl::string_view text);

// A node of the syntax tree. Types are not checked yet.
struct FilterNode {
  enum class Kind {
    kNull,
    kBool,       // `flag`.
    kNumber,     // `number`.
    kString,     // `text`.
    kAttribute,  // `text`.
    kNot,
    kAnd,
    kOr,
    kCompare,    // children[0] `op` children[1].
    kEqualsAny,  // children[0] = ANY(children[1]).
    kIn,         // children[0] IN (the others).
    kBetween,    // children[0] BETWEEN children[1] AND children[2].
    kLike,       // children[0] LIKE children[1].
    kIsNull,     // children[0] IS NULL.
  };

  Kind kind = Kind::kNull;
  int column = 1;  // Of the text, for messages.
  bool flag = false;
  CompareOp op = CompareOp::kEqual;
  Number number;
  std::string text;
  std::vector<FilterNode> children;
};

// Parses a filter. `NOT IN`, `IS NOT NULL` and so on are a kNot of the other. InvalidArgument names the
// column of the text, what was expected, what was found and, for limits, the next step.
absl::StatusOr<FilterNode> ParseFilter(absl::string_view text);

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_FILTER_PARSER_H_
