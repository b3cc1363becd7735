// The index resource: mapped and validated files that all the ops of one model share.
#ifndef NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_
#define NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_

#include <map>
#include <memory>
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
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

struct TableFile {
  std::string name;
  std::string path;
  tensorflow::DataType type;  // float, half, bfloat16 or int64.
};

struct IndexFiles {
  std::string item_ids;
  std::string id_order;  // Empty: worked out at load, 4 bytes of memory an item.
  std::string enter_points;
  std::vector<std::string> neighbors;   // Level 0 first.
  std::vector<std::string> row_splits;  // Level 0 first.
  std::vector<int32_t> hops_per_level;  // Level 0 first.
  std::vector<TableFile> item_tables;   // N rows each.
  std::vector<TableFile> user_tables;
};

// One loaded index. Immutable after Load, so thread-safe; the pool of searches guards itself.
class Index {
 public:
  // Maps and validates every file; with `prefault` every page is read once, so that the first request does
  // not wait for the disk. The status says path, expected, actual and what to do.
  static absl::StatusOr<std::shared_ptr<const Index>> Load(tensorflow::Env* env, const IndexFiles& files,
                                                           bool prefault);

  const Graph& graph() const { return graph_; }

  // NotFound names the tables there are; InvalidArgument says that the table is of the other kind.
  absl::StatusOr<const Table*> ItemTable(const std::string& name) const;   // One row an item.
  absl::StatusOr<const Table*> FloatTable(const std::string& name) const;  // Of users or items.
  absl::StatusOr<const Table*> Vocabulary(const std::string& name) const;  // int64, sorted.

  // A search over graph(), with its scratch memory. At most kIdleSearches are kept between requests: a
  // search holds N / 8 bytes for the visited set and a few bytes an item that it touched.
  ObjectPool<BeamSearch>::Loan BorrowSearch() const { return searches_->Borrow(); }

  static constexpr size_t kIdleSearches = 64;

 private:
  Index() = default;
  absl::StatusOr<const Table*> AnyTable(const std::string& name) const;
  absl::StatusOr<NpyArray> Map(tensorflow::Env* env, const std::string& path, bool prefault);
  absl::Status MapTables(tensorflow::Env* env, const std::vector<TableFile>& files, bool prefault,
                         std::map<std::string, Table>* tables);

  std::vector<MappedFile> files_;
  std::vector<int32_t> id_order_;  // Only when no file held it.
  Graph graph_;
  std::map<std::string, Table> item_tables_;
  std::map<std::string, Table> user_tables_;
  std::unique_ptr<ObjectPool<BeamSearch>> searches_;
};

// What a resource handle points at: empty until it is initialized. Thread-safe; `index_` is guarded by `mu_`.
// A search keeps the index it began with, also when the resource is initialized again meanwhile.
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

// The index behind input `input` of a kernel.
absl::StatusOr<std::shared_ptr<const Index>> IndexOfInput(tensorflow::OpKernelContext* ctx, int input);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_INDEX_RESOURCE_H_
