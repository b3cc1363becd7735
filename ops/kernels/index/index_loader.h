// Maps and checks the files of an index.
#ifndef NANN_OPS_KERNELS_INDEX_INDEX_LOADER_H_
#define NANN_OPS_KERNELS_INDEX_INDEX_LOADER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../core/base/object_pool.h"
#include "../../core/live/extended_array.h"
#include "index.h"
#include "mapped_file.h"

namespace nann {

// What the states of an index share. Nothing changes once it is loaded, but for `searches`, which guards
// itself, and the room behind the arrays, which an overlay writes.
struct IndexData {
  Graph base;
  std::map<std::string, Table> item_tables;
  std::map<std::string, Table> user_tables;
  std::unique_ptr<MappedAttributes> attributes;  // Null: there are none.
  SegmentSchema schema;  // Of segments; it has no room for new items where there is no overlay.
  OverlayArrays arrays;  // Where an overlay writes.
  std::unique_ptr<ObjectPool<BeamSearch>> searches;

  // The memory of all these.
  std::vector<MappedFile> files;
  std::vector<ExtendedArray> extended;
  std::vector<int32_t> id_order;  // Empty where a file holds the order.
};

// As Index::Load.
absl::StatusOr<std::shared_ptr<const IndexData>> LoadIndexData(tensorflow::Env* env, const IndexFiles& files,
                                                               bool prefault, const IsCancelled& cancelled);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_INDEX_LOADER_H_
