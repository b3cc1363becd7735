// Returning early with an error.
#ifndef NANN_OPS_CORE_BASE_STATUS_MACROS_H_
#define NANN_OPS_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define NANN_MACRO_CONCAT_INNER(a, b) a##b
#define NANN_MACRO_CONCAT(a, b) NANN_MACRO_CONCAT_INNER(a, b)

// Returns the absl::Status of `expression` from this function unless it is OK.
#define NANN_RETURN_IF_ERROR(expression)       \
  do {                                         \
    absl::Status nann_status = (expression);   \
    if (!nann_status.ok()) return nann_status; \
  } while (false)

// Assigns the value of an absl::StatusOr to `target`, which may declare a variable, or returns its status.
#define NANN_ASSIGN_OR_RETURN(target, expression) \
  NANN_ASSIGN_OR_RETURN_INNER(NANN_MACRO_CONCAT(nann_result, __LINE__), target, expression)
#define NANN_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return std::move(result).status();          \
  target = *std::move(result)

#endif  // NANN_OPS_CORE_BASE_STATUS_MACROS_H_
