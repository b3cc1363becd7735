// From the syntax of a filter to a predicate on columns.
#ifndef NANN_OPS_CORE_FILTER_FILTER_COMPILER_H_
#define NANN_OPS_CORE_FILTER_FILTER_COMPILER_H_

#include "absl/status/statusor.h"
#include "attribute_columns.h"
#include "filter_parser.h"
#include "predicate.h"

namespace nann {

// Checks names and types, and makes the predicate. `columns` must outlive it, `filter` need not.
// InvalidArgument names the column of the text, what was expected and what was found, and for an unknown
// attribute the nearest names.
absl::StatusOr<PredicatePtr> CompileFilter(const FilterNode& filter, const AttributeColumns& columns);

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_FILTER_COMPILER_H_
