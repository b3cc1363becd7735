#include "filter_cache.h"

#include <algorithm>
#include <utility>

#include "../base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "attribute_sample.h"
#include "bits.h"
#include "filter_compiler.h"
#include "filter_lexer.h"
#include "filter_parser.h"
#include "predicate.h"

namespace nann {
namespace {

// With fewer rows of the sample that pass, their share says little, however many rows it stands for.
constexpr int64_t kLeastSampled = 32;

// What a predicate takes beside its bitmap: at most some 100 bytes for a condition, which has three
// characters or more.
constexpr int64_t kBytesPerCharacter = 32;

// Evaluates filters over columns. Thread-safe: it never changes.
class ColumnEvaluator {
 public:
  ColumnEvaluator(const AttributeColumns* columns, const FilterCacheOptions& options)
      : columns_(columns), options_(options) {
    if (columns->num_rows() >= std::max(kSampleRows, options.many_passing)) {
      sample_ = std::make_unique<AttributeSample>(*columns);
    }
  }

  absl::StatusOr<RowFilter> Evaluate(absl::string_view text, const IsCancelled& is_cancelled) const {
    const int64_t num_rows = columns_->num_rows();
    NANN_ASSIGN_OR_RETURN(const FilterNode filter, ParseFilter(text));
    NANN_ASSIGN_OR_RETURN(std::shared_ptr<const Predicate> predicate, CompileFilter(filter, *columns_));
    NANN_RETURN_IF_ERROR(CheckCost(*predicate));
    if (sample_ != nullptr && predicate->Cost() <= options_.most_cost_of_row) {
      NANN_ASSIGN_OR_RETURN(const PredicatePtr on_sample, CompileFilter(filter, sample_->columns()));
      NANN_ASSIGN_OR_RETURN(std::vector<uint64_t> passing, EvaluateRows(*on_sample, kSampleRows));
      const RowFilter sampled(std::move(passing), kSampleRows);
      const bool many = sampled.share() * static_cast<double>(num_rows) >= options_.many_passing &&
                        sampled.share() >= options_.least_share;
      if (many && sampled.passing() >= kLeastSampled) {
        return RowFilter(std::move(predicate), num_rows, sampled.share());
      }
    }
    NANN_ASSIGN_OR_RETURN(std::vector<uint64_t> bitmap, EvaluateRows(*predicate, num_rows, is_cancelled));
    return RowFilter(std::move(bitmap), num_rows);
  }

 private:
  absl::Status CheckCost(const Predicate& predicate) const {
    const double most = options_.most_cost / static_cast<double>(NumWords(columns_->num_rows()));
    if (predicate.Cost() <= most) return absl::OkStatus();
    return FilterError(
        1, absl::StrCat("expected conditions that cost at most ", static_cast<int64_t>(most),
                        " comparisons with a literal per item, for ", columns_->num_rows(), " items, found ",
                        static_cast<int64_t>(predicate.Cost()),
                        "; shorten the filter, write IN in place of many OR, compare fewer pairs of "
                        "attributes, or make an attribute of what it tests"));
  }

  const AttributeColumns* const columns_;
  const FilterCacheOptions options_;
  std::unique_ptr<const AttributeSample> sample_;  // Null where a bitmap always pays.
};

FilterCache::Evaluate EvaluatorOf(const AttributeColumns* columns, const FilterCacheOptions& options) {
  auto evaluator = std::make_shared<const ColumnEvaluator>(columns, options);
  return [evaluator](absl::string_view text, const IsCancelled& is_cancelled) {
    return evaluator->Evaluate(text, is_cancelled);
  };
}

}  // namespace

FilterCache::FilterCache(const AttributeColumns* columns, const FilterCacheOptions& options)
    : FilterCache(columns->num_rows(), EvaluatorOf(columns, options), options.max_bytes) {}

FilterCache::FilterCache(int64_t num_rows, Evaluate evaluate, int64_t max_bytes)
    : evaluate_(std::move(evaluate)),
      max_bytes_(max_bytes),
      all_(std::make_shared<const RowFilter>(RowFilter::All(num_rows))) {}

absl::StatusOr<std::shared_ptr<const RowFilter>> FilterCache::Get(absl::string_view text, bool* cached,
                                                                  const IsCancelled& is_cancelled) {
  if (IsBlankFilter(text)) {
    if (cached != nullptr) *cached = true;
    return all_;
  }
  std::shared_ptr<const RowFilter> filter = Find(text);
  if (cached != nullptr) *cached = filter != nullptr;
  if (filter != nullptr) return filter;
  NANN_ASSIGN_OR_RETURN(RowFilter evaluated, evaluate_(text, is_cancelled));
  return Keep(text, std::make_shared<const RowFilter>(std::move(evaluated)));
}

int64_t FilterCache::bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return bytes_;
}

std::shared_ptr<const RowFilter> FilterCache::Find(absl::string_view text) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_text_.find(text);
  if (found == by_text_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->filter;
}

std::shared_ptr<const RowFilter> FilterCache::Keep(absl::string_view text,
                                                   std::shared_ptr<const RowFilter> filter) {
  const int64_t bytes = filter->bytes() + kBytesPerCharacter * static_cast<int64_t>(text.size());
  std::list<Entry> evicted;  // Freed after the lock.
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_text_.find(text);
  if (found != by_text_.end()) return found->second->filter;
  if (bytes > max_bytes_) return filter;
  while (bytes_ + bytes > max_bytes_) {
    bytes_ -= entries_.back().bytes;
    by_text_.erase(entries_.back().text);
    evicted.splice(evicted.begin(), entries_, std::prev(entries_.end()));
  }
  entries_.push_front({std::string(text), filter, bytes});
  by_text_.emplace(entries_.front().text, entries_.begin());
  bytes_ += bytes;
  return filter;
}

}  // namespace nann
