// Mapped and checked files of an index, and its states as segments change it.
#ifndef NANN_OPS_KERNELS_INDEX_INDEX_H_
#define NANN_OPS_KERNELS_INDEX_INDEX_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../core/base/is_cancelled.h"
#include "../../core/base/object_pool.h"
#include "../../core/index/graph.h"
#include "../../core/index/table.h"
#include "../../core/live/overlay.h"
#include "../../core/walk/beam_search.h"
#include "../filter/mapped_attributes.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

struct TableFile {
  std::string name;
  std::string path;
  tensorflow::DataType type;  // float, half, bfloat16, int8 or int64.
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
  std::vector<AttributeFiles> attributes;  // N rows each.
  int64_t overlay_capacity = 0;            // New items that segments may add; 0: there is no overlay.
  std::string export_id;                   // Of the segments.
};

// What the states of an index share.
struct IndexData;

// One loaded index in one state of its overlay. It keeps the mapped files; graph and tables are views of
// them. Thread-safe: nothing changes after it is made, and the pool of searches guards itself.
class Index {
 public:
  // Maps and checks every file; the index is the base alone. With `prefault` every page is read once, so that
  // no request waits for the disk. An error names the path, what was expected, what was found, and the next
  // step. `cancelled` is asked before each file; Cancelled when it says so.
  static absl::StatusOr<std::shared_ptr<const Index>> Load(
      tensorflow::Env* env, const IndexFiles& files, bool prefault,
      const IsCancelled& cancelled = [] { return false; });

  // An empty overlay over this index. There may be one at most, since it writes behind the tables.
  absl::StatusOr<std::shared_ptr<Overlay>> MakeOverlay() const;

  // The index in a state of that overlay.
  std::shared_ptr<const Index> WithState(Overlay::State state) const;

  const Graph& graph() const { return state_.graph; }

  // The last segment of this state; 0: the base alone.
  uint32_t applied_segment() const { return state_.segment; }

  // The tables live as long as the index. NotFound lists the tables that the index has; InvalidArgument says
  // that the table is of the other kind.
  absl::StatusOr<const Table*> ItemTable(const std::string& name) const;   // One row per position.
  absl::StatusOr<const Table*> FloatTable(const std::string& name) const;  // Of users or items.
  absl::StatusOr<const Table*> Vocabulary(const std::string& name) const;  // int64, ascending.

  // The filters over the attributes of this state: deleted items pass none that has a bitmap. nullptr where
  // there are no attributes. Filters must not outlive the index.
  FilterCache* filters() const;

  // A search over graph() with its scratch memory: 1 bit per position, as many again where it makes proxy
  // walks, and a few bytes per item that it met. The index must outlive the loan.
  ObjectPool<BeamSearch>::Loan BorrowSearch() const;

  // Searches that are kept between requests: as many as threads of a large server. With 10M items they hold
  // at most 80 MB of visited sets, or 160 MB.
  static constexpr size_t kIdleSearches = 64;

 private:
  Index() = default;
  absl::StatusOr<const Table*> AnyTable(const std::string& name) const;

  std::shared_ptr<const IndexData> data_;  // The first member, so that it outlives the state.
  Overlay::State state_;
  std::map<std::string, Table> item_tables_;
  std::unique_ptr<FilterCache> filters_;  // Of this state; null where the filters of the base are right.
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_INDEX_H_
