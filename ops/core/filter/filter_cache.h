// Filters by their text: parsed and evaluated once.
#ifndef NANN_OPS_CORE_FILTER_FILTER_CACHE_H_
#define NANN_OPS_CORE_FILTER_FILTER_CACHE_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attribute_columns.h"
#include "row_filter.h"

namespace nann {

struct FilterCacheOptions {
  // Of all filters that are kept. 64 MiB are 500 bitmaps over a million rows.
  int64_t max_bytes = int64_t{64} << 20;
  // Where a sample shows that at least so many rows pass, and such a share of all, there is no bitmap. A
  // search looks at fewer rows than this, so that testing those is cheaper than testing all, and it finds
  // enough of them without going through all rows: twice those of its widest survey, a sixteenth.
  int64_t many_passing = 50'000;
  double least_share = 1.0 / 8;
  // Of a filter without a bitmap, by Predicate::Cost. A row that is tested alone costs as much as 64, so that
  // 50,000 of them take 50 ms.
  double most_cost_of_row = 64;
  // Of testing all rows, likewise: 4 seconds. Filters that take more are refused.
  double most_cost = 1 << 28;
};

// The filters over some rows. Which filters have a bitmap depends on their text and the rows alone, so that
// answers do not depend on what was asked before. Thread-safe: the list of filters is guarded by a mutex, and
// evaluation runs outside of it.
class FilterCache {
 public:
  // The filter of a text that is not blank.
  using Evaluate =
      std::function<absl::StatusOr<RowFilter>(absl::string_view text, const IsCancelled& is_cancelled)>;

  // Over the rows of columns, which must outlive the cache and the filters.
  explicit FilterCache(const AttributeColumns* columns, const FilterCacheOptions& options = {});
  // Over `num_rows` rows. Keeps up to `max_bytes` of filters.
  FilterCache(int64_t num_rows, Evaluate evaluate, int64_t max_bytes = FilterCacheOptions().max_bytes);

  // The filter of a text in the language of docs/filters.md; an empty or blank text lets all rows pass.
  // Parses it, tests 4,096 rows, and unless these show that many pass, all of them. Least recently used
  // filters go where the bound is reached; one that is larger than the bound is not kept. `cached` is set to
  // whether the filter was kept before. InvalidArgument names the column of the text, what was expected and
  // what was found; also for a filter that costs more than `most_cost`. Cancelled when `is_cancelled` says so
  // before all rows are tested.
  absl::StatusOr<std::shared_ptr<const RowFilter>> Get(absl::string_view text, bool* cached = nullptr,
                                                       const IsCancelled& is_cancelled = {});

  // Of the filters that are kept now, at most max_bytes.
  int64_t bytes() const;

 private:
  std::shared_ptr<const RowFilter> Find(absl::string_view text);
  // Keeps the filter, unless another thread was faster; returns the one that is kept.
  std::shared_ptr<const RowFilter> Keep(absl::string_view text, std::shared_ptr<const RowFilter> filter);

  struct Entry {
    std::string text;
    std::shared_ptr<const RowFilter> filter;
    int64_t bytes;
  };

  const Evaluate evaluate_;
  const int64_t max_bytes_;
  const std::shared_ptr<const RowFilter> all_;  // Of blank texts.
  mutable std::mutex mutex_;
  std::list<Entry> entries_;                                         // The most recently used first.
  std::map<absl::string_view, std::list<Entry>::iterator> by_text_;  // Keys live in entries_.
  int64_t bytes_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_FILTER_CACHE_H_
