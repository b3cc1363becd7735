// Ops that translate between the caller's ids and the index's own positions and rows.
#include <algorithm>
#include <string>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "index_op_kernel.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class IdsToPositionsOp : public IndexOpKernel {
 public:
  using IndexOpKernel::IndexOpKernel;

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    Tensor* positions = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, ctx->input(1).shape(), &positions));
    const auto ids = ctx->input(1).flat<int64_t>();
    auto out = positions->flat<int32_t>();
    for (int64_t i = 0; i < ids.size(); ++i) out(i) = index.graph().PositionOf(ids(i));
    return absl::OkStatus();
  }
};

class PositionsToIdsOp : public IndexOpKernel {
 public:
  using IndexOpKernel::IndexOpKernel;

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    Tensor* ids = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, ctx->input(1).shape(), &ids));
    const absl::Span<const int64_t> item_ids = index.graph().item_ids();
    const auto positions = ctx->input(1).flat<int32_t>();
    auto out = ids->flat<int64_t>();
    for (int64_t i = 0; i < positions.size(); ++i) {
      if (positions(i) < -1 || positions(i) >= index.graph().num_items()) {
        return absl::InvalidArgumentError(absl::StrCat("positions, value ", i, ": expected -1 to ",
                                                       item_ids.size() - 1, ", found ", positions(i)));
      }
      out(i) = positions(i) < 0 ? -1 : item_ids[positions(i)];
    }
    return absl::OkStatus();
  }
};

class LookupRowsOp : public IndexOpKernel {
 public:
  explicit LookupRowsOp(OpKernelConstruction* ctx) : IndexOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("table", &table_));
  }

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    NANN_ASSIGN_OR_RETURN(const Table* table, index.Vocabulary(table_));
    Tensor* rows = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, ctx->input(1).shape(), &rows));
    const absl::Span<const int64_t> vocabulary = table->AsInt64();
    const auto ids = ctx->input(1).flat<int64_t>();
    auto out = rows->flat<int64_t>();
    for (int64_t i = 0; i < ids.size(); ++i) {
      const auto at = std::lower_bound(vocabulary.begin(), vocabulary.end(), ids(i));
      out(i) = at != vocabulary.end() && *at == ids(i) ? at - vocabulary.begin() + 1 : 0;
    }
    return absl::OkStatus();
  }

  std::string table_;
};

REGISTER_KERNEL_BUILDER(Name("Nann>IdsToPositions").Device(tensorflow::DEVICE_CPU), IdsToPositionsOp);
REGISTER_KERNEL_BUILDER(Name("Nann>PositionsToIds").Device(tensorflow::DEVICE_CPU), PositionsToIdsOp);
REGISTER_KERNEL_BUILDER(Name("Nann>LookupRows").Device(tensorflow::DEVICE_CPU), LookupRowsOp);

}  // namespace
}  // namespace nann
