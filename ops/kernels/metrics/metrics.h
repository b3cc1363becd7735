// The counters of this process, in TensorFlow's registry: TensorFlow Serving shows them on its Prometheus
// page. All functions are thread-safe.
#ifndef NANN_OPS_KERNELS_METRICS_METRICS_H_
#define NANN_OPS_KERNELS_METRICS_METRICS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../../core/walk/beam_search.h"
#include "tensorflow/core/profiler/lib/traceme.h"

namespace nann {

// What one search adds. A row of a batch is one search.
struct SearchCounts {
  int64_t items_scored = 0;
  int64_t hops = 0;
  int64_t nan_items = 0;
  bool padded = false;  // Fewer than k items were found.
  FilterPath filter_path = FilterPath::kNone;
};

// Adds one finished search.
void CountSearch(const SearchCounts& counts);

// Adds one filter of a request: the share of items that pass, 0 to 1, and whether it was in the cache.
void CountFilter(double share, bool cached);

// Adds one tile that is about to be scored.
void CountTile();

// Adds one user whose part of the scorer TensorFlow is about to run.
void CountTensorflowUser();

// What the time of a search is spent on.
enum class Part {
  kUser,    // What is computed once per user.
  kWalk,    // Neighbours, visited sets, selection.
  kGather,  // Reading rows of the item tables.
  kScorer,  // The scorer. Of distances that are scored in place it includes the reading.
};
inline constexpr int kParts = 4;

// Adds to the counter of a part, e.g. "/nann/walk_micros".
void CountTime(Part part, std::chrono::nanoseconds time);

// Collects the time of one thread by part, and adds it to the counters when destroyed: threads would slow
// each other down at a shared counter. Each stretch of work is also a span in TensorFlow's profiles. Not
// thread-safe.
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
  static const char* NameOf(Part part) {
    constexpr const char* kNames[kParts] = {"nann::user", "nann::walk", "nann::gather", "nann::scorer"};
    return kNames[static_cast<int>(part)];
  }

  std::chrono::nanoseconds spent_[kParts] = {};
};

// Adds one segment that an overlay has taken over, `lag_micros` after it was published.
void CountAppliedSegment(int64_t lag_micros);

// Adds one segment that could not be applied.
void CountRefusedSegment();

// Adds to the number of positions in the overlays of this process; a negative number takes away.
void AddOverlayItems(int64_t items);

// All counters and gauges of this process by name, e.g. ("/nann/searches", 12). Thread-safe.
std::vector<std::pair<std::string, int64_t>> ReadMetrics();

}  // namespace nann

#endif  // NANN_OPS_KERNELS_METRICS_METRICS_H_
