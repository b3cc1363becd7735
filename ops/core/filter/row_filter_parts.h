// One filter over rows that lie in several places.
#ifndef NANN_OPS_CORE_FILTER_ROW_FILTER_PARTS_H_
#define NANN_OPS_CORE_FILTER_ROW_FILTER_PARTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "row_filter.h"

namespace nann {

// The filter over the rows of all parts, one after the other; the first part is not empty. Where the first
// one has a bitmap, the others have one too, and so has the result, in which rows that are `deleted` do not
// pass. Else the result has the share of the first one, and tests each row when it is asked for; it lets
// deleted rows pass.
RowFilter JoinFilters(std::vector<std::shared_ptr<const RowFilter>> parts,
                      const std::function<bool(int32_t row)>& deleted);

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_ROW_FILTER_PARTS_H_
