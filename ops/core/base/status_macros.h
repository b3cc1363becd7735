// Macros that leave a function early with an error.
#ifndef NANN_OPS_CORE_BASE_STATUS_MACROS_H_
#define NANN_OPS_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define NANN_MACRO_CONCAT_INNER(a, b) a##b
#define NANN_MACRO_CONCAT(a, b) NANN_MACRO_CONCAT_INNER(a, b)

// Evaluates `expression`, an absl::Status, once; returns it from this function unless it is OK. The function
// returns absl::Status or absl::StatusOr.
#define NANN_RETURN_IF_ERROR(expression)       \
  do {                                         \
    absl::Status nann_status = (expression);   \
    if (!nann_status.ok()) return nann_status; \
  } while (false)

// Evaluates `expression`, an absl::StatusOr, once; returns its status from this function unless it is OK,
// else moves its value to `target`, which may declare a variable:
//
//   NANN_ASSIGN_OR_RETURN(const Table* table, index.FloatTable(name));
//
// Expands to several statements: the body of an `if` needs braces. A comma in the type of `target` needs an
// alias.
#define NANN_ASSIGN_OR_RETURN(target, expression) \
  NANN_ASSIGN_OR_RETURN_INNER(NANN_MACRO_CONCAT(nann_result, __LINE__), target, expression)
#define NANN_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return std::move(result).status();          \
  target = *std::move(result)

#endif  // NANN_OPS_CORE_BASE_STATUS_MACROS_H_
