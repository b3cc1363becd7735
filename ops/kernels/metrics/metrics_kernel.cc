#include "metrics.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

class MetricsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* ctx) override {
    const std::vector<std::pair<std::string, int64_t>> metrics = ReadMetrics();
    const tensorflow::TensorShape shape({static_cast<int64_t>(metrics.size())});
    tensorflow::Tensor* names = nullptr;
    tensorflow::Tensor* values = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape, &names));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, shape, &values));
    for (size_t i = 0; i < metrics.size(); ++i) {
      names->flat<tensorflow::tstring>()(i) = metrics[i].first;
      values->flat<int64_t>()(i) = metrics[i].second;
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("Nann>Metrics").Device(tensorflow::DEVICE_CPU), MetricsOp);

}  // namespace
}  // namespace nann
