#include "live_index.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include "../../core/base/status_macros.h"
#include "../index/mapped_file.h"
#include "../metrics/metrics.h"

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
  std::unique_ptr<LiveIndex> live(new LiveIndex(env, files, prefault));
  NANN_RETURN_IF_ERROR(live->LoadBase());
  live->index_ = live->base_->WithState(live->overlay_->state());
  while (live->Poll(std::numeric_limits<int>::max())) {
  }
  return live;
}

LiveIndex::~LiveIndex() { CountItems(0); }

absl::Status LiveIndex::LoadBase() {
  NANN_ASSIGN_OR_RETURN(std::shared_ptr<const Index> base, Index::Load(env_, files_, prefault_));
  NANN_ASSIGN_OR_RETURN(overlay_, base->MakeOverlay());
  base_ = std::move(base);
  return absl::OkStatus();
}

bool LiveIndex::Poll(int limit) {
  const std::optional<std::vector<uint32_t>> numbers = folder_.ListIfChanged();
  if (!numbers.has_value()) return false;
  const uint32_t applied = overlay_->segment();
  const bool rolled_back = applied > 0 && !std::binary_search(numbers->begin(), numbers->end(), applied);
  if (rolled_back) {
    if (const absl::Status loaded = LoadBase(); !loaded.ok()) {
      Report(loaded);
      return false;
    }
  }
  int count = 0;
  for (uint32_t number : *numbers) {
    if (number <= overlay_->segment()) continue;
    if (!rolled_back && count == limit) break;
    if (!Apply(number)) break;
    ++count;
  }
  if (count == 0 && !rolled_back) return false;
  folder_.Forget();
  index_ = base_->WithState(overlay_->state());
  CountItems(overlay_->new_items());
  return true;
}

bool LiveIndex::Apply(uint32_t number) {
  const Refusal attempt = {overlay_->segment(), number, folder_.IdentityOf(number)};
  if (attempt == refused_) return false;
  const absl::Status applied = ApplyFile(folder_.PathOf(number));
  if (applied.ok()) {
    CountAppliedSegment(static_cast<int64_t>(env_->NowMicros()) - overlay_->published_micros());
    return true;
  }
  refused_ = attempt;
  CountRefusedSegment();
  Report(applied);
  return false;
}

absl::Status LiveIndex::ApplyFile(const std::string& path) {
  NANN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(env_, path));
  return overlay_->Apply(path, file.bytes());
}

void LiveIndex::CountItems(int64_t items) {
  AddOverlayItems(items - items_counted_);
  items_counted_ = items;
}

}  // namespace nann
