// Counters that any TensorFlow Serving shows on its Prometheus page.
#ifndef NANN_OPS_KERNELS_METRICS_METRICS_H_
#define NANN_OPS_KERNELS_METRICS_METRICS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/core/profiler/lib/traceme.h"

namespace nann {

// What one search adds. A row of a batch is one search.
struct SearchCounts {
  int64_t items_scored = 0;
  int64_t hops = 0;
  int64_t nan_items = 0;
  bool padded = false;  // Fewer than k items were found.
};

// Adds one finished search. Thread-safe.
void CountSearch(const SearchCounts& counts);

// Adds the tile that is about to be scored. Thread-safe.
void CountTile();

// Adds a user whose part of the scorer TensorFlow is about to run. Thread-safe.
void CountTensorflowUser();

// What a search's time is spent on.
enum class Part {
  kUser,    // What is computed once a user.
  kWalk,    // Neighbours, visited sets, selection.
  kGather,  // Reading rows of the item tables.
  kScorer,  // The model; with distances that are scored in place also the reading.
};

// Adds to the counter of a part, e.g. "/nann/walk_micros". Thread-safe.
void CountTime(Part part, std::chrono::nanoseconds time);

// Thread time by part, collected by one thread without a shared counter, and a span of each stretch in
// TensorFlow's profiles. Adds to the counters when it goes.
class PartTimes {
 public:
  PartTimes() = default;
  PartTimes(const PartTimes&) = delete;
  PartTimes& operator=(const PartTimes&) = delete;
  ~PartTimes() {
    for (int part = 0; part < kParts; ++part) CountTime(static_cast<Part>(part), spent_[part]);
  }

  // Runs `work` and counts its time.
  template <typename Work>
  void Spend(Part part, const Work& work) {
    const tsl::profiler::TraceMe span(NameOf(part));
    const auto started = std::chrono::steady_clock::now();
    work();
    spent_[static_cast<int>(part)] += std::chrono::steady_clock::now() - started;
  }

 private:
  static constexpr int kParts = 4;

  static const char* NameOf(Part part) {
    constexpr const char* kNames[kParts] = {"nann::user", "nann::walk", "nann::gather", "nann::scorer"};
    return kNames[static_cast<int>(part)];
  }

  std::chrono::nanoseconds spent_[kParts] = {};
};

// All counters of this process by name, e.g. ("/nann/searches", 12). Thread-safe.
std::vector<std::pair<std::string, int64_t>> ReadMetrics();

}  // namespace nann

#endif  // NANN_OPS_KERNELS_METRICS_METRICS_H_
