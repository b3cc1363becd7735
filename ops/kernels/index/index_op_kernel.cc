#include "index_op_kernel.h"

#include "absl/strings/str_cat.h"

namespace nann {

absl::Status CheckInputPositions(const tensorflow::Tensor& positions, int32_t num_items) {
  const auto values = positions.flat<int32_t>();
  for (int64_t i = 0; i < values.size(); ++i) {
    if (values(i) < 0 || values(i) >= num_items) {
      return absl::InvalidArgumentError(
          absl::StrCat("positions[", i, "]: expected 0 to ", num_items - 1, ", found ", values(i)));
    }
  }
  return absl::OkStatus();
}

}  // namespace nann
