#include "segment_watcher.h"

#include <cstdlib>
#include <utility>

namespace nann {
namespace {

constexpr absl::Duration kDefaultInterval = absl::Milliseconds(100);

}  // namespace

SegmentWatcher::SegmentWatcher(tensorflow::Env* env, std::unique_ptr<LiveIndex> live, absl::Duration interval,
                               std::function<void(std::shared_ptr<const Index>)> on_change)
    : live_(std::move(live)), interval_(interval), on_change_(std::move(on_change)) {
  thread_.reset(env->StartThread({}, "nann_segments", [this] { Run(); }));
}

SegmentWatcher::~SegmentWatcher() {
  stop_.Notify();
  thread_.reset();
}

absl::Duration SegmentWatcher::Interval() {
  const char* const text = std::getenv("NANN_UPDATES_POLL_MS");
  if (text == nullptr) return kDefaultInterval;
  const long long milliseconds = std::strtoll(text, nullptr, 10);
  return milliseconds > 0 ? absl::Milliseconds(milliseconds) : absl::ZeroDuration();
}

void SegmentWatcher::Run() {
  const auto stopped = [this] { return stop_.HasBeenNotified(); };
  while (!stop_.WaitForNotificationWithTimeout(interval_)) {
    while (live_->Poll(stopped)) on_change_(live_->index());
  }
}

}  // namespace nann
