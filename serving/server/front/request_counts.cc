#include "serving/server/front/request_counts.h"

#include <algorithm>
#include <utility>

namespace nann::front {

void RequestCounts::Add(std::string_view model, std::string_view signature, int code, double micros,
                        double run_micros) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RequestCell& cell = cells_[CellKey(model, signature, code)];
  Observe(micros, &cell.request);
  if (run_micros >= 0) Observe(run_micros, &cell.run);
}

std::map<CellKey, RequestCell> RequestCounts::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(cells_, {});
}

void RequestCounts::Observe(double value, Histogram* histogram) const {
  histogram->counts.resize(limits_.size() + 1);
  const auto bucket = std::lower_bound(limits_.begin(), limits_.end(), value) - limits_.begin();
  ++histogram->counts[static_cast<size_t>(bucket)];
  histogram->total += value;
}

}  // namespace nann::front
