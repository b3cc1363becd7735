#include "index_loader.h"

#include <limits>
#include <optional>
#include <utility>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace nann {
namespace {

absl::StatusOr<TableType> TypeOf(const TableFile& file) {
  switch (file.type) {
    case tensorflow::DT_FLOAT:
      return TableType::kFloat32;
    case tensorflow::DT_HALF:
      return TableType::kFloat16;
    case tensorflow::DT_BFLOAT16:
      return TableType::kBfloat16;
    case tensorflow::DT_INT8:
      return TableType::kInt8;
    case tensorflow::DT_INT64:
      return TableType::kInt64;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("table ", file.name, ": expected type float, half, bfloat16, int8 or int64, found ",
                       tensorflow::DataTypeString(file.type)));
  }
}

// Fills an IndexData. Each step relies on those before it.
class Loader {
 public:
  Loader(tensorflow::Env* env, const IndexFiles& files, bool prefault, const IsCancelled& cancelled,
         IndexData* data)
      : env_(env), files_(files), prefault_(prefault), cancelled_(cancelled), data_(data) {}

  absl::Status Load() {
    NANN_RETURN_IF_ERROR(MapGraph());
    const int64_t num_items = data_->base.num_items();
    if (num_items + files_.overlay_capacity >= std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected fewer than 2^31 - 1 positions in base and overlay, found ", num_items,
                       " and ", files_.overlay_capacity));
    }
    for (const TableFile& file : files_.item_tables) NANN_RETURN_IF_ERROR(MapItemTable(file));
    for (const TableFile& file : files_.user_tables) {
      NANN_ASSIGN_OR_RETURN(const NpyArray array, Map(file.path));
      NANN_RETURN_IF_ERROR(AddTable(file, array, &data_->user_tables));
    }
    if (!files_.attributes.empty()) {
      NANN_ASSIGN_OR_RETURN(data_->attributes,
                            MappedAttributes::Open(env_, files_.attributes, num_items, prefault_));
    }
    for (const AttributeFiles& attribute : files_.attributes) {
      NANN_ASSIGN_OR_RETURN(const AttributeType type, AttributeType::Parse(attribute.type));
      data_->schema.attributes.push_back({attribute.name, type});
    }
    data_->schema.export_id = files_.export_id;
    data_->schema.num_levels = data_->base.num_levels();
    data_->schema.capacity = static_cast<int32_t>(num_items + files_.overlay_capacity);
    data_->arrays.base = &data_->base;
    data_->searches = std::make_unique<ObjectPool<BeamSearch>>(
        Index::kIdleSearches,
        [capacity = data_->schema.capacity] { return std::make_unique<BeamSearch>(capacity); });
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<NpyArray> Map(const std::string& path) {
    if (cancelled_()) return absl::CancelledError("the load was cancelled");
    return MapArray(env_, path, prefault_, &data_->files);
  }

  // As Map, with room behind the array for a row of each new item, where there is an overlay.
  absl::StatusOr<NpyArray> MapWithRoom(const std::string& path) {
    if (files_.overlay_capacity == 0) return Map(path);
    if (cancelled_()) return absl::CancelledError("the load was cancelled");
    NANN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(env_, path));
    if (prefault_) file.Prefault();
    NANN_ASSIGN_OR_RETURN(NpyArray array, ParseNpy(path, file.bytes()));
    if (array.shape.empty() || array.shape[0] == 0) return array;  // Refused by the checks to come.
    const int64_t room = array.num_bytes() / array.shape[0] * files_.overlay_capacity;
    const int64_t header = array.data - file.bytes().data();
    absl::StatusOr<ExtendedArray> extended = absl::NotFoundError("the array is not aligned");
    if (header % kDataAlignment == 0) {
      const std::string local(absl::StripPrefix(path, "file://"));
      extended = ExtendedArray::Map(local, static_cast<int64_t>(file.bytes().size()), room);
      if (extended.ok()) array.data = extended->data() + header;
    }
    if (absl::IsNotFound(extended.status())) {  // A file of an object store, too.
      extended = ExtendedArray::Copy(absl::string_view(array.data, array.num_bytes()), room);
      if (extended.ok()) array.data = extended->data();
    }
    NANN_RETURN_IF_ERROR(extended.status());
    data_->extended.push_back(*std::move(extended));
    return array;
  }

  absl::Status MapGraph() {
    GraphArrays arrays;
    arrays.hops_per_level = files_.hops_per_level;
    arrays.levels.resize(files_.neighbors.size());
    NANN_ASSIGN_OR_RETURN(arrays.item_ids, MapWithRoom(files_.item_ids));
    NANN_ASSIGN_OR_RETURN(arrays.enter_points, Map(files_.enter_points));
    for (size_t l = 0; l < files_.neighbors.size(); ++l) {
      NANN_ASSIGN_OR_RETURN(arrays.levels[l].values, Map(files_.neighbors[l]));
      NANN_ASSIGN_OR_RETURN(arrays.levels[l].row_splits, Map(files_.row_splits[l]));
    }
    if (!files_.id_order.empty()) {
      NANN_ASSIGN_OR_RETURN(arrays.id_order, Map(files_.id_order));
    } else {
      NANN_RETURN_IF_ERROR(CheckArray(arrays.item_ids, DType::kInt64, 1));
      data_->id_order = SortedById(arrays.item_ids.Elements<int64_t>());
      arrays.id_order = {absl::StrCat(files_.item_ids, " (sorted)"), DType::kInt32, arrays.item_ids.shape,
                         reinterpret_cast<const char*>(data_->id_order.data())};
    }
    NANN_ASSIGN_OR_RETURN(data_->base, Graph::Create(arrays));
    data_->arrays.item_ids = reinterpret_cast<int64_t*>(const_cast<char*>(arrays.item_ids.data));
    return absl::OkStatus();
  }

  absl::Status MapItemTable(const TableFile& file) {
    NANN_ASSIGN_OR_RETURN(const NpyArray array, MapWithRoom(file.path));
    NANN_RETURN_IF_ERROR(AddTable(file, array, &data_->item_tables));
    const Table& table = data_->item_tables.at(file.name);
    const int64_t rows = data_->base.num_items();
    if (table.rows() != rows) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path, ": expected ", rows, " rows, one per item of the index, found ",
                       table.rows(), "; build the index and the table from the same embeddings"));
    }
    data_->schema.tables.push_back({file.name, array.dtype, array.shape[1]});
    data_->arrays.tables.push_back(const_cast<char*>(array.data));
    return absl::OkStatus();
  }

  static absl::Status AddTable(const TableFile& file, const NpyArray& array,
                               std::map<std::string, Table>* tables) {
    NANN_ASSIGN_OR_RETURN(const TableType type, TypeOf(file));
    NANN_ASSIGN_OR_RETURN(const Table table, Table::Create(array, type));
    if (tables->emplace(file.name, table).second) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("expected each table name once, found \"", file.name, "\" twice"));
  }

  tensorflow::Env* const env_;
  const IndexFiles& files_;
  const bool prefault_;
  const IsCancelled& cancelled_;
  IndexData* const data_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const IndexData>> LoadIndexData(tensorflow::Env* env, const IndexFiles& files,
                                                               bool prefault, const IsCancelled& cancelled) {
  auto data = std::make_shared<IndexData>();
  NANN_RETURN_IF_ERROR(Loader(env, files, prefault, cancelled, data.get()).Load());
  return data;
}

}  // namespace nann
