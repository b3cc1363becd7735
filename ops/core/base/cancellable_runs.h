// Runs of a session that the program which called it can end.
#ifndef NANN_OPS_CORE_BASE_CANCELLABLE_RUNS_H_
#define NANN_OPS_CORE_BASE_CANCELLABLE_RUNS_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "absl/types/span.h"

namespace nann {

// TensorFlow's C API ends a run at its deadline only, and a server's caller may give up before. So the server
// registers the buffers of a run's inputs for as long as it runs. An op that gets one of these buffers, as it
// is or reshaped, works for that run and looks at its flag.
//
// Thread-safe: the table is guarded by a mutex, and flags are atomic.
class CancellableRuns {
 public:
  // True from the moment at which nobody waits for the run any more.
  using Flag = std::shared_ptr<std::atomic<bool>>;
  struct Run {
    std::vector<const void*> buffers;
    Flag is_cancelled;
  };

  // Those of this process.
  static CancellableRuns& OfProcess();

  // Registers a run. Its buffers stay as they are until End, so that no other run has one of them.
  std::unique_ptr<Run> Begin(absl::Span<const void* const> buffers);
  void End(std::unique_ptr<Run> run);

  // The flag of the run that has this buffer; null if none has.
  Flag Find(const void* buffer) const;

  bool IsEmpty() const { return size_.load(std::memory_order_relaxed) == 0; }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<const void*, Flag> flags_;  // Guarded by mutex_.
  std::atomic<size_t> size_{0};                  // Of flags_. A program without such runs takes no lock.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_BASE_CANCELLABLE_RUNS_H_
