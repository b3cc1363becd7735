#include "list_store.h"

#include <algorithm>
#include <new>
#include <utility>

#include "../base/status_macros.h"

namespace nann {

absl::StatusOr<std::unique_ptr<ListStore>> ListStore::Create(int32_t capacity) {
  NANN_ASSIGN_OR_RETURN(ExtendedArray newest,
                        ExtendedArray::Zeros(capacity * static_cast<int64_t>(sizeof(ListVersion*))));
  return std::unique_ptr<ListStore>(new ListStore(std::move(newest)));
}

ListVersion* ListStore::Allocate(int32_t size) {
  const size_t bytes = BytesFor(size);
  const auto reusable = free_.find(bytes);
  if (reusable != free_.end() && !reusable->second.empty()) {
    ListVersion* const list = reusable->second.back();
    reusable->second.pop_back();
    return list;
  }
  if (bytes > kChunkBytes) {
    large_.emplace_back(new char[bytes]);
    large_bytes_ += static_cast<int64_t>(bytes);
    return new (large_.back().get()) ListVersion;
  }
  if (chunk_used_ + bytes > kChunkBytes) {
    chunks_.emplace_back(new char[kChunkBytes]);
    chunk_used_ = 0;
  }
  char* const at = chunks_.back().get() + chunk_used_;
  chunk_used_ += bytes;
  return new (at) ListVersion;
}

void ListStore::Set(int32_t position, absl::Span<const int32_t> values, uint32_t epoch) {
  any_ = true;
  std::atomic<const ListVersion*>& newest = this->newest()[position];
  const ListVersion* const before = newest.load(std::memory_order_relaxed);
  ListVersion* const list = Allocate(static_cast<int32_t>(values.size()));
  list->epoch = epoch;
  list->size = static_cast<int32_t>(values.size());
  list->before = before;
  std::copy(values.begin(), values.end(), reinterpret_cast<int32_t*>(list + 1));
  newest.store(list, std::memory_order_release);
  if (before != nullptr) replaced_.push_back({epoch, const_cast<ListVersion*>(before)});
}

void ListStore::Recycle(uint32_t oldest) {
  while (!replaced_.empty() && replaced_.front().epoch <= oldest) {
    ListVersion* const list = replaced_.front().list;
    free_[BytesFor(list->size)].push_back(list);
    replaced_.pop_front();
  }
}

}  // namespace nann
