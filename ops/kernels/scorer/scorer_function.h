// Calling a function of TensorFlow from inside a kernel.
#ifndef NANN_OPS_KERNELS_SCORER_SCORER_FUNCTION_H_
#define NANN_OPS_KERNELS_SCORER_SCORER_FUNCTION_H_

#include <functional>

#include "tensorflow/core/framework/function.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {

// A function that runs as part of the kernel invocation `ctx`: same cancellation, same threads. No
// rendezvous: runs of one function at the same time must not see each other's sends.
inline tensorflow::FunctionLibraryRuntime::Options FunctionOptions(tensorflow::OpKernelContext* ctx) {
  tensorflow::FunctionLibraryRuntime::Options options;
  options.step_container = ctx->step_container();
  options.cancellation_manager = ctx->cancellation_manager();
  options.collective_executor = ctx->collective_executor();
  options.stats_collector = ctx->stats_collector();
  options.runner = ctx->runner();
  options.run_all_kernels_inline = ctx->run_all_kernels_inline();
  return options;
}

// For a chain of small operations: handing one to another thread takes longer than the operation. The runner
// is of this thread as well: a loop whose kernels run inline waits for what it hands to the runner, and with
// as many loops as threads there would be nobody to run it.
inline tensorflow::FunctionLibraryRuntime::Options InlineFunctionOptions(tensorflow::OpKernelContext* ctx) {
  static std::function<void(std::function<void()>)>* const here =
      new std::function<void(std::function<void()>)>([](const std::function<void()>& closure) { closure(); });
  tensorflow::FunctionLibraryRuntime::Options options = FunctionOptions(ctx);
  options.run_all_kernels_inline = true;
  options.runner = here;
  return options;
}

}  // namespace nann

#endif  // NANN_OPS_KERNELS_SCORER_SCORER_FUNCTION_H_
