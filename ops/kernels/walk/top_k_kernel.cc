#include <cmath>
#include <vector>

#include "../../core/base/status_macros.h"
#include "../../core/walk/top_k.h"
#include "../index/index_op_kernel.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class TopKOp : public IndexOpKernel {
 public:
  using IndexOpKernel::IndexOpKernel;

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    NANN_RETURN_IF_ERROR(CheckInputs(ctx, index.graph().num_items()));
    const auto positions = ctx->input(1).flat<int32_t>();
    const auto scores = ctx->input(2).flat<float>();
    std::vector<Candidate> candidates;
    for (int64_t i = 0; i < positions.size(); ++i) {
      if (!std::isnan(scores(i))) candidates.push_back({positions(i), scores(i)});
    }
    KeepTopSorted(ctx->input(3).flat<int32_t>()(0), index.graph().item_ids(), &candidates);

    const TensorShape shape({static_cast<int64_t>(candidates.size())});
    Tensor* top_positions = nullptr;
    Tensor* top_scores = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, shape, &top_positions));
    NANN_RETURN_IF_ERROR(ctx->allocate_output(1, shape, &top_scores));
    for (size_t i = 0; i < candidates.size(); ++i) {
      top_positions->flat<int32_t>()(i) = candidates[i].position;
      top_scores->flat<float>()(i) = candidates[i].score;
    }
    return absl::OkStatus();
  }

  static absl::Status CheckInputs(OpKernelContext* ctx, int32_t num_items) {
    const Tensor& positions = ctx->input(1);
    const Tensor& scores = ctx->input(2);
    const Tensor& k = ctx->input(3);
    if (positions.dims() != 1 || positions.shape() != scores.shape()) {
      return absl::InvalidArgumentError(absl::StrCat("expected positions [n] and scores [n], found ",
                                                     positions.shape().DebugString(), " and ",
                                                     scores.shape().DebugString()));
    }
    if (k.NumElements() != 1 || k.flat<int32_t>()(0) < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("k: expected one value of at least 0, found ", k.DebugString()));
    }
    return CheckInputPositions(positions, num_items);
  }
};

REGISTER_KERNEL_BUILDER(Name("Nann>TopK").Device(tensorflow::DEVICE_CPU), TopKOp);

}  // namespace
}  // namespace nann
