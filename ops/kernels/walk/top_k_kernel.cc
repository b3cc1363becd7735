#include <cmath>
#include <vector>

#include "../../core/walk/top_k.h"
#include "../index/index_resource.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class TopKOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const Tensor& positions = ctx->input(1);
    const Tensor& scores = ctx->input(2);
    const Tensor& k = ctx->input(3);
    OP_REQUIRES(ctx, positions.dims() == 1 && positions.shape() == scores.shape(),
                absl::InvalidArgumentError(absl::StrCat("expected positions [n] and scores [n], found ",
                                                        positions.shape().DebugString(), " and ",
                                                        scores.shape().DebugString())));
    OP_REQUIRES(ctx, k.NumElements() == 1 && k.flat<int32_t>()(0) >= 0,
                absl::InvalidArgumentError(
                    absl::StrCat("k: expected one value of at least 0, found ", k.DebugString())));
    std::vector<Candidate> candidates;
    const int32_t num_items = (*index)->graph().num_items();
    for (int64_t i = 0; i < positions.NumElements(); ++i) {
      const Candidate candidate{positions.flat<int32_t>()(i), scores.flat<float>()(i)};
      OP_REQUIRES(ctx, candidate.position >= 0 && candidate.position < num_items,
                  absl::InvalidArgumentError(absl::StrCat("positions[", i, "]: expected 0 to ", num_items - 1,
                                                          ", found ", candidate.position)));
      if (!std::isnan(candidate.score)) candidates.push_back(candidate);
    }
    KeepTopSorted(k.flat<int32_t>()(0), (*index)->graph().item_ids(), &candidates);

    const TensorShape shape({static_cast<int64_t>(candidates.size())});
    Tensor* top_positions = nullptr;
    Tensor* top_scores = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape, &top_positions));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, shape, &top_scores));
    for (size_t i = 0; i < candidates.size(); ++i) {
      top_positions->flat<int32_t>()(i) = candidates[i].position;
      top_scores->flat<float>()(i) = candidates[i].score;
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("Nann>TopK").Device(tensorflow::DEVICE_CPU), TopKOp);

}  // namespace
}  // namespace nann
