// Reading the index: entry points, neighbours, rows of tables.
#include "absl/strings/str_cat.h"
#include "index_resource.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/register_types.h"

namespace nann {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class EnterPointsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const absl::Span<const int32_t> points = (*index)->graph().enter_points();
    Tensor* positions = nullptr;
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(0, TensorShape({static_cast<int64_t>(points.size())}), &positions));
    std::copy(points.begin(), points.end(), positions->flat<int32_t>().data());
  }
};

class GatherNeighborsOp : public tensorflow::OpKernel {
 public:
  explicit GatherNeighborsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("level", &level_));
  }

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const Graph& graph = (*index)->graph();
    OP_REQUIRES(ctx, level_ < graph.num_levels(),
                absl::InvalidArgumentError(
                    absl::StrCat("level: expected 0 to ", graph.num_levels() - 1, ", found ", level_)));
    const Level& level = graph.level(level_);
    const Tensor& positions = ctx->input(1);
    const auto in = positions.flat<int32_t>();
    int64_t edges = 0;
    for (int64_t i = 0; i < in.size(); ++i) {
      OP_REQUIRES(ctx, in(i) >= 0 && in(i) < graph.num_items(),
                  absl::InvalidArgumentError(absl::StrCat("positions[", i, "]: expected 0 to ",
                                                          graph.num_items() - 1, ", found ", in(i))));
      edges += level.NeighborsOf(in(i)).size();
    }
    Tensor* neighbors = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({edges}), &neighbors));
    int32_t* out = neighbors->flat<int32_t>().data();
    for (int64_t i = 0; i < in.size(); ++i) {
      const absl::Span<const int32_t> row = level.NeighborsOf(in(i));
      out = std::copy(row.begin(), row.end(), out);
    }
  }

 private:
  int level_ = 0;
};

template <typename Row>
class GatherTableRowsOp : public tensorflow::OpKernel {
 public:
  explicit GatherTableRowsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("table", &table_));
  }

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const absl::StatusOr<const Table*> table = (*index)->FloatTable(table_);
    OP_REQUIRES_OK(ctx, table.status());
    const Tensor& rows = ctx->input(1);
    const auto in = rows.flat<Row>();
    for (int64_t i = 0; i < in.size(); ++i) {
      OP_REQUIRES(
          ctx, in(i) >= 0 && static_cast<int64_t>(in(i)) < (*table)->rows(),
          absl::InvalidArgumentError(absl::StrCat("rows, value ", i, ": expected 0 to ", (*table)->rows() - 1,
                                                  " (table ", table_, "), found ", in(i))));
    }
    TensorShape shape = rows.shape();
    OP_REQUIRES_OK(ctx, shape.AddDimWithStatus((*table)->width()));
    Tensor* values = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape, &values));
    (*table)->Gather(absl::MakeConstSpan(in.data(), in.size()), values->flat<float>().data());
  }

 private:
  std::string table_;
};

REGISTER_KERNEL_BUILDER(Name("Nann>EnterPoints").Device(tensorflow::DEVICE_CPU), EnterPointsOp);
REGISTER_KERNEL_BUILDER(Name("Nann>GatherNeighbors").Device(tensorflow::DEVICE_CPU), GatherNeighborsOp);
REGISTER_KERNEL_BUILDER(
    Name("Nann>GatherTableRows").Device(tensorflow::DEVICE_CPU).TypeConstraint<int32_t>("Trow"),
    GatherTableRowsOp<int32_t>);
REGISTER_KERNEL_BUILDER(
    Name("Nann>GatherTableRows").Device(tensorflow::DEVICE_CPU).TypeConstraint<int64_t>("Trow"),
    GatherTableRowsOp<int64_t>);

}  // namespace
}  // namespace nann
