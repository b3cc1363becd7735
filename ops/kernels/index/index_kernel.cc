#include "index_resource.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"

namespace nann {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::tstring;

// Makes the resource on its first run and hands out its handle. With an empty `shared_name` the resource
// belongs to this kernel alone and goes with it, so that two models never meet.
class IndexHandleOp : public tensorflow::OpKernel {
 public:
  explicit IndexHandleOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  ~IndexHandleOp() override {
    if (made_ && info_.resource_is_private_to_kernel()) {
      // The resource may be gone already: a caller can destroy it by its handle.
      info_.resource_manager()->template Delete<IndexResource>(info_.container(), info_.name()).IgnoreError();
    }
  }

  void Compute(OpKernelContext* ctx) override {
    absl::MutexLock lock(&mu_);
    if (!made_) {
      OP_REQUIRES_OK(ctx, info_.Init(ctx->resource_manager(), def(), /*use_node_name_as_default=*/false));
      IndexResource* resource = nullptr;
      OP_REQUIRES_OK(ctx, ctx->resource_manager()->LookupOrCreate<IndexResource>(
                              info_.container(), info_.name(), &resource, [](IndexResource** created) {
                                *created = new IndexResource();
                                return absl::OkStatus();
                              }));
      resource->Unref();
      made_ = true;
    }
    OP_REQUIRES_OK(ctx, tensorflow::MakeResourceHandleToOutput(ctx, 0, info_.container(), info_.name(),
                                                               tensorflow::TypeIndex::Make<IndexResource>()));
  }

 private:
  absl::Mutex mu_;
  tensorflow::ContainerInfo info_ ABSL_GUARDED_BY(mu_);
  bool made_ ABSL_GUARDED_BY(mu_) = false;
};

class IndexInitializeOp : public tensorflow::OpKernel {
 public:
  explicit IndexInitializeOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("hops_per_level", &hops_per_level_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("item_table_names", &item_tables_.names));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("item_table_types", &item_tables_.types));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("user_table_names", &user_tables_.names));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("user_table_types", &user_tables_.types));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("prefault", &prefault_));
    for (const TableAttrs* tables : {&item_tables_, &user_tables_}) {
      OP_REQUIRES(
          ctx, tables->names.size() == tables->types.size(),
          absl::InvalidArgumentError(absl::StrCat("expected one type a table, found ", tables->names.size(),
                                                  " names and ", tables->types.size(), " types")));
    }
  }

  void Compute(OpKernelContext* ctx) override {
    IndexFiles files;
    files.hops_per_level = hops_per_level_;
    const size_t num_levels = hops_per_level_.size();
    OP_REQUIRES_OK(ctx, OnePath(ctx, "item_ids_path", &files.item_ids));
    OP_REQUIRES_OK(ctx, OnePath(ctx, "id_order_path", &files.id_order));
    OP_REQUIRES_OK(ctx, OnePath(ctx, "enter_points_path", &files.enter_points));
    OP_REQUIRES_OK(ctx, Paths(ctx, "neighbors_paths", num_levels, &files.neighbors));
    OP_REQUIRES_OK(ctx, Paths(ctx, "row_splits_paths", num_levels, &files.row_splits));
    OP_REQUIRES_OK(ctx, Tables(ctx, "item_table_paths", item_tables_, &files.item_tables));
    OP_REQUIRES_OK(ctx, Tables(ctx, "user_table_paths", user_tables_, &files.user_tables));

    tensorflow::core::RefCountPtr<IndexResource> resource;
    OP_REQUIRES_OK(ctx, tensorflow::LookupResource(ctx, tensorflow::HandleFromInput(ctx, 0), &resource));
    absl::StatusOr<std::shared_ptr<const Index>> index = Index::Load(ctx->env(), files, prefault_);
    OP_REQUIRES_OK(ctx, index.status());
    resource->Set(*std::move(index));
  }

 private:
  struct TableAttrs {
    std::vector<std::string> names;
    std::vector<tensorflow::DataType> types;
  };

  static absl::Status Paths(OpKernelContext* ctx, const char* input, size_t expected,
                            std::vector<std::string>* paths) {
    const Tensor* tensor;
    const absl::Status found = ctx->input(input, &tensor);
    if (!found.ok()) return found;
    if (tensor->NumElements() != static_cast<int64_t>(expected)) {
      return absl::InvalidArgumentError(absl::StrCat(input, ": expected ", expected, " paths, found shape ",
                                                     tensor->shape().DebugString()));
    }
    const auto flat = tensor->flat<tstring>();
    for (size_t i = 0; i < expected; ++i) paths->push_back(std::string(flat(i)));
    return absl::OkStatus();
  }

  static absl::Status OnePath(OpKernelContext* ctx, const char* input, std::string* path) {
    std::vector<std::string> paths;
    const absl::Status status = Paths(ctx, input, 1, &paths);
    if (status.ok()) *path = paths[0];
    return status;
  }

  static absl::Status Tables(OpKernelContext* ctx, const char* input, const TableAttrs& attrs,
                             std::vector<TableFile>* tables) {
    std::vector<std::string> paths;
    const absl::Status status = Paths(ctx, input, attrs.names.size(), &paths);
    for (size_t i = 0; i < paths.size(); ++i) {
      tables->push_back({attrs.names[i], paths[i], attrs.types[i]});
    }
    return status;
  }

  std::vector<int32_t> hops_per_level_;
  TableAttrs item_tables_;
  TableAttrs user_tables_;
  bool prefault_ = false;
};

REGISTER_KERNEL_BUILDER(Name("Nann>IndexHandle").Device(tensorflow::DEVICE_CPU), IndexHandleOp);
REGISTER_KERNEL_BUILDER(Name("Nann>IndexInitialize").Device(tensorflow::DEVICE_CPU), IndexInitializeOp);

}  // namespace
}  // namespace nann
