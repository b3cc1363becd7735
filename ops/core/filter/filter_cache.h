// Filters by their text: parsed and evaluated once.
#ifndef NANN_OPS_CORE_FILTER_FILTER_CACHE_H_
#define NANN_OPS_CORE_FILTER_FILTER_CACHE_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attribute_columns.h"
#include "attribute_sample.h"
#include "row_filter.h"

namespace nann {

struct FilterCacheOptions {
  // Of all filters that are kept. 64 MiB are 500 bitmaps over a million rows.
  int64_t max_bytes = int64_t{64} << 20;
  // Where a sample shows that at least so many rows pass, there is no bitmap. A search looks at fewer rows
  // than this, so that testing those is cheaper than testing all.
  int64_t many_passing = 50'000;
};

// The filters over the columns of one loaded export. Which filters have a bitmap depends on their text and
// the columns alone, so that answers do not depend on what was asked before. Thread-safe: the list of filters
// is guarded by a mutex, and evaluation runs outside of it. The columns must outlive the cache and the
// filters.
class FilterCache {
 public:
  explicit FilterCache(const AttributeColumns* columns, const FilterCacheOptions& options = {});

  // The filter of a text in the language of docs/filters.md; an empty or blank text lets all rows pass.
  // Parses it, tests 4,096 rows, and unless these show that many pass, all of them. Least recently used
  // filters go where the bound is reached; one that is larger than the bound is not kept. `cached` is set to
  // whether the filter was kept before. InvalidArgument names the column of the text, what was expected and
  // what was found.
  absl::StatusOr<std::shared_ptr<const RowFilter>> Get(absl::string_view text, bool* cached = nullptr);

  // Of the filters that are kept now, at most max_bytes.
  int64_t bytes() const;

 private:
  absl::StatusOr<RowFilter> Evaluate(absl::string_view text) const;
  std::shared_ptr<const RowFilter> Find(absl::string_view text);
  // Keeps the filter, unless another thread was faster; returns the one that is kept.
  std::shared_ptr<const RowFilter> Keep(absl::string_view text, std::shared_ptr<const RowFilter> filter);

  struct Entry {
    std::string text;
    std::shared_ptr<const RowFilter> filter;
    int64_t bytes;
  };

  const AttributeColumns* const columns_;
  const FilterCacheOptions options_;
  std::unique_ptr<const AttributeSample> sample_;  // Null where a bitmap always pays.
  const std::shared_ptr<const RowFilter> all_;     // Of blank texts.
  mutable std::mutex mutex_;
  std::list<Entry> entries_;                                         // The most recently used first.
  std::map<absl::string_view, std::list<Entry>::iterator> by_text_;  // Keys live in entries_.
  int64_t bytes_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_FILTER_CACHE_H_
