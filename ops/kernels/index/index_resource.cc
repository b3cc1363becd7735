#include "index_resource.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensorflow/core/framework/types.h"

namespace nann {
namespace {

constexpr uintptr_t kAlignment = 64;

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
  const auto found = tables.find(name);
  if (found != tables.end()) return &found->second;
  const auto key = [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first); };
  return absl::NotFoundError(absl::StrCat("expected one of the index's ", kind, "s (",
                                          absl::StrJoin(tables, ", ", key), "), found \"", name, "\""));
}

}  // namespace

absl::StatusOr<NpyArray> Index::Map(tensorflow::Env* env, const std::string& path, bool prefault) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(env, path);
  if (!file.ok()) return file.status();
  if (prefault) file->Prefault();
  absl::StatusOr<NpyArray> array = ParseNpy(path, file->bytes());
  if (!array.ok()) return array.status();
  if (reinterpret_cast<uintptr_t>(array->data) % kAlignment != 0) {
    MappedFile copy = MappedFile::AlignedCopy(absl::string_view(array->data, array->num_bytes()));
    array->data = copy.bytes().data();
    files_.push_back(std::move(copy));
  } else {
    files_.push_back(*std::move(file));
  }
  return array;
}

absl::Status Index::MapTables(tensorflow::Env* env, const std::vector<TableFile>& files, bool prefault,
                              std::map<std::string, Table>* tables) {
  for (const TableFile& file : files) {
    const absl::StatusOr<TableType> type = TypeOf(file);
    if (!type.ok()) return type.status();
    const absl::StatusOr<NpyArray> array = Map(env, file.path, prefault);
    if (!array.ok()) return array.status();
    absl::StatusOr<Table> table = Table::Create(*array, *type);
    if (!table.ok()) return table.status();
    if (tables == &item_tables_ && table->rows() != graph_.num_items()) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.path, ": expected ", graph_.num_items(), " rows, one an item of the index, found ",
          table->rows(), "; build the index and the table from the same embeddings"));
    }
    tables->emplace(file.name, *std::move(table));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Index>> Index::Load(tensorflow::Env* env, const IndexFiles& files,
                                                         bool prefault) {
  std::shared_ptr<Index> index(new Index());
  GraphArrays arrays;
  arrays.hops_per_level = files.hops_per_level;
  arrays.levels.resize(files.neighbors.size());
  std::vector<std::pair<std::string, NpyArray*>> parts = {{files.item_ids, &arrays.item_ids},
                                                          {files.enter_points, &arrays.enter_points}};
  for (size_t l = 0; l < files.neighbors.size(); ++l) {
    parts.emplace_back(files.neighbors[l], &arrays.levels[l].values);
    parts.emplace_back(files.row_splits[l], &arrays.levels[l].row_splits);
  }
  if (!files.id_order.empty()) parts.emplace_back(files.id_order, &arrays.id_order);
  for (auto& [path, array] : parts) {
    absl::StatusOr<NpyArray> mapped = index->Map(env, path, prefault);
    if (!mapped.ok()) return mapped.status();
    *array = *std::move(mapped);
  }
  if (files.id_order.empty()) {
    const absl::Status is_ids = CheckArray(arrays.item_ids, DType::kInt64, 1);
    if (!is_ids.ok()) return is_ids;
    index->id_order_ = SortedById(arrays.item_ids.Elements<int64_t>());
    arrays.id_order = {absl::StrCat(files.item_ids, " (sorted)"), DType::kInt32, arrays.item_ids.shape,
                       reinterpret_cast<const char*>(index->id_order_.data())};
  }
  absl::StatusOr<Graph> graph = Graph::Create(arrays);
  if (!graph.ok()) return graph.status();
  index->graph_ = *std::move(graph);
  absl::Status status = index->MapTables(env, files.item_tables, prefault, &index->item_tables_);
  if (status.ok()) status = index->MapTables(env, files.user_tables, prefault, &index->user_tables_);
  if (!status.ok()) return status;
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
  const absl::StatusOr<const Table*> table = AnyTable(name);
  if (!table.ok() || (*table)->type() != TableType::kInt64) return table;
  return absl::InvalidArgumentError(
      absl::StrCat("table ", name, ": expected a floating-point table, found an int64 vocabulary"));
}

absl::StatusOr<const Table*> Index::Vocabulary(const std::string& name) const {
  const absl::StatusOr<const Table*> table = AnyTable(name);
  if (!table.ok() || (*table)->type() == TableType::kInt64) return table;
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

absl::StatusOr<std::shared_ptr<const Index>> IndexOfInput(tensorflow::OpKernelContext* ctx, int input) {
  tensorflow::core::RefCountPtr<IndexResource> resource;
  const absl::Status found =
      tensorflow::LookupResource(ctx, tensorflow::HandleFromInput(ctx, input), &resource);
  if (!found.ok()) return found;
  return resource->Get();
}

}  // namespace nann
