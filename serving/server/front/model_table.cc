#include "serving/server/front/model_table.h"

namespace nann::front {

ModelTable::Lease::~Lease() {
  if (model_ != nullptr) table_->Release(id_);
}

int64_t ModelTable::Add(std::shared_ptr<const LoadedModel> model) {
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_[next_id_].model = std::move(model);
  return next_id_++;
}

void ModelTable::SetRoutes(std::map<RouteKey, int64_t> routes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  routes_ = std::move(routes);
}

bool ModelTable::Remove(int64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(id);
  found->second.is_removed = true;
  if (found->second.requests > 0) return false;
  entries_.erase(found);
  return true;
}

ModelTable::Lease ModelTable::Find(const PredictRequest& request) {
  const RouteKey key(request.model, request.choice, request.version, request.label);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto route = routes_.find(key);
  const auto entry = route == routes_.end() ? entries_.end() : entries_.find(route->second);
  if (entry == entries_.end()) return {this, -1, nullptr};
  ++entry->second.requests;
  return {this, entry->first, entry->second.model};
}

void ModelTable::Release(int64_t id) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto entry = entries_.find(id);
    if (--entry->second.requests > 0 || !entry->second.is_removed) return;
    entries_.erase(entry);
  }
  on_unused_(id);
}

}  // namespace nann::front
