// Which loaded model answers which request, and how many requests each one has.
#ifndef NANN_SERVING_SERVER_FRONT_MODEL_TABLE_H_
#define NANN_SERVING_SERVER_FRONT_MODEL_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "serving/server/front/loaded_model.h"

namespace nann::front {

// A way to ask for a model: its name, a choice of a version, and that version or label.
using RouteKey = std::tuple<std::string, PredictRequest::Choice, int64_t, std::string>;

// Safe to use from many threads: one lock guards it, which is held only to look things up.
class ModelTable {
 public:
  // A model that a request uses. The table outlives its leases.
  class Lease {
   public:
    Lease(ModelTable* table, int64_t id, std::shared_ptr<const LoadedModel> model)
        : table_(table), id_(id), model_(std::move(model)) {}
    Lease(Lease&& other) noexcept : table_(other.table_), id_(other.id_), model_(std::move(other.model_)) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    // Null if no model answers the request.
    const LoadedModel* get() const { return model_.get(); }

   private:
    ModelTable* table_;
    int64_t id_;
    std::shared_ptr<const LoadedModel> model_;
  };

  // `on_unused` is called without the lock when the last request of a removed model ended, unless Remove
  // told.
  explicit ModelTable(std::function<void(int64_t id)> on_unused) : on_unused_(std::move(on_unused)) {}

  // Takes a model that no route leads to yet; returns its id.
  int64_t Add(std::shared_ptr<const LoadedModel> model);

  // Replaces all routes. A route to a model that is not there leads nowhere.
  void SetRoutes(std::map<RouteKey, int64_t> routes);

  // Forgets a model that no route leads to. True if no request uses it; otherwise on_unused tells when.
  bool Remove(int64_t id);

  // Lends the model that a request asks for.
  Lease Find(const PredictRequest& request);

 private:
  struct Entry {
    std::shared_ptr<const LoadedModel> model;
    int64_t requests = 0;
    bool is_removed = false;
  };

  void Release(int64_t id);

  const std::function<void(int64_t)> on_unused_;
  std::mutex mutex_;
  std::map<int64_t, Entry> entries_;    // Guarded by mutex_.
  std::map<RouteKey, int64_t> routes_;  // Guarded by mutex_.
  int64_t next_id_ = 0;                 // Guarded by mutex_.
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_MODEL_TABLE_H_
