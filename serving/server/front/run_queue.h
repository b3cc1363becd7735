// Limits how many requests run at once.
#ifndef NANN_SERVING_SERVER_FRONT_RUN_QUEUE_H_
#define NANN_SERVING_SERVER_FRONT_RUN_QUEUE_H_

#include <cstddef>
#include <deque>
#include <mutex>

namespace nann::front {

// `max_running` requests run at once, and `max_waiting` more wait, first come, first served. A thread that
// has a turn runs its request and then those that wait, until there are none. With one thread more than
// turns, a thread is always free for the network. Safe to use from many threads.
template <typename Request>
class RunQueue {
 public:
  enum class Turn { kRun, kWait, kRefused };

  RunQueue(size_t max_running, size_t max_waiting) : max_running_(max_running), max_waiting_(max_waiting) {}

  // kRun: the caller has a turn, runs the request and then those of Next. kWait: another thread will run it.
  Turn Enter(Request request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (running_ < max_running_) {
      ++running_;
      return Turn::kRun;
    }
    if (waiting_.size() >= max_waiting_) return Turn::kRefused;
    waiting_.push_back(request);
    return Turn::kWait;
  }

  // Takes the next request to run. False ends the caller's turn.
  bool Next(Request* request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_.empty()) {
      --running_;
      return false;
    }
    *request = waiting_.front();
    waiting_.pop_front();
    return true;
  }

 private:
  const size_t max_running_;
  const size_t max_waiting_;
  std::mutex mutex_;
  size_t running_ = 0;           // Guarded by mutex_.
  std::deque<Request> waiting_;  // Guarded by mutex_.
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_RUN_QUEUE_H_
