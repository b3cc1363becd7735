// Ops that read the graph and the tables of an index: entry points, neighbours, rows.
#include <algorithm>
#include <string>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "index_op_kernel.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/register_types.h"

namespace nann {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class EnterPointsOp : public IndexOpKernel {
 public:
  using IndexOpKernel::IndexOpKernel;

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    const absl::Span<const int32_t> points = index.graph().enter_points();
    Tensor* positions = nullptr;
    NANN_RETURN_IF_ERROR(
        ctx->allocate_output(0, TensorShape({static_cast<int64_t>(points.size())}), &positions));
    std::copy(points.begin(), points.end(), positions->flat<int32_t>().data());
    return absl::OkStatus();
  }
};

class GatherNeighborsOp : public IndexOpKernel {
 public:
  explicit GatherNeighborsOp(OpKernelConstruction* ctx) : IndexOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("level", &level_));
  }

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    const Graph& graph = index.graph();
    if (level_ >= graph.num_levels()) {
      return absl::InvalidArgumentError(
          absl::StrCat("level: expected 0 to ", graph.num_levels() - 1, ", found ", level_));
    }
    NANN_RETURN_IF_ERROR(CheckInputPositions(ctx->input(1), graph.num_items()));
    const Level& level = graph.level(level_);
    const auto positions = ctx->input(1).flat<int32_t>();
    int64_t edges = 0;
    for (int64_t i = 0; i < positions.size(); ++i) edges += level.NeighborsOf(positions(i)).size();
    Tensor* neighbors = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({edges}), &neighbors));
    int32_t* out = neighbors->flat<int32_t>().data();
    for (int64_t i = 0; i < positions.size(); ++i) {
      const absl::Span<const int32_t> row = level.NeighborsOf(positions(i));
      out = std::copy(row.begin(), row.end(), out);
    }
    return absl::OkStatus();
  }

  int level_ = 0;
};

template <typename Row>
class GatherTableRowsOp : public IndexOpKernel {
 public:
  explicit GatherTableRowsOp(OpKernelConstruction* ctx) : IndexOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("table", &table_));
  }

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    NANN_ASSIGN_OR_RETURN(const Table* table, index.FloatTable(table_));
    const Tensor& rows = ctx->input(1);
    const auto in = rows.flat<Row>();
    for (int64_t i = 0; i < in.size(); ++i) {
      if (in(i) < 0 || static_cast<int64_t>(in(i)) >= table->rows()) {
        return absl::InvalidArgumentError(absl::StrCat("rows, value ", i, ": expected 0 to ",
                                                       table->rows() - 1, " (table ", table_, "), found ",
                                                       in(i)));
      }
    }
    TensorShape shape = rows.shape();
    NANN_RETURN_IF_ERROR(shape.AddDimWithStatus(table->width()));
    Tensor* values = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, shape, &values));
    table->Gather(absl::MakeConstSpan(in.data(), in.size()), values->flat<float>().data());
    return absl::OkStatus();
  }

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
