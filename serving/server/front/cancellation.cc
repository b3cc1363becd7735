#include "serving/server/front/cancellation.h"

namespace nann::front {

void Cancellation::Cancel() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_cancelled_ = true;
  if (run_ != nullptr) functions_.cancel(run_);
}

bool Cancellation::IsCancelled() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return is_cancelled_;
}

Cancellation::Run::Run(Cancellation* cancellation, const std::vector<const void*>& buffers)
    : cancellation_(cancellation) {
  void* run = cancellation->functions_.begin(buffers.data(), static_cast<int>(buffers.size()));
  const std::lock_guard<std::mutex> lock(cancellation->mutex_);
  cancellation->run_ = run;
  if (cancellation->is_cancelled_) cancellation->functions_.cancel(run);
}

Cancellation::Run::~Run() {
  void* run;
  {
    const std::lock_guard<std::mutex> lock(cancellation_->mutex_);
    run = cancellation_->run_;
    cancellation_->run_ = nullptr;
  }
  cancellation_->functions_.end(run);
}

}  // namespace nann::front
