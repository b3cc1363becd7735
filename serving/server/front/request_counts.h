// Counts and times the requests that the front answers, until Python takes them over.
#ifndef NANN_SERVING_SERVER_FRONT_REQUEST_COUNTS_H_
#define NANN_SERVING_SERVER_FRONT_REQUEST_COUNTS_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace nann::front {

// Counts by bucket, the last one without a limit, and the sum of the values.
struct Histogram {
  std::vector<int64_t> counts;
  double total = 0;
};

// The requests of a model and signature that ended with one code, in microseconds.
struct RequestCell {
  Histogram request;  // From the moment at which a thread was free to the end.
  Histogram run;      // What TensorFlow took of it.
};

using CellKey = std::tuple<std::string, std::string, int>;  // model, signature, code

// Safe to use from many threads.
class RequestCounts {
 public:
  // `limits`: the upper limits of the buckets, in increasing order.
  explicit RequestCounts(std::vector<double> limits) : limits_(std::move(limits)) {}

  // `run_micros` is negative for a request that did not run.
  void Add(std::string_view model, std::string_view signature, int code, double micros, double run_micros);

  // Returns what was counted since the last call.
  std::map<CellKey, RequestCell> Take();

 private:
  void Observe(double value, Histogram* histogram) const;

  const std::vector<double> limits_;
  std::mutex mutex_;
  std::map<CellKey, RequestCell> cells_;  // Guarded by mutex_.
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_REQUEST_COUNTS_H_
