#include "index_resource.h"

#include <cstring>
#include <utility>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensorflow/core/framework/types.h"

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
    case tensorflow::DT_INT64:
      return TableType::kInt64;
    default:
      return absl::InvalidArgumentError(absl::StrCat("table ", file.name,
                                                     ": expected type float, half, bfloat16 or int64, found ",
                                                     tensorflow::DataTypeString(file.type)));
  }
}

absl::StatusOr<const Table*> Find(const std::map<std::string, Table>& tables, const std::string& name,
                                  const char* kind) {
  const auto entry = tables.find(name);
  if (entry != tables.end()) return &entry->second;
  const auto key = [](std::string* out, const auto& table) { absl::StrAppend(out, table.first); };
  return absl::NotFoundError(absl::StrCat("expected one of the index's ", kind, "s (",
                                          absl::StrJoin(tables, ", ", key), "), found \"", name, "\""));
}

}  // namespace

absl::StatusOr<NpyArray> Index::Map(tensorflow::Env* env, const std::string& path, bool prefault) {
  return MapArray(env, path, prefault, &files_);
}

absl::Status Index::MapGraph(tensorflow::Env* env, const IndexFiles& files, bool prefault) {
  GraphArrays arrays;
  arrays.hops_per_level = files.hops_per_level;
  arrays.levels.resize(files.neighbors.size());
  NANN_ASSIGN_OR_RETURN(arrays.item_ids, Map(env, files.item_ids, prefault));
  NANN_ASSIGN_OR_RETURN(arrays.enter_points, Map(env, files.enter_points, prefault));
  for (size_t l = 0; l < files.neighbors.size(); ++l) {
    NANN_ASSIGN_OR_RETURN(arrays.levels[l].values, Map(env, files.neighbors[l], prefault));
    NANN_ASSIGN_OR_RETURN(arrays.levels[l].row_splits, Map(env, files.row_splits[l], prefault));
  }
  if (!files.id_order.empty()) {
    NANN_ASSIGN_OR_RETURN(arrays.id_order, Map(env, files.id_order, prefault));
  } else {
    NANN_RETURN_IF_ERROR(CheckArray(arrays.item_ids, DType::kInt64, 1));
    id_order_ = SortedById(arrays.item_ids.Elements<int64_t>());
    arrays.id_order = {absl::StrCat(files.item_ids, " (sorted)"), DType::kInt32, arrays.item_ids.shape,
                       reinterpret_cast<const char*>(id_order_.data())};
  }
  NANN_ASSIGN_OR_RETURN(graph_, Graph::Create(arrays));
  return absl::OkStatus();
}

absl::Status Index::MapTables(tensorflow::Env* env, const std::vector<TableFile>& files, bool prefault,
                              std::optional<int64_t> rows, std::map<std::string, Table>* tables) {
  for (const TableFile& file : files) {
    NANN_ASSIGN_OR_RETURN(const TableType type, TypeOf(file));
    NANN_ASSIGN_OR_RETURN(const NpyArray array, Map(env, file.path, prefault));
    NANN_ASSIGN_OR_RETURN(const Table table, Table::Create(array, type));
    if (rows.has_value() && table.rows() != *rows) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path, ": expected ", *rows, " rows, one per item of the index, found ",
                       table.rows(), "; build the index and the table from the same embeddings"));
    }
    if (!tables->emplace(file.name, table).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected each table name once, found \"", file.name, "\" twice"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Index>> Index::Load(tensorflow::Env* env, const IndexFiles& files,
                                                         bool prefault) {
  std::shared_ptr<Index> index(new Index());
  NANN_RETURN_IF_ERROR(index->MapGraph(env, files, prefault));
  const int64_t num_items = index->graph_.num_items();
  NANN_RETURN_IF_ERROR(index->MapTables(env, files.item_tables, prefault, num_items, &index->item_tables_));
  NANN_RETURN_IF_ERROR(
      index->MapTables(env, files.user_tables, prefault, std::nullopt, &index->user_tables_));
  index->searches_ = std::make_unique<ObjectPool<BeamSearch>>(
      kIdleSearches, [graph = &index->graph_] { return std::make_unique<BeamSearch>(graph); });
  return index;
}

absl::StatusOr<const Table*> Index::ItemTable(const std::string& name) const {
  return Find(item_tables_, name, "item table");
}

absl::StatusOr<const Table*> Index::AnyTable(const std::string& name) const {
  const auto user = user_tables_.find(name);
  if (user != user_tables_.end()) return &user->second;
  const auto item = item_tables_.find(name);
  if (item != item_tables_.end()) return &item->second;
  return Find(user_tables_, name, "user table");
}

absl::StatusOr<const Table*> Index::FloatTable(const std::string& name) const {
  NANN_ASSIGN_OR_RETURN(const Table* table, AnyTable(name));
  if (table->type() != TableType::kInt64) return table;
  return absl::InvalidArgumentError(
      absl::StrCat("table ", name, ": expected a floating-point table, found an int64 vocabulary"));
}

absl::StatusOr<const Table*> Index::Vocabulary(const std::string& name) const {
  NANN_ASSIGN_OR_RETURN(const Table* table, AnyTable(name));
  if (table->type() == TableType::kInt64) return table;
  return absl::InvalidArgumentError(
      absl::StrCat("table ", name, ": expected an int64 vocabulary, found a floating-point table"));
}

std::string IndexResource::DebugString() const {
  const absl::StatusOr<std::shared_ptr<const Index>> index = Get();
  if (!index.ok()) return "nann::IndexResource(not initialized)";
  return absl::StrCat("nann::IndexResource(", (*index)->graph().num_items(), " items)");
}

void IndexResource::Set(std::shared_ptr<const Index> index) {
  absl::MutexLock lock(&mu_);
  index_.swap(index);
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
