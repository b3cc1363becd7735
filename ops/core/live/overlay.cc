#include "overlay.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "../base/status_macros.h"
#include "absl/strings/str_cat.h"

namespace nann {

absl::StatusOr<std::shared_ptr<Overlay>> Overlay::Create(SegmentSchema schema, const OverlayArrays& arrays) {
  std::shared_ptr<Overlay> overlay(new Overlay(std::move(schema), arrays));
  NANN_RETURN_IF_ERROR(overlay->Reserve());
  return overlay;
}

absl::Status Overlay::Reserve() {
  const int64_t room = schema_.capacity - base_items_;
  int64_t slots = 1;
  while (slots < 2 * room) slots *= 2;  // At most half full: lookups take one or two steps.
  slot_mask_ = slots - 1;
  NANN_ASSIGN_OR_RETURN(slots_, ExtendedArray::Zeros(slots * static_cast<int64_t>(sizeof(int32_t))));
  NANN_ASSIGN_OR_RETURN(before_, ExtendedArray::Zeros(room * static_cast<int64_t>(sizeof(int32_t))));
  NANN_ASSIGN_OR_RETURN(deletions_,
                        ExtendedArray::Zeros(schema_.capacity * static_cast<int64_t>(sizeof(uint32_t))));
  for (int32_t level = 0; level < schema_.num_levels; ++level) {
    NANN_ASSIGN_OR_RETURN(std::unique_ptr<ListStore> lists, ListStore::Create(schema_.capacity));
    lists_.push_back(std::move(lists));
  }
  return absl::OkStatus();
}

absl::Status Overlay::Apply(const std::string& path, absl::string_view bytes) {
  NANN_ASSIGN_OR_RETURN(const Segment segment, Segment::Parse(path, bytes, schema_));
  NANN_RETURN_IF_ERROR(CheckFollows(segment));
  NANN_RETURN_IF_ERROR(CheckItems(segment));
  const uint32_t oldest = OldestHeld();
  for (const std::unique_ptr<ListStore>& lists : lists_) lists->Recycle(oldest);
  WriteItems(segment);
  WriteLists(segment);
  attributes_.Append(segment.attributes, static_cast<int64_t>(segment.ids.size()));
  num_items_ = segment.positions_after();
  segment_ = segment.number;
  published_micros_ = segment.published_micros;
  return absl::OkStatus();
}

absl::Status Overlay::CheckFollows(const Segment& segment) const {
  if (segment.number <= segment_ || segment.follows != segment_) {
    return absl::FailedPreconditionError(
        absl::StrCat(segment.path, ": expected a segment that follows segment ", segment_, ", found number ",
                     segment.number, ", which follows ", segment.follows,
                     "; copy the segments between them, or publish them again"));
  }
  if (segment.positions_before != num_items_) {
    return absl::FailedPreconditionError(
        absl::StrCat(segment.path, ": expected a segment that begins at position ", num_items_, ", found ",
                     segment.positions_before, "; publish the segments of this folder again"));
  }
  return absl::OkStatus();
}

absl::Status Overlay::CheckItems(const Segment& segment) const {
  const auto damaged = [&](const auto&... parts) {
    return absl::InvalidArgumentError(
        absl::StrCat(segment.path, ": ", parts..., "; publish the segment again"));
  };
  const Graph graph = CurrentGraph();
  for (int32_t position : segment.deleted) {
    if (graph.deletions().any() && graph.deletions().Contains(position)) {
      return damaged("deleted: expected positions of live items, found ", position, ", which is deleted");
    }
  }
  std::vector<int64_t> ids(segment.ids.begin(), segment.ids.end());
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice != ids.end()) return damaged("ids: expected each id once, found ", *twice, " twice");
  for (int64_t id : ids) {
    if (id == -1) return damaged("ids: expected ids other than -1, which means no item, found -1");
    const int32_t former = graph.PositionOf(id);
    if (former >= 0 && !std::binary_search(segment.deleted.begin(), segment.deleted.end(), former)) {
      return damaged("ids: expected the former position of item ", id, ", ", former,
                     ", among the deleted, found it live");
    }
  }
  return absl::OkStatus();
}

void Overlay::WriteItems(const Segment& segment) {
  const size_t count = segment.ids.size();
  if (count > 0) {
    std::memcpy(arrays_.item_ids + num_items_, segment.ids.data(), count * sizeof(int64_t));
  }
  for (size_t t = 0; t < schema_.tables.size(); ++t) {
    const int64_t row_bytes = schema_.tables[t].width * DTypeSize(schema_.tables[t].dtype);
    const int64_t bytes = static_cast<int64_t>(count) * row_bytes;
    if (bytes > 0) std::memcpy(arrays_.tables[t] + num_items_ * row_bytes, segment.tables[t], bytes);
  }
  const NewItems items = NewItemsView();
  auto* const before = reinterpret_cast<int32_t*>(before_.data());
  for (size_t i = 0; i < count; ++i) {
    const int32_t position = num_items_ + static_cast<int32_t>(i);
    std::atomic<int32_t>& slot = slots()[items.SlotOf(segment.ids[i])];
    before[position - base_items_] = slot.load(std::memory_order_relaxed);
    slot.store(position + 1, std::memory_order_release);
  }
  for (int32_t position : segment.deleted) {
    deletions()[position].store(segment.number, std::memory_order_relaxed);
  }
  num_deleted_ += static_cast<int32_t>(segment.deleted.size());
}

void Overlay::WriteLists(const Segment& segment) {
  for (size_t level = 0; level < lists_.size(); ++level) {
    const Segment::Lists& lists = segment.levels[level];
    for (size_t i = 0; i < lists.positions.size(); ++i) {
      lists_[level]->Set(lists.positions[i], lists.List(i), segment.number);
    }
  }
}

NewItems Overlay::NewItemsView() const {
  return {slots(), reinterpret_cast<const int32_t*>(before_.data()), arrays_.item_ids, slot_mask_,
          base_items_};
}

Graph Overlay::CurrentGraph() const {
  GraphChanges changes;
  changes.item_ids = absl::MakeConstSpan(arrays_.item_ids, num_items_);
  if (new_items() > 0) changes.new_items = NewItemsView();
  if (num_deleted_ > 0) changes.deletions = {deletions(), segment_, num_deleted_};
  for (const std::unique_ptr<ListStore>& lists : lists_) {
    changes.levels.push_back(lists->View(segment_, new_items() > 0));
  }
  return arrays_.base->With(changes);
}

Overlay::State Overlay::state() {
  State state;
  state.graph = CurrentGraph();
  state.segment = segment_;
  state.attributes = attributes_.chunks();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    held_.insert(segment_);
  }
  state.hold = std::shared_ptr<const void>(
      nullptr, [self = shared_from_this(), epoch = segment_](const void*) { self->Release(epoch); });
  return state;
}

void Overlay::Release(uint32_t epoch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  held_.erase(held_.find(epoch));
}

uint32_t Overlay::OldestHeld() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return held_.empty() ? segment_ : *held_.begin();
}

int64_t Overlay::list_bytes() const {
  int64_t bytes = 0;
  for (const std::unique_ptr<ListStore>& lists : lists_) bytes += lists->bytes();
  return bytes;
}

}  // namespace nann
