// The base class of the ops that read an index, and the check of positions that a caller passes.
#ifndef NANN_OPS_KERNELS_INDEX_INDEX_OP_KERNEL_H_
#define NANN_OPS_KERNELS_INDEX_INDEX_OP_KERNEL_H_

#include <memory>

#include "index_resource.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"

namespace nann {

// An op whose first input is the handle of an initialized index. Thread-safe when `Run` is: TensorFlow runs
// one kernel on many threads at once.
class IndexOpKernel : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* ctx) final {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    OP_REQUIRES_OK(ctx, Run(ctx, **index));
  }

 private:
  // Computes all outputs. `index` stays as it is until Run returns, even when the handle is initialized
  // again.
  virtual absl::Status Run(tensorflow::OpKernelContext* ctx, const Index& index) const = 0;
};

// OK when every value of the int32 vector `positions` is in [0, num_items).
absl::Status CheckInputPositions(const tensorflow::Tensor& positions, int32_t num_items);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_INDEX_OP_KERNEL_H_
