// The beams of a request, as the search op gets them.
#ifndef NANN_OPS_KERNELS_WALK_LEVEL_TOPN_H_
#define NANN_OPS_KERNELS_WALK_LEVEL_TOPN_H_

#include <algorithm>
#include <cstdint>

#include "../../core/base/status_macros.h"
#include "../../core/index/graph.h"
#include "../../core/walk/beam_search.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "tensorflow/core/framework/tensor.h"

namespace nann {

// The beams of a request: `level_topn` [n] for all rows, or [batch, n]. A view of the input tensor.
class LevelTopn {
 public:
  // Sets `row_status` [batch]. InvalidArgument when the shape, a beam or the work of the batch does not fit;
  // with `keeps_valid_rows` and beams for each row, only when no row can be answered.
  static absl::StatusOr<LevelTopn> Create(const tensorflow::Tensor& tensor, const Graph& graph,
                                          int64_t max_work, bool keeps_valid_rows,
                                          absl::Span<int32_t> row_status) {
    const int64_t batch = static_cast<int64_t>(row_status.size());
    std::fill(row_status.begin(), row_status.end(), kRowOk);
    const tensorflow::TensorShape& shape = tensor.shape();
    const bool per_row = shape.dims() == 2;
    if ((shape.dims() != 1 && !per_row) || (per_row && shape.dim_size(0) != batch)) {
      return absl::InvalidArgumentError(absl::StrCat("level_topn: expected shape [n] or [batch = ", batch,
                                                     ", n] with n = ", graph.level_topn_length(), ", found ",
                                                     shape.DebugString()));
    }
    LevelTopn topn;
    topn.width_ = shape.dim_size(shape.dims() - 1);
    topn.length_ = graph.level_topn_length();
    topn.per_row_ = per_row;
    topn.values_ = absl::MakeConstSpan(tensor.flat<int32_t>().data(), tensor.NumElements());
    if (per_row && keeps_valid_rows) {
      NANN_RETURN_IF_ERROR(CheckRows(graph, topn.values_, topn.width_, batch, max_work, row_status));
    } else {
      NANN_RETURN_IF_ERROR(CheckLevelTopn(graph, topn.values_, topn.width_, batch, max_work));
    }
    return topn;
  }

  absl::Span<const int32_t> BeamsOfRow(int64_t row) const {
    return values_.subspan(per_row_ ? row * width_ : 0, length_);
  }
  int64_t KOfRow(int64_t row) const { return BeamsOfRow(row).back(); }

  // The largest k of the rows that are answered: the width of the outputs.
  int64_t LargestK(absl::Span<const int32_t> row_status) const {
    if (!per_row_) return values_.back();
    int64_t k = 0;
    for (size_t row = 0; row < row_status.size(); ++row) {
      if (row_status[row] == kRowOk) k = std::max(k, KOfRow(row));
    }
    return k;
  }

 private:
  absl::Span<const int32_t> values_;
  int64_t width_ = 0;   // Values of a row.
  int64_t length_ = 0;  // Its beams; what follows is padding.
  bool per_row_ = false;
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_WALK_LEVEL_TOPN_H_
