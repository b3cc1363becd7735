// The index resource: mapped and checked files that all ops of one model share.
#ifndef NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_
#define NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../../core/base/object_pool.h"
#include "../../core/index/graph.h"
#include "../../core/index/table.h"
#include "../../core/walk/beam_search.h"
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "mapped_file.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

struct TableFile {
  std::string name;
  std::string path;
  tensorflow::DataType type;  // float, half, bfloat16 or int64.
};

struct IndexFiles {
  std::string item_ids;
  std::string id_order;  // Empty: the order is computed at load and takes 4 bytes of memory per item.
  std::string enter_points;
  std::vector<std::string> neighbors;   // Level 0 first.
  std::vector<std::string> row_splits;  // Level 0 first.
  std::vector<int32_t> hops_per_level;  // Level 0 first.
  std::vector<TableFile> item_tables;   // N rows each.
  std::vector<TableFile> user_tables;
};

// One loaded index. It owns the mapped files; graph and tables are views of them. Thread-safe: nothing
// changes after Load, and the pool of searches guards itself.
class Index {
 public:
  // Maps and checks every file. With `prefault` every page is read once, so that no request waits for the
  // disk. An error names the path, what was expected, what was found, and the next step.
  static absl::StatusOr<std::shared_ptr<const Index>> Load(tensorflow::Env* env, const IndexFiles& files,
                                                           bool prefault);

  const Graph& graph() const { return graph_; }

  // The tables live as long as the index. NotFound lists the tables that the index has; InvalidArgument says
  // that the table is of the other kind.
  absl::StatusOr<const Table*> ItemTable(const std::string& name) const;   // One row per item.
  absl::StatusOr<const Table*> FloatTable(const std::string& name) const;  // Of users or items.
  absl::StatusOr<const Table*> Vocabulary(const std::string& name) const;  // int64, ascending.

  // A search over graph() with its scratch memory: N / 8 bytes of visited set, as many again where it makes
  // proxy walks, and a few bytes per item that it met. The index must outlive the loan.
  ObjectPool<BeamSearch>::Loan BorrowSearch() const { return searches_->Borrow(); }

  // Searches that are kept between requests: as many as threads of a large server. With 10M items they hold
  // at most 80 MB of visited sets, or 160 MB.
  static constexpr size_t kIdleSearches = 64;

 private:
  Index() = default;
  absl::StatusOr<const Table*> AnyTable(const std::string& name) const;
  absl::StatusOr<NpyArray> Map(tensorflow::Env* env, const std::string& path, bool prefault);
  absl::Status MapGraph(tensorflow::Env* env, const IndexFiles& files, bool prefault);
  // Every table must have `rows` rows, when given.
  absl::Status MapTables(tensorflow::Env* env, const std::vector<TableFile>& files, bool prefault,
                         std::optional<int64_t> rows, std::map<std::string, Table>* tables);

  std::vector<MappedFile> files_;
  std::vector<int32_t> id_order_;  // Empty when a file holds the order.
  Graph graph_;
  std::map<std::string, Table> item_tables_;
  std::map<std::string, Table> user_tables_;
  std::unique_ptr<ObjectPool<BeamSearch>> searches_;
};

// What a handle owns: empty until `Nann>IndexInitialize` has run. Reference-counted by its handles; the files
// are unmapped when the last handle and the last search are gone. Thread-safe: `index_` is guarded by `mu_`.
// A search keeps the index that it began with, also when the resource is initialized again meanwhile.
class IndexResource : public tensorflow::ResourceBase {
 public:
  std::string DebugString() const override;
  void Set(std::shared_ptr<const Index> index);
  // FailedPrecondition when nothing was loaded yet.
  absl::StatusOr<std::shared_ptr<const Index>> Get() const;

 private:
  mutable absl::Mutex mu_;
  std::shared_ptr<const Index> index_ ABSL_GUARDED_BY(mu_);
};

// The resource behind input `input` of a kernel; the input tensor keeps it alive. InvalidArgument when the
// input is not the handle of an index.
absl::StatusOr<IndexResource*> ResourceOfInput(tensorflow::OpKernelContext* ctx, int input);

// The index behind input `input` of a kernel, as it is now.
absl::StatusOr<std::shared_ptr<const Index>> IndexOfInput(tensorflow::OpKernelContext* ctx, int input);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_
