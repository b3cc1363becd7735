#include "metrics.h"

#include <atomic>

#include "tensorflow/core/lib/monitoring/counter.h"
#include "tensorflow/core/lib/monitoring/gauge.h"

namespace nann {
namespace {

using tensorflow::monitoring::Counter;
using Gauge = tensorflow::monitoring::Gauge<int64_t, 0>;

struct NamedCounter {
  const char* name;
  Counter<0>* counter;

  NamedCounter(const char* name, const char* description)
      : name(name), counter(Counter<0>::New(name, description)) {}

  void Add(int64_t amount) { counter->GetCell()->IncrementBy(amount); }
};

struct NamedGauge {
  const char* name;
  Gauge* gauge;

  NamedGauge(const char* name, const char* description) : name(name), gauge(Gauge::New(name, description)) {}
};

// Never destroyed: TensorFlow's registry may be read while the process exits.
struct Counters {
  NamedCounter searches{"/nann/searches", "Searches that finished. Each row of a batch is one search."};
  NamedCounter items_scored{"/nann/items_scored",
                            "Items that the scorer ran on, without the padding of tiles."};
  NamedCounter hops{"/nann/hops", "Hops: expansions of candidates to their neighbours."};
  NamedCounter padded_rows{"/nann/padded_rows", "Searches that found fewer than k items."};
  NamedCounter nan_items{"/nann/nan_items", "Items dropped because their score was NaN."};
  NamedCounter filter_exact{"/nann/filter_exact", "Filtered searches that scored every selected item."};
  NamedCounter filter_scan{"/nann/filter_scan", "Filtered searches that guessed for every selected item."};
  NamedCounter filter_survey{"/nann/filter_survey", "Filtered searches whose guesses walked all items."};
  NamedCounter filter_walk{"/nann/filter_walk", "Filtered searches that widened the adaptive walk."};
  NamedCounter filters{"/nann/filters", "Filters of requests that are not empty, each row's."};
  NamedCounter filter_cache_hits{"/nann/filter_cache_hits", "Filters that were in the cache."};
  NamedCounter filter_share_ppm{"/nann/filter_share_ppm",
                                "Sum of the filters' shares of passing items, in millionths."};
  NamedCounter tiles{"/nann/tiles", "Tiles that the scorer was started on."};

  NamedCounter tensorflow_users{"/nann/tensorflow_users", "Users whose part of the scorer TensorFlow ran."};
  NamedCounter user_micros{"/nann/user_micros", "Time of the user part of the scorer."};
  NamedCounter walk_micros{"/nann/walk_micros", "Thread time of neighbours, visited sets and selection."};
  NamedCounter gather_micros{"/nann/gather_micros", "Thread time of reading rows of the item tables."};
  NamedCounter scorer_micros{
      "/nann/scorer_micros",
      "Thread time of the scorer. Of distances scored in place it includes the reading."};

  NamedCounter segments_applied{"/nann/segments_applied", "Segments that overlays took over."};
  NamedCounter segments_refused{"/nann/segments_refused",
                                "Segments that could not be applied. One that stays in the way counts once."};
  NamedGauge overlay_items{"/nann/overlay_items", "Positions in overlays, deleted ones included."};
  NamedGauge segment_lag_ms{"/nann/segment_lag_ms",
                            "From the publication of the last applied segment to its visibility."};

  // In the order of Part.
  NamedCounter* const parts[kParts] = {&user_micros, &walk_micros, &gather_micros, &scorer_micros};

  std::vector<NamedCounter*> All() {
    return {&searches,         &items_scored,     &hops,
            &padded_rows,      &nan_items,        &tiles,
            &filter_exact,     &filter_scan,      &filter_survey,
            &filter_walk,      &filters,          &filter_cache_hits,
            &filter_share_ppm, &tensorflow_users, &user_micros,
            &walk_micros,      &gather_micros,    &scorer_micros,
            &segments_applied, &segments_refused};
  }
};

Counters& TheCounters() {
  static Counters* const counters = new Counters();
  return *counters;
}

void CountPath(FilterPath path) {
  Counters& counters = TheCounters();
  switch (path) {
    case FilterPath::kNone:
      return;
    case FilterPath::kExact:
      return counters.filter_exact.Add(1);
    case FilterPath::kScan:
      return counters.filter_scan.Add(1);
    case FilterPath::kSurvey:
      return counters.filter_survey.Add(1);
    case FilterPath::kWalk:
      return counters.filter_walk.Add(1);
  }
}

}  // namespace

void CountSearch(const SearchCounts& counts) {
  Counters& counters = TheCounters();
  counters.searches.Add(1);
  counters.items_scored.Add(counts.items_scored);
  counters.hops.Add(counts.hops);
  counters.nan_items.Add(counts.nan_items);
  if (counts.padded) counters.padded_rows.Add(1);
  CountPath(counts.filter_path);
}

void CountFilter(double share, bool cached) {
  Counters& counters = TheCounters();
  counters.filters.Add(1);
  if (cached) counters.filter_cache_hits.Add(1);
  counters.filter_share_ppm.Add(static_cast<int64_t>(1e6 * share + 0.5));  // Rounded without libm.
}

void CountTile() { TheCounters().tiles.Add(1); }

void CountTensorflowUser() { TheCounters().tensorflow_users.Add(1); }

void CountTime(Part part, std::chrono::nanoseconds time) {
  if (time.count() == 0) return;  // Touch no shared memory for a part that the thread took no time for.
  // Counters are in microseconds, and a stretch may be shorter: nanoseconds are summed and the remainder is
  // kept.
  static std::atomic<int64_t> spent[kParts];
  const int64_t before = spent[static_cast<int>(part)].fetch_add(time.count());
  const int64_t micros = (before + time.count()) / 1000 - before / 1000;
  if (micros > 0) TheCounters().parts[static_cast<int>(part)]->Add(micros);
}

void CountAppliedSegment(int64_t lag_micros) {
  TheCounters().segments_applied.Add(1);
  TheCounters().segment_lag_ms.gauge->GetCell()->Set(lag_micros / 1000);
}

void CountRefusedSegment() { TheCounters().segments_refused.Add(1); }

void AddOverlayItems(int64_t items) {
  static std::atomic<int64_t> total{0};
  const int64_t before = total.fetch_add(items);
  TheCounters().overlay_items.gauge->GetCell()->Set(before + items);
}

std::vector<std::pair<std::string, int64_t>> ReadMetrics() {
  std::vector<std::pair<std::string, int64_t>> metrics;
  for (const NamedGauge* gauge : {&TheCounters().overlay_items, &TheCounters().segment_lag_ms}) {
    metrics.emplace_back(gauge->name, gauge->gauge->GetCell()->value());
  }
  for (NamedCounter* counter : TheCounters().All()) {
    metrics.emplace_back(counter->name, counter->counter->GetCell()->value());
  }
  return metrics;
}

}  // namespace nann
