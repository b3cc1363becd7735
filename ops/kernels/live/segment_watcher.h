// The thread that follows the segments of a loaded export.
#ifndef NANN_OPS_KERNELS_LIVE_SEGMENT_WATCHER_H_
#define NANN_OPS_KERNELS_LIVE_SEGMENT_WATCHER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "live_index.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

// Looks for segments from its construction to its destruction, which waits for the thread: not longer than
// for one segment, or one file of the base that is loaded anew. Thread-safe.
class SegmentWatcher {
 public:
  // `on_change` is called by the thread, with each new index.
  SegmentWatcher(tensorflow::Env* env, std::unique_ptr<LiveIndex> live, absl::Duration interval,
                 std::function<void(std::shared_ptr<const Index>)> on_change);
  ~SegmentWatcher();

  // From one look to the next: NANN_UPDATES_POLL_MS, 100 ms where it is not set, and zero, which means that
  // no segment is applied, where it is not a positive number.
  static absl::Duration Interval();

 private:
  void Run();

  const std::unique_ptr<LiveIndex> live_;
  const absl::Duration interval_;
  const std::function<void(std::shared_ptr<const Index>)> on_change_;
  absl::Notification stop_;
  std::unique_ptr<tensorflow::Thread> thread_;  // Its destructor joins. The last member: it uses the others.
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_LIVE_SEGMENT_WATCHER_H_
