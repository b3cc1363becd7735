// Between what callers know (ids) and what the index knows (positions, rows).
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "index_resource.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class IdsToPositionsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const Tensor& ids = ctx->input(1);
    Tensor* positions = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, ids.shape(), &positions));
    const auto in = ids.flat<int64_t>();
    auto out = positions->flat<int32_t>();
    for (int64_t i = 0; i < in.size(); ++i) out(i) = (*index)->graph().PositionOf(in(i));
  }
};

class PositionsToIdsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const Tensor& positions = ctx->input(1);
    Tensor* ids = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, positions.shape(), &ids));
    const absl::Span<const int64_t> item_ids = (*index)->graph().item_ids();
    const auto in = positions.flat<int32_t>();
    auto out = ids->flat<int64_t>();
    for (int64_t i = 0; i < in.size(); ++i) {
      OP_REQUIRES(ctx, in(i) >= -1 && in(i) < static_cast<int64_t>(item_ids.size()),
                  absl::InvalidArgumentError(absl::StrCat("positions, value ", i, ": expected -1 to ",
                                                          item_ids.size() - 1, ", found ", in(i))));
      out(i) = in(i) < 0 ? -1 : item_ids[in(i)];
    }
  }
};

class LookupRowsOp : public tensorflow::OpKernel {
 public:
  explicit LookupRowsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("table", &table_));
  }

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const absl::StatusOr<const Table*> table = (*index)->Vocabulary(table_);
    OP_REQUIRES_OK(ctx, table.status());
    const Tensor& ids = ctx->input(1);
    Tensor* rows = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, ids.shape(), &rows));
    const absl::Span<const int64_t> vocabulary = (*table)->AsInt64();
    const auto in = ids.flat<int64_t>();
    auto out = rows->flat<int64_t>();
    for (int64_t i = 0; i < in.size(); ++i) {
      const auto at = std::lower_bound(vocabulary.begin(), vocabulary.end(), in(i));
      out(i) = at != vocabulary.end() && *at == in(i) ? at - vocabulary.begin() + 1 : 0;
    }
  }

 private:
  std::string table_;
};

REGISTER_KERNEL_BUILDER(Name("Nann>IdsToPositions").Device(tensorflow::DEVICE_CPU), IdsToPositionsOp);
REGISTER_KERNEL_BUILDER(Name("Nann>PositionsToIds").Device(tensorflow::DEVICE_CPU), PositionsToIdsOp);
REGISTER_KERNEL_BUILDER(Name("Nann>LookupRows").Device(tensorflow::DEVICE_CPU), LookupRowsOp);

}  // namespace
}  // namespace nann
