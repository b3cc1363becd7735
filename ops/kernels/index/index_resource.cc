#include "index_resource.h"

#include <utility>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"

namespace nann {

std::string IndexResource::DebugString() const {
  const absl::StatusOr<std::shared_ptr<const Index>> index = Get();
  if (!index.ok()) return "nann::IndexResource(not initialized)";
  return absl::StrCat("nann::IndexResource(", (*index)->graph().num_items(), " items)");
}

void IndexResource::Set(std::shared_ptr<const Index> index) {
  absl::MutexLock lock(&mu_);
  index_.swap(index);
}

void IndexResource::Watch(std::unique_ptr<SegmentWatcher> watcher) {
  // The former one, which calls Set, ends outside of the lock.
  absl::MutexLock lock(&watcher_mu_);
  watcher_ = std::move(watcher);
}

absl::StatusOr<std::shared_ptr<const Index>> IndexResource::Get() const {
  absl::ReaderMutexLock lock(&mu_);
  if (index_ != nullptr) return index_;
  return absl::FailedPreconditionError(
      "the index is not loaded: run the model's initializer (a SavedModel loader does) before its "
      "signatures");
}

absl::StatusOr<IndexResource*> ResourceOfInput(tensorflow::OpKernelContext* ctx, int input) {
  const tensorflow::Tensor& tensor = ctx->input(input);
  if (tensor.NumElements() == 1) {
    const tensorflow::ResourceHandle& handle = tensor.flat<tensorflow::ResourceHandle>()(0);
    if (handle.IsRefCounting() && handle.ValidateType<IndexResource>().ok()) {
      return handle.GetResource<IndexResource>();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("index: expected a handle from Nann>IndexHandle or Nann>AnonymousIndex, found ",
                   tensor.DebugString(), "; pass the resource_handle of a nann.ops.IndexResource"));
}

absl::StatusOr<std::shared_ptr<const Index>> IndexOfInput(tensorflow::OpKernelContext* ctx, int input) {
  NANN_ASSIGN_OR_RETURN(const IndexResource* resource, ResourceOfInput(ctx, input));
  return resource->Get();
}

}  // namespace nann
