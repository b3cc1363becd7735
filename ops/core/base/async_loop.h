// A loop whose steps may finish now or later, on any thread, without ever growing the stack.
#ifndef NANN_OPS_CORE_BASE_ASYNC_LOOP_H_
#define NANN_OPS_CORE_BASE_ASYNC_LOOP_H_

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

namespace nann {

// `step(next)` either starts one asynchronous piece of work that calls `next` exactly once when it is over
// (perhaps before `step` returns) and returns true, or returns false: the loop is over. Steps never overlap.
// The loop keeps itself, and so `step`, alive while a piece of work is under way.
class AsyncLoop : public std::enable_shared_from_this<AsyncLoop> {
 public:
  using Step = std::function<bool(std::function<void()> next)>;

  static void Run(Step step) { std::shared_ptr<AsyncLoop>(new AsyncLoop(std::move(step)))->Go(); }

 private:
  enum State { kRunning, kFinished, kWaiting };

  explicit AsyncLoop(Step step) : step_(std::move(step)) {}

  void Go() {
    do {
      state_.store(kRunning);
      if (!step_([self = shared_from_this()] { self->Next(); })) return;
      // Work that finished inside step_ is followed by another turn here, not by a deeper call.
    } while (state_.exchange(kWaiting) == kFinished);
  }

  void Next() {
    if (state_.exchange(kFinished) == kWaiting) Go();
  }

  Step step_;
  std::atomic<State> state_{kRunning};
};

}  // namespace nann

#endif  // NANN_OPS_CORE_BASE_ASYNC_LOOP_H_
