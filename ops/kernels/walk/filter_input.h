// The filters of a request, as the search op gets them.
#ifndef NANN_OPS_KERNELS_WALK_FILTER_INPUT_H_
#define NANN_OPS_KERNELS_WALK_FILTER_INPUT_H_

#include <cstdint>
#include <memory>

#include "../../core/base/status_macros.h"
#include "../../core/filter/filter_parser.h"
#include "../../core/filter/row_filter.h"
#include "../base/step_cancellation.h"
#include "../index/index_resource.h"
#include "../metrics/metrics.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {

// The input `filter`: nothing, or one text per row. A view of the input tensor, of the index and of the
// cancellation, which must outlive it and the filters. Thread-safe: it never changes.
class FilterInput {
 public:
  FilterInput() = default;

  // InvalidArgument when the input does not have one text for each of `batch` rows.
  static absl::StatusOr<FilterInput> Create(tensorflow::OpKernelContext* ctx,
                                            const StepCancellation& cancellation, const Index& index,
                                            int64_t batch) {
    tensorflow::OpInputList inputs;
    NANN_RETURN_IF_ERROR(ctx->input_list("filter", &inputs));
    FilterInput filters;
    if (inputs.size() == 0) return filters;
    filters.cache_ = index.filters();
    filters.cancellation_ = &cancellation;
    filters.texts_ = &inputs[0];
    const tensorflow::TensorShape& shape = inputs[0].shape();
    if (inputs.size() == 1 && shape.dims() == 1 && shape.dim_size(0) == batch) return filters;
    return absl::InvalidArgumentError(absl::StrCat("filter: expected one tensor of shape [batch = ", batch,
                                                   "], found ", inputs.size(), ", the first of shape ",
                                                   shape.DebugString()));
  }

  // The filter of a row; null where every item passes. InvalidArgument for a text that is not valid, and for
  // an index without attributes. Cancelled when the request is, while the filter is evaluated.
  absl::StatusOr<std::shared_ptr<const RowFilter>> OfRow(int64_t row) const {
    if (texts_ == nullptr) return nullptr;
    const absl::string_view text = texts_->flat<tensorflow::tstring>()(row);
    if (IsBlankFilter(text)) return nullptr;
    if (cache_ == nullptr) {
      return absl::InvalidArgumentError(
          "filter: expected an index with attributes, found none; describe the items in "
          "RUN/attributes.parquet and export again");
    }
    bool cached = false;
    absl::StatusOr<std::shared_ptr<const RowFilter>> filter =
        cache_->Get(text, &cached, [this] { return cancellation_->IsCancelled(); });
    if (filter.ok()) CountFilter((*filter)->share(), cached);
    return filter;
  }

 private:
  const tensorflow::Tensor* texts_ = nullptr;       // Null: the request has no filters.
  FilterCache* cache_ = nullptr;                    // Null: the index has no attributes.
  const StepCancellation* cancellation_ = nullptr;  // Set where texts_ is.
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_WALK_FILTER_INPUT_H_
