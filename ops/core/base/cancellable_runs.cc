#include "cancellable_runs.h"

#include <utility>

namespace nann {

CancellableRuns& CancellableRuns::OfProcess() {
  static auto* const runs = new CancellableRuns();  // Never deleted: runs may outlive the end of main.
  return *runs;
}

std::unique_ptr<CancellableRuns::Run> CancellableRuns::Begin(absl::Span<const void* const> buffers) {
  auto run = std::make_unique<Run>();
  run->buffers.assign(buffers.begin(), buffers.end());
  run->is_cancelled = std::make_shared<std::atomic<bool>>(false);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const void* buffer : run->buffers) flags_[buffer] = run->is_cancelled;
  size_.store(flags_.size(), std::memory_order_relaxed);
  return run;
}

void CancellableRuns::End(std::unique_ptr<Run> run) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const void* buffer : run->buffers) flags_.erase(buffer);
  size_.store(flags_.size(), std::memory_order_relaxed);
}

CancellableRuns::Flag CancellableRuns::Find(const void* buffer) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = flags_.find(buffer);
  return found == flags_.end() ? nullptr : found->second;
}

}  // namespace nann

// What `nann serve` calls, which finds these functions in the op library by their names. The library for
// other servers shows none of our names.
#ifdef NANN_FOR_PYTHON
#define NANN_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define NANN_EXPORT extern "C"
#endif

using nann::CancellableRuns;

// Begins a run with inputs in `count` buffers, and returns it. nann_run_end takes it after the run ended.
NANN_EXPORT CancellableRuns::Run* nann_run_begin(const void* const* buffers, int count) {
  return CancellableRuns::OfProcess().Begin(absl::MakeConstSpan(buffers, count)).release();
}

// Ends the run's work at the next tile of items, from any thread.
NANN_EXPORT void nann_run_cancel(CancellableRuns::Run* run) { run->is_cancelled->store(true); }

NANN_EXPORT void nann_run_end(CancellableRuns::Run* run) {
  CancellableRuns::OfProcess().End(std::unique_ptr<CancellableRuns::Run>(run));
}
