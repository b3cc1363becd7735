// A bounded store of reusable objects.
#ifndef NANN_OPS_CORE_BASE_OBJECT_POOL_H_
#define NANN_OPS_CORE_BASE_OBJECT_POOL_H_

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace nann {

// Lends objects and takes them back when the loan is destroyed. At most `max_idle` are kept; a further one is
// destroyed when it comes back, so that a burst of requests does not hold its memory for ever. `make` must be
// thread-safe: it runs outside the lock. Thread-safe: `idle_` is guarded by `mutex_`. A loan owns a share of
// the store, so the pool may be destroyed before its loans.
template <typename T>
class ObjectPool {
 public:
  using Loan = std::unique_ptr<T, std::function<void(T*)>>;

  ObjectPool(size_t max_idle, std::function<std::unique_ptr<T>()> make)
      : store_(std::make_shared<Store>(max_idle)), make_(std::move(make)) {}

  Loan Borrow() {
    std::unique_ptr<T> object = store_->Take();
    if (object == nullptr) object = make_();
    return Loan(object.release(),
                [store = store_](T* returned) { store->Put(std::unique_ptr<T>(returned)); });
  }

 private:
  class Store {
   public:
    explicit Store(size_t max_idle) : max_idle_(max_idle) {}

    std::unique_ptr<T> Take() {
      std::lock_guard<std::mutex> lock(mutex_);
      if (idle_.empty()) return nullptr;
      std::unique_ptr<T> object = std::move(idle_.back());
      idle_.pop_back();
      return object;
    }

    void Put(std::unique_ptr<T> object) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (idle_.size() < max_idle_) idle_.push_back(std::move(object));
    }

   private:
    const size_t max_idle_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<T>> idle_;
  };

  std::shared_ptr<Store> store_;
  std::function<std::unique_ptr<T>()> make_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_BASE_OBJECT_POOL_H_
