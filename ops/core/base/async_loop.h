// A loop of asynchronous steps that blocks no thread and does not grow the stack.
#ifndef NANN_OPS_CORE_BASE_ASYNC_LOOP_H_
#define NANN_OPS_CORE_BASE_ASYNC_LOOP_H_

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

namespace nann {

// Calls `step(next)` again and again until it returns false. A step that returns true has started one piece
// of asynchronous work, which calls `next` exactly once when it has ended: on any thread, perhaps before
// `step` returns. The next step runs on the thread that called `next`, or on the thread of the last step.
//
// Threads: steps never overlap, and each sees what the steps before it wrote. Ownership: `next` owns the
// loop, and the loop owns `step`; both go when the last `next` is destroyed.
class AsyncLoop : public std::enable_shared_from_this<AsyncLoop> {
 public:
  using Step = std::function<bool(std::function<void()> next)>;

  static void Run(Step step) { std::shared_ptr<AsyncLoop>(new AsyncLoop(std::move(step)))->Go(); }

 private:
  // Which of step_ and its work ends first decides who goes on: the thread in Go when the work has finished
  // by then, else the thread that calls Next.
  enum State { kRunning, kFinished, kWaiting };

  explicit AsyncLoop(Step step) : step_(std::move(step)) {}

  void Go() {
    do {
      state_.store(kRunning);
      if (!step_([self = shared_from_this()] { self->Next(); })) return;
      // Work that has finished already is followed by another turn of this loop, not by a deeper call.
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
