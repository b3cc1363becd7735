// The ops that make the handle of an index and load the files behind it.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../core/base/status_macros.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "index_resource.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_handle.h"
#include "tensorflow/core/framework/resource_mgr.h"

namespace nann {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::ResourceHandle;
using tensorflow::Tensor;
using tensorflow::tstring;
using tensorflow::core::RefCountPtr;

// A scalar that owns one reference of `resource`, which goes with the last copy of the handle.
absl::StatusOr<Tensor> MakeHandle(OpKernelContext* ctx, RefCountPtr<IndexResource> resource) {
  Tensor handle;
  NANN_RETURN_IF_ERROR(ctx->allocate_temp(tensorflow::DT_RESOURCE, tensorflow::TensorShape({}), &handle));
  handle.scalar<ResourceHandle>()() =
      ResourceHandle::MakeRefCountingHandle(resource.release(), ctx->device()->name());
  return handle;
}

// The handle of a graph. The initializer and the signatures run in separate calls of Session::Run: this
// kernel makes one handle, keeps it, and emits it on every run. Calls of Session::Run share the kernels of a
// graph's own nodes, but not those of nodes inside functions; there TensorFlow's loader sets `shared_name`,
// and kernels of one name find the same resource by it. The resource manager holds a weak reference, so that
// nothing outlives kernels and handles. Thread-safe.
class IndexHandleOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    absl::MutexLock lock(&mu_);
    if (!made_) OP_REQUIRES_OK(ctx, Make(ctx));
    ctx->set_output(0, handle_);
  }

 private:
  absl::Status Make(OpKernelContext* ctx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    tensorflow::ContainerInfo info;
    NANN_RETURN_IF_ERROR(info.Init(ctx->resource_manager(), def(), /*use_node_name_as_default=*/false));
    RefCountPtr<IndexResource> resource;
    if (info.resource_is_private_to_kernel()) {
      resource.reset(new IndexResource());
    } else {
      NANN_ASSIGN_OR_RETURN(resource, FindOrMake(info));
    }
    NANN_ASSIGN_OR_RETURN(handle_, MakeHandle(ctx, std::move(resource)));
    made_ = true;
    return absl::OkStatus();
  }

  static absl::StatusOr<RefCountPtr<IndexResource>> FindOrMake(const tensorflow::ContainerInfo& info) {
    while (true) {
      IndexResource* existing = nullptr;
      if (info.resource_manager()->Lookup(info.container(), info.name(), &existing).ok()) {
        return RefCountPtr<IndexResource>(existing);
      }
      RefCountPtr<IndexResource> created(new IndexResource());
      const absl::Status added =
          info.resource_manager()->CreateUnowned(info.container(), info.name(), created.get());
      if (added.ok()) return created;
      // Another kernel was faster, or the last holder of the name is just going away: look again.
      if (!absl::IsAlreadyExists(added)) return added;
    }
  }

  absl::Mutex mu_;
  Tensor handle_ ABSL_GUARDED_BY(mu_);
  bool made_ ABSL_GUARDED_BY(mu_) = false;
};

// The handle of eager mode. TensorFlow caches eager kernels by their attributes, for all callers and until
// the process ends: this kernel keeps nothing, and each run emits a new handle.
class AnonymousIndexOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<Tensor> handle = MakeHandle(ctx, RefCountPtr<IndexResource>(new IndexResource()));
    OP_REQUIRES_OK(ctx, handle.status());
    ctx->set_output(0, *handle);
  }
};

class IndexInitializeOp : public tensorflow::OpKernel {
 public:
  explicit IndexInitializeOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("hops_per_level", &hops_per_level_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("item_table_names", &item_tables_.names));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("item_table_types", &item_tables_.types));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("user_table_names", &user_tables_.names));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("user_table_types", &user_tables_.types));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("attribute_names", &attribute_names_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("attribute_types", &attribute_types_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("prefault", &prefault_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("overlay_capacity", &overlay_capacity_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("export_id", &export_id_));
    OP_REQUIRES(ctx, attribute_names_.size() == attribute_types_.size(),
                absl::InvalidArgumentError(absl::StrCat("expected one type per attribute, found ",
                                                        attribute_names_.size(), " names and ",
                                                        attribute_types_.size(), " types")));
    for (const TableAttrs* tables : {&item_tables_, &user_tables_}) {
      OP_REQUIRES(
          ctx, tables->names.size() == tables->types.size(),
          absl::InvalidArgumentError(absl::StrCat("expected one type per table, found ", tables->names.size(),
                                                  " names and ", tables->types.size(), " types")));
    }
  }

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Initialize(ctx)); }

 private:
  struct TableAttrs {
    std::vector<std::string> names;
    std::vector<tensorflow::DataType> types;
  };

  absl::Status Initialize(OpKernelContext* ctx) const {
    const size_t num_levels = hops_per_level_.size();
    IndexFiles files;
    files.hops_per_level = hops_per_level_;
    NANN_ASSIGN_OR_RETURN(files.item_ids, Path(ctx, "item_ids_path"));
    NANN_ASSIGN_OR_RETURN(files.id_order, Path(ctx, "id_order_path"));
    NANN_ASSIGN_OR_RETURN(files.enter_points, Path(ctx, "enter_points_path"));
    NANN_ASSIGN_OR_RETURN(files.neighbors, Paths(ctx, "neighbors_paths", num_levels));
    NANN_ASSIGN_OR_RETURN(files.row_splits, Paths(ctx, "row_splits_paths", num_levels));
    NANN_ASSIGN_OR_RETURN(files.item_tables, Tables(ctx, "item_table_paths", item_tables_));
    NANN_ASSIGN_OR_RETURN(files.user_tables, Tables(ctx, "user_table_paths", user_tables_));
    files.overlay_capacity = overlay_capacity_;
    files.export_id = export_id_;
    NANN_ASSIGN_OR_RETURN(files.attributes, Attributes(ctx));
    NANN_ASSIGN_OR_RETURN(IndexResource* const resource, ResourceOfInput(ctx, 0));
    resource->Watch(nullptr);  // A former watcher sets a former index.
    const absl::Duration interval = SegmentWatcher::Interval();
    if (overlay_capacity_ == 0 || interval == absl::ZeroDuration()) {
      NANN_ASSIGN_OR_RETURN(std::shared_ptr<const Index> index, Index::Load(ctx->env(), files, prefault_));
      resource->Set(std::move(index));
      return absl::OkStatus();
    }
    NANN_ASSIGN_OR_RETURN(std::unique_ptr<LiveIndex> live, LiveIndex::Load(ctx->env(), files, prefault_));
    resource->Set(live->index());
    const auto set = [resource](std::shared_ptr<const Index> index) { resource->Set(std::move(index)); };
    resource->Watch(std::make_unique<SegmentWatcher>(ctx->env(), std::move(live), interval, set));
    return absl::OkStatus();
  }

  static absl::StatusOr<std::vector<std::string>> Paths(OpKernelContext* ctx, const char* input,
                                                        size_t expected) {
    const Tensor* tensor;
    NANN_RETURN_IF_ERROR(ctx->input(input, &tensor));
    if (tensor->NumElements() != static_cast<int64_t>(expected)) {
      return absl::InvalidArgumentError(absl::StrCat(input, ": expected ", expected, " paths, found shape ",
                                                     tensor->shape().DebugString()));
    }
    const auto paths = tensor->flat<tstring>();
    return std::vector<std::string>(paths.data(), paths.data() + expected);
  }

  static absl::StatusOr<std::string> Path(OpKernelContext* ctx, const char* input) {
    NANN_ASSIGN_OR_RETURN(std::vector<std::string> paths, Paths(ctx, input, 1));
    return paths[0];
  }

  static absl::StatusOr<std::vector<TableFile>> Tables(OpKernelContext* ctx, const char* input,
                                                       const TableAttrs& attrs) {
    NANN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, Paths(ctx, input, attrs.names.size()));
    std::vector<TableFile> tables;
    for (size_t i = 0; i < paths.size(); ++i) {
      tables.push_back({attrs.names[i], paths[i], attrs.types[i]});
    }
    return tables;
  }

  absl::StatusOr<std::vector<AttributeFiles>> Attributes(OpKernelContext* ctx) const {
    tensorflow::OpInputList inputs;
    NANN_RETURN_IF_ERROR(ctx->input_list("attribute_paths", &inputs));
    const int64_t expected = static_cast<int64_t>(attribute_names_.size()) * kAttributeParts;
    int64_t found = 0;
    for (const Tensor& paths : inputs) found += paths.NumElements();
    if (found != expected || (found > 0 && inputs.size() != 1)) {
      return absl::InvalidArgumentError(absl::StrCat("attribute_paths: expected [", attribute_names_.size(),
                                                     ", ", kAttributeParts, "], found ", found, " paths in ",
                                                     inputs.size(), " tensors"));
    }
    std::vector<AttributeFiles> attributes;
    const tstring* path = found == 0 ? nullptr : inputs[0].flat<tstring>().data();
    for (size_t i = 0; i < attribute_names_.size(); ++i, path += kAttributeParts) {
      attributes.push_back({attribute_names_[i], attribute_types_[i], {path, path + kAttributeParts}});
    }
    return attributes;
  }

  std::vector<int32_t> hops_per_level_;
  std::vector<std::string> attribute_names_;
  std::vector<std::string> attribute_types_;
  TableAttrs item_tables_;
  TableAttrs user_tables_;
  bool prefault_ = false;
  int64_t overlay_capacity_ = 0;
  std::string export_id_;
};

REGISTER_KERNEL_BUILDER(Name("Nann>IndexHandle").Device(tensorflow::DEVICE_CPU), IndexHandleOp);
REGISTER_KERNEL_BUILDER(Name("Nann>AnonymousIndex").Device(tensorflow::DEVICE_CPU), AnonymousIndexOp);
REGISTER_KERNEL_BUILDER(Name("Nann>IndexInitialize").Device(tensorflow::DEVICE_CPU), IndexInitializeOp);

}  // namespace
}  // namespace nann
