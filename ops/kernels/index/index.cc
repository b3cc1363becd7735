#include "index.h"

#include <utility>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "index_loader.h"

namespace nann {
namespace {

absl::StatusOr<const Table*> Find(const std::map<std::string, Table>& tables, const std::string& name,
                                  const char* kind) {
  const auto entry = tables.find(name);
  if (entry != tables.end()) return &entry->second;
  const auto key = [](std::string* out, const auto& table) { absl::StrAppend(out, table.first); };
  return absl::NotFoundError(absl::StrCat("expected one of the index's ", kind, "s (",
                                          absl::StrJoin(tables, ", ", key), "), found \"", name, "\""));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Index>> Index::Load(tensorflow::Env* env, const IndexFiles& files,
                                                         bool prefault, const IsCancelled& cancelled) {
  std::shared_ptr<Index> index(new Index());
  NANN_ASSIGN_OR_RETURN(index->data_, LoadIndexData(env, files, prefault, cancelled));
  index->state_.graph = index->data_->base;
  index->item_tables_ = index->data_->item_tables;
  return index;
}

absl::StatusOr<std::shared_ptr<Overlay>> Index::MakeOverlay() const {
  return Overlay::Create(data_->schema, data_->arrays);
}

std::shared_ptr<const Index> Index::WithState(Overlay::State state) const {
  std::shared_ptr<Index> index(new Index());
  index->data_ = data_;
  index->state_ = std::move(state);
  const Overlay::State& of = index->state_;
  if (data_->attributes != nullptr && (!of.attributes.empty() || of.graph.deletions().any())) {
    index->filters_ = MakeStateFilters(&data_->attributes->filters(), of.attributes, of.graph);
  }
  for (const auto& [name, table] : data_->item_tables) {
    index->item_tables_.emplace(name, table.WithRows(index->graph().num_items()));
  }
  return index;
}

FilterCache* Index::filters() const {
  if (filters_ != nullptr) return filters_.get();
  return data_->attributes == nullptr ? nullptr : &data_->attributes->filters();
}

ObjectPool<BeamSearch>::Loan Index::BorrowSearch() const {
  ObjectPool<BeamSearch>::Loan search = data_->searches->Borrow();
  search->SetGraph(&graph());
  return search;
}

absl::StatusOr<const Table*> Index::ItemTable(const std::string& name) const {
  return Find(item_tables_, name, "item table");
}

absl::StatusOr<const Table*> Index::AnyTable(const std::string& name) const {
  const auto user = data_->user_tables.find(name);
  if (user != data_->user_tables.end()) return &user->second;
  const auto item = item_tables_.find(name);
  if (item != item_tables_.end()) return &item->second;
  return Find(data_->user_tables, name, "user table");
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

}  // namespace nann
