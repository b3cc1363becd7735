// The index resource: what all ops of one model share.
#ifndef NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_
#define NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_

#include <memory>
#include <string>

#include "../live/segment_watcher.h"
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "index.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"

namespace nann {

// What a handle owns: empty until `Nann>IndexInitialize` has run. Reference-counted by its handles; the files
// are unmapped when the last handle and the last search are gone. Thread-safe: members are guarded by
// mutexes. A search keeps the index that it began with, also when the resource is initialized again
// meanwhile, or gets a segment.
class IndexResource : public tensorflow::ResourceBase {
 public:
  std::string DebugString() const override;
  void Set(std::shared_ptr<const Index> index);
  // Keeps a watcher, which calls Set, until another one takes its place or the resource is destroyed. Null:
  // none.
  void Watch(std::unique_ptr<SegmentWatcher> watcher);
  // FailedPrecondition when nothing was loaded yet.
  absl::StatusOr<std::shared_ptr<const Index>> Get() const;

 private:
  mutable absl::Mutex mu_;
  std::shared_ptr<const Index> index_ ABSL_GUARDED_BY(mu_);
  // Not by mu_: a watcher that ends waits for its last call of Set.
  absl::Mutex watcher_mu_;
  std::unique_ptr<SegmentWatcher> watcher_ ABSL_GUARDED_BY(watcher_mu_);  // The last member: it ends first.
};

// The resource behind input `input` of a kernel; the input tensor keeps it alive. InvalidArgument when the
// input is not the handle of an index.
absl::StatusOr<IndexResource*> ResourceOfInput(tensorflow::OpKernelContext* ctx, int input);

// The index behind input `input` of a kernel, as it is now.
absl::StatusOr<std::shared_ptr<const Index>> IndexOfInput(tensorflow::OpKernelContext* ctx, int input);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_
