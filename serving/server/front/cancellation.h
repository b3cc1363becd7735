// A caller that gives up.
#ifndef NANN_SERVING_SERVER_FRONT_CANCELLATION_H_
#define NANN_SERVING_SERVER_FRONT_CANCELLATION_H_

#include <mutex>
#include <vector>

namespace nann::front {

// Functions of the op library (ops/core/base/cancellable_runs.cc), whose addresses Python hands over.
struct RunFunctions {
  void* (*begin)(const void* const* buffers, int count);
  void (*cancel)(void* run);
  void (*end)(void* run);
};

// Whether the caller of one request gave up. Ends the run of the request then. Thread-safe.
class Cancellation {
 public:
  explicit Cancellation(const RunFunctions& functions) : functions_(functions) {}
  Cancellation(const Cancellation&) = delete;

  void Cancel();
  bool IsCancelled() const;

  // The run with inputs in these buffers, which exist as long as this object. One at a time.
  class Run {
   public:
    Run(Cancellation* cancellation, const std::vector<const void*>& buffers);
    Run(const Run&) = delete;
    ~Run();

   private:
    Cancellation* cancellation_;
  };

 private:
  const RunFunctions functions_;
  mutable std::mutex mutex_;
  bool is_cancelled_ = false;  // Guarded by mutex_, as the next.
  void* run_ = nullptr;        // The run that is under way.
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_CANCELLATION_H_
