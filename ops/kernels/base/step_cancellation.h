// Whether anybody still waits for the result of an op.
#ifndef NANN_OPS_KERNELS_BASE_STEP_CANCELLATION_H_
#define NANN_OPS_KERNELS_BASE_STEP_CANCELLATION_H_

#include "../../core/base/cancellable_runs.h"
#include "absl/status/status.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {

// The step of an op as TensorFlow cancels it, at its deadline for example, or the server that called the
// session (CancellableRuns). Valid until the op is done. Thread-safe.
class StepCancellation {
 public:
  explicit StepCancellation(tensorflow::OpKernelContext* ctx) : manager_(ctx->cancellation_manager()) {
    const CancellableRuns& runs = CancellableRuns::OfProcess();
    if (runs.IsEmpty()) return;
    for (int i = 0; i < ctx->num_inputs() && is_cancelled_ == nullptr; ++i) {
      is_cancelled_ = runs.Find(ctx->input(i).data());
    }
  }

  bool IsCancelled() const {
    return (manager_ != nullptr && manager_->IsCancelled()) ||
           (is_cancelled_ != nullptr && is_cancelled_->load(std::memory_order_relaxed));
  }

  // What an op ends with then.
  absl::Status status() const {
    return absl::CancelledError("the request was cancelled or its deadline passed");
  }

 private:
  tensorflow::CancellationManager* manager_;  // Null: TensorFlow cannot cancel the step.
  CancellableRuns::Flag is_cancelled_;        // Null: nor can the server.
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_BASE_STEP_CANCELLATION_H_
