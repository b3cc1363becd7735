// The ops of a publisher: a graph that items are inserted into.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "../../core/base/status_macros.h"
#include "../../core/live/link_builder.h"
#include "../index/index_op_kernel.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/framework/resource_handle.h"

namespace nann {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::ResourceHandle;
using tensorflow::Tensor;
using tensorflow::TensorShape;

template <typename T>
absl::Span<const T> Values(const Tensor& tensor) {
  return {tensor.flat<T>().data(), static_cast<size_t>(tensor.NumElements())};
}

// Thread-safe: `mu_` guards graph and builder. It keeps the index that its graph views.
class LinkBuilderResource : public tensorflow::ResourceBase {
 public:
  LinkBuilderResource(std::shared_ptr<const Index> index, const Table& vectors,
                      const LinkBuilder::Options& options)
      : index_(std::move(index)), graph_(index_->graph(), vectors), builder_(&graph_, options) {}

  std::string DebugString() const override { return "nann::LinkBuilder"; }

  int64_t dim() const { return graph_.dim(); }  // Constant, as is the number of levels.
  int num_levels() const { return graph_.num_levels(); }

  std::vector<ListChanges> Insert(absl::Span<const float> vectors, absl::Span<const int32_t> levels) {
    absl::MutexLock lock(&mu_);
    for (size_t i = 0; i < levels.size(); ++i) {
      builder_.Insert(vectors.subspan(i * graph_.dim(), graph_.dim()), levels[i]);
    }
    return graph_.TakeChanges();
  }

  absl::Status Apply(absl::Span<const float> vectors, absl::Span<const ListChanges> changes) {
    absl::MutexLock lock(&mu_);
    NANN_RETURN_IF_ERROR(graph_.Apply(vectors, changes));
    builder_.FollowGraph();
    return absl::OkStatus();
  }

  absl::Status Delete(const Tensor& positions) {
    absl::MutexLock lock(&mu_);
    NANN_RETURN_IF_ERROR(CheckInputPositions(positions, graph_.size()));
    for (const int32_t position : Values<int32_t>(positions)) graph_.MarkDead(position);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const Index> index_;
  absl::Mutex mu_;
  EditableGraph graph_;
  LinkBuilder builder_ ABSL_GUARDED_BY(mu_);
};

absl::StatusOr<LinkBuilderResource*> BuilderOfInput(OpKernelContext* ctx) {
  const Tensor& tensor = ctx->input(0);
  if (tensor.NumElements() == 1) {
    const ResourceHandle& handle = tensor.flat<ResourceHandle>()(0);
    if (handle.IsRefCounting() && handle.ValidateType<LinkBuilderResource>().ok()) {
      return handle.GetResource<LinkBuilderResource>();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("builder: expected a handle from Nann>LinkBuilder, found ", tensor.DebugString()));
}

absl::Status CheckVectors(const Tensor& vectors, int64_t dim) {
  if (vectors.dims() != 2 || vectors.dim_size(1) != dim) {
    return absl::InvalidArgumentError(
        absl::StrCat("vectors: expected shape [n, ", dim, "], found ", vectors.shape().DebugString()));
  }
  const absl::Span<const float> values = Values<float>(vectors);
  // A number that is not finite is no distance from anything.
  const bool finite = std::all_of(values.begin(), values.end(), [](float v) { return v - v == 0; });
  return finite ? absl::OkStatus() : absl::InvalidArgumentError("vectors: expected finite values");
}

absl::Status CheckNumLevels(const LinkBuilderResource& builder, int num_levels) {
  if (builder.num_levels() == num_levels) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("num_levels: expected ", builder.num_levels(), " as the index has, found ", num_levels));
}

class LinkBuilderOp : public OpKernel {
 public:
  explicit LinkBuilderOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("table", &table_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("m", &options_.m));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("ef_construction", &options_.ef_construction));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("inner_product", &options_.inner_product));
  }

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Make(ctx)); }

 private:
  absl::Status Make(OpKernelContext* ctx) const {
    NANN_ASSIGN_OR_RETURN(std::shared_ptr<const Index> index, IndexOfInput(ctx, 0));
    NANN_ASSIGN_OR_RETURN(const Table* const table, index->ItemTable(table_));
    Tensor handle;
    NANN_RETURN_IF_ERROR(ctx->allocate_temp(tensorflow::DT_RESOURCE, TensorShape({}), &handle));
    handle.scalar<ResourceHandle>()() = ResourceHandle::MakeRefCountingHandle(
        new LinkBuilderResource(std::move(index), *table, options_), ctx->device()->name());
    ctx->set_output(0, handle);
    return absl::OkStatus();
  }

  std::string table_;
  LinkBuilder::Options options_;
};

class ChooseLinksOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Choose(ctx)); }

 private:
  static absl::Status Choose(OpKernelContext* ctx) {
    NANN_ASSIGN_OR_RETURN(LinkBuilderResource* const builder, BuilderOfInput(ctx));
    const Tensor& vectors = ctx->input(1);
    const Tensor& levels = ctx->input(2);
    NANN_RETURN_IF_ERROR(CheckVectors(vectors, builder->dim()));
    const absl::Span<const int32_t> level_values = Values<int32_t>(levels);
    if (levels.dims() != 1 || levels.dim_size(0) != vectors.dim_size(0) ||
        std::any_of(level_values.begin(), level_values.end(), [](int32_t level) { return level < 0; })) {
      return absl::InvalidArgumentError(absl::StrCat("levels: expected ", vectors.dim_size(0),
                                                     " values of at least 0, found ", levels.DebugString()));
    }
    OpOutputList nodes, row_splits, neighbors;
    NANN_RETURN_IF_ERROR(ctx->output_list("nodes", &nodes));
    NANN_RETURN_IF_ERROR(ctx->output_list("row_splits", &row_splits));
    NANN_RETURN_IF_ERROR(ctx->output_list("neighbors", &neighbors));
    NANN_RETURN_IF_ERROR(CheckNumLevels(*builder, nodes.size()));
    const std::vector<ListChanges> changes = builder->Insert(Values<float>(vectors), level_values);
    for (int level = 0; level < nodes.size(); ++level) {
      NANN_RETURN_IF_ERROR(Emit(changes[level].nodes, level, &nodes));
      NANN_RETURN_IF_ERROR(Emit(changes[level].row_splits, level, &row_splits));
      NANN_RETURN_IF_ERROR(Emit(changes[level].neighbors, level, &neighbors));
    }
    return absl::OkStatus();
  }

  template <typename T>
  static absl::Status Emit(const std::vector<T>& values, int level, OpOutputList* outputs) {
    Tensor* out = nullptr;
    NANN_RETURN_IF_ERROR(outputs->allocate(level, TensorShape({static_cast<int64_t>(values.size())}), &out));
    std::copy(values.begin(), values.end(), out->flat<T>().data());
    return absl::OkStatus();
  }
};

class ApplyLinksOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Apply(ctx)); }

 private:
  static absl::Status Apply(OpKernelContext* ctx) {
    NANN_ASSIGN_OR_RETURN(LinkBuilderResource* const builder, BuilderOfInput(ctx));
    NANN_RETURN_IF_ERROR(CheckVectors(ctx->input(1), builder->dim()));
    OpInputList nodes, row_splits, neighbors;
    NANN_RETURN_IF_ERROR(ctx->input_list("nodes", &nodes));
    NANN_RETURN_IF_ERROR(ctx->input_list("row_splits", &row_splits));
    NANN_RETURN_IF_ERROR(ctx->input_list("neighbors", &neighbors));
    NANN_RETURN_IF_ERROR(CheckNumLevels(*builder, nodes.size()));
    std::vector<ListChanges> changes(nodes.size());
    for (int level = 0; level < nodes.size(); ++level) {
      Take(nodes[level], &changes[level].nodes);
      Take(row_splits[level], &changes[level].row_splits);
      Take(neighbors[level], &changes[level].neighbors);
    }
    return builder->Apply(Values<float>(ctx->input(1)), changes);
  }

  template <typename T>
  static void Take(const Tensor& tensor, std::vector<T>* out) {
    const absl::Span<const T> values = Values<T>(tensor);
    out->assign(values.begin(), values.end());
  }
};

class DeleteLinkedOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<LinkBuilderResource*> builder = BuilderOfInput(ctx);
    OP_REQUIRES_OK(ctx, builder.status());
    OP_REQUIRES_OK(ctx, (*builder)->Delete(ctx->input(1)));
  }
};

REGISTER_KERNEL_BUILDER(Name("Nann>LinkBuilder").Device(tensorflow::DEVICE_CPU), LinkBuilderOp);
REGISTER_KERNEL_BUILDER(Name("Nann>ChooseLinks").Device(tensorflow::DEVICE_CPU), ChooseLinksOp);
REGISTER_KERNEL_BUILDER(Name("Nann>ApplyLinks").Device(tensorflow::DEVICE_CPU), ApplyLinksOp);
REGISTER_KERNEL_BUILDER(Name("Nann>DeleteLinked").Device(tensorflow::DEVICE_CPU), DeleteLinkedOp);

}  // namespace
}  // namespace nann
