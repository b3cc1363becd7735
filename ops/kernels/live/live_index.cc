#include "live_index.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include "../../core/base/status_macros.h"
#include "../index/mapped_file.h"
#include "../metrics/metrics.h"
#include "absl/strings/str_cat.h"

namespace nann {
namespace {

// Not by LOG: `nann` raises TensorFlow's log level, and whoever runs a server should read this.
void Report(const absl::Status& status) {
  std::fprintf(stderr, "ERROR: nann: %s; the state before it is served on\n",
               std::string(status.message()).c_str());
}

}  // namespace

absl::StatusOr<std::unique_ptr<LiveIndex>> LiveIndex::Load(tensorflow::Env* env, const IndexFiles& files,
                                                           bool prefault) {
  std::unique_ptr<LiveIndex> live(new LiveIndex(env, files));
  const auto never = [] { return false; };
  NANN_ASSIGN_OR_RETURN(live->layers_, live->LoadLayers(prefault, never));
  live->Publish();
  while (live->Poll(never, std::numeric_limits<int>::max())) {
  }
  return live;
}

LiveIndex::~LiveIndex() { CountItems(0); }

absl::StatusOr<LiveIndex::Layers> LiveIndex::LoadLayers(bool prefault, const IsCancelled& cancelled) const {
  Layers layers;
  NANN_ASSIGN_OR_RETURN(layers.base, Index::Load(env_, files_, prefault, cancelled));
  NANN_ASSIGN_OR_RETURN(layers.overlay, layers.base->MakeOverlay());
  return layers;
}

bool LiveIndex::Poll(const IsCancelled& cancelled, int limit) {
  const std::optional<SegmentFolder::Listing> listing = folder_.ListIfChanged();
  const uint32_t last = layers_.overlay->segment();
  if (!listing.has_value()) {
    looks_without_last_ = 0;
    return false;
  }
  if (last > 0 && !std::binary_search(listing->numbers.begin(), listing->numbers.end(), last)) {
    if (!IsRolledBack(*listing) || !RollBack(listing->numbers, cancelled)) return false;
  } else {
    looks_without_last_ = 0;
    second_.reset();
    if (ApplyNewer(listing->numbers, limit, layers_.overlay.get(), cancelled) == 0) return false;
  }
  folder_.Forget();
  Publish();
  return true;
}

void LiveIndex::Publish() {
  index_ = layers_.base->WithState(layers_.overlay->state());
  CountItems(layers_.overlay->new_items());
}

bool LiveIndex::IsRolledBack(const SegmentFolder::Listing& listing) {
  folder_.Forget();
  const uint32_t last = layers_.overlay->segment();
  if (looks_without_last_ == 0) {
    Report(absl::NotFoundError(
        absl::StrCat(folder_.PathOf(last), ": expected the segment that was applied last, found none")));
  }
  // A folder without any file is that of a mount that is not there: a publisher leaves files of its own.
  const bool removed = listing.any_file && folder_.IsGone(last);
  looks_without_last_ = removed ? looks_without_last_ + 1 : 1;
  return looks_without_last_ > kLooksForRollback;
}

bool LiveIndex::RollBack(const std::vector<uint32_t>& numbers, const IsCancelled& cancelled) {
  const uint32_t of_second = second_.has_value() ? second_->overlay->segment() : 0;
  if (of_second > 0 && !std::binary_search(numbers.begin(), numbers.end(), of_second)) second_.reset();
  if (!second_.has_value()) {
    // The pages of the base are in memory: the first overlay serves from them.
    absl::StatusOr<Layers> loaded = LoadLayers(/*prefault=*/false, cancelled);
    if (!loaded.ok()) {
      if (!absl::IsCancelled(loaded.status())) Report(loaded.status());
      return false;
    }
    second_ = *std::move(loaded);
  }
  ApplyNewer(numbers, std::numeric_limits<int>::max(), second_->overlay.get(), cancelled);
  const auto next = std::upper_bound(numbers.begin(), numbers.end(), second_->overlay->segment());
  if (next != numbers.end() && *next < layers_.overlay->segment()) return false;
  layers_ = *std::exchange(second_, std::nullopt);
  looks_without_last_ = 0;
  return true;
}

int LiveIndex::ApplyNewer(const std::vector<uint32_t>& numbers, int limit, Overlay* overlay,
                          const IsCancelled& cancelled) {
  int count = 0;
  for (uint32_t number : numbers) {
    if (number <= overlay->segment()) continue;
    if (count == limit || cancelled() || !Apply(number, overlay)) break;
    ++count;
  }
  return count;
}

bool LiveIndex::Apply(uint32_t number, Overlay* overlay) {
  const uint32_t applied_to = overlay->segment();
  const FileIdentity identity = folder_.IdentityOf(number);
  const bool again = refused_.IsOf(applied_to, number, identity);
  if (again && refused_.by_content) return false;
  const std::string path = folder_.PathOf(number);
  // Not mapped: a page that another machine has taken away is a signal, which ends the process.
  const absl::StatusOr<MappedFile> file = MappedFile::Read(env_, path);
  const absl::Status applied = file.ok() ? overlay->Apply(path, file->bytes()) : file.status();
  if (applied.ok()) {
    CountAppliedSegment(static_cast<int64_t>(env_->NowMicros()) - overlay->published_micros());
    return true;
  }
  if (!file.ok()) folder_.Forget();  // It is read again soon.
  const std::string message(applied.message());
  if (!again || refused_.message != message) {
    CountRefusedSegment();
    Report(applied);
  }
  refused_ = {applied_to, number, identity, file.ok(), message};
  return false;
}

void LiveIndex::CountItems(int64_t items) {
  AddOverlayItems(items - items_counted_);
  items_counted_ = items;
}

}  // namespace nann
