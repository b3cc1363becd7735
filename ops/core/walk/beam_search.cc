#include "beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace nann {
namespace {

// Neighbour lists that are fetched from memory while one is read. A list takes 2 to 8 cache lines, so four
// keep the processor's 10 to 16 outstanding misses busy.
constexpr size_t kListsAhead = 4;

// Positions that a search of all items hands out at once: 64 tiles of the default size, so that every thread
// has work, and cancellation is noticed within milliseconds.
constexpr int64_t kPositionsAtOnce = 8192;

// A walk scores at least this many items per result, in halves: where fewer are selected, all are scored.
constexpr int64_t kScoredPerResultHalves = 5;

// Results that rules count at least: a walk for few results scores hardly fewer items. As many exclusions are
// few, however narrow the beams are.
constexpr int64_t kLeastResults = 200;

// Items that the adaptive walk scores per candidate that it expands.
constexpr int64_t kScoredPerExpanded = 2;

// Candidates per hop of a fixed walk that has to filter, and so becomes the adaptive one: one filled tile.
constexpr int64_t kFilterExpand = 32;

}  // namespace

absl::Status CheckLevelTopn(const Graph& graph, absl::Span<const int32_t> level_topn, int64_t beams_per_row,
                            int64_t batch, int64_t max_work) {
  const int64_t length = graph.level_topn_length();
  if (beams_per_row != length) {
    return absl::InvalidArgumentError(
        absl::StrCat("level_topn: expected ", length, " values a row (entry beam, ", length - 2,
                     " hops from the top level down, final k), found ", beams_per_row));
  }
  int64_t work = 0;
  int64_t largest_k = 0;
  for (size_t i = 0; i < level_topn.size(); ++i) {
    if (level_topn[i] < 1 || level_topn[i] > kMaxBeam) {
      return absl::InvalidArgumentError(
          absl::StrCat("level_topn[", i, "]: expected 1 to ", kMaxBeam, ", found ", level_topn[i]));
    }
    const bool is_k = static_cast<int64_t>(i) % length == length - 1;
    if (is_k) largest_k = std::max<int64_t>(largest_k, level_topn[i]);
    if (!is_k) work += level_topn[i];
  }
  const bool shared = static_cast<int64_t>(level_topn.size()) == beams_per_row;
  if (shared) work *= batch;
  // Every row of the answer is padded to the largest k.
  work += batch * largest_k;
  if (work > max_work) {
    const auto largest = std::max_element(level_topn.begin(), level_topn.end());
    return absl::InvalidArgumentError(
        absl::StrCat("level_topn: expected batch x sum of beams (the largest k in each row) of at most ",
                     max_work, " (the export's max_work), found ", work, " for a batch of ", batch,
                     "; the largest beam is level_topn[", largest - level_topn.begin(), "] = ", *largest,
                     ": send narrower beams or fewer rows"));
  }
  return absl::OkStatus();
}

namespace {

// Whether the values behind a row's beams are padding: each is the first beam of this or of another row.
bool IsPadding(absl::Span<const int32_t> extra, absl::Span<const int32_t> level_topn, int64_t beams_per_row) {
  return std::all_of(extra.begin(), extra.end(), [&](int32_t value) {
    for (size_t i = 0; i < level_topn.size(); i += beams_per_row) {
      if (level_topn[i] == value) return true;
    }
    return false;
  });
}

// Refuses the rows that take more than their share, if those that are accepted are over `max_work` together.
void RefuseWideRows(absl::Span<const int32_t> level_topn, int64_t beams_per_row, int64_t length,
                    int64_t max_work, absl::Span<int32_t> row_status) {
  const int64_t batch = static_cast<int64_t>(row_status.size());
  std::vector<int64_t> work(batch, 0);
  int64_t total = 0;
  int64_t largest_k = 0;
  for (int64_t row = 0; row < batch; ++row) {
    if (row_status[row] != kRowOk) continue;
    const absl::Span<const int32_t> beams = level_topn.subspan(row * beams_per_row, length);
    work[row] = std::accumulate(beams.begin(), beams.end(), int64_t{0});
    total += work[row] - beams.back();
    largest_k = std::max<int64_t>(largest_k, beams.back());
  }
  if (total + batch * largest_k <= max_work) return;
  for (int64_t row = 0; row < batch; ++row) {
    if (work[row] > max_work / (2 * batch)) row_status[row] = kRowTooMuchWork;
  }
}

}  // namespace

absl::Status CheckRows(const Graph& graph, absl::Span<const int32_t> level_topn, int64_t beams_per_row,
                       int64_t batch, int64_t max_work, absl::Span<int32_t> row_status) {
  const absl::Status whole = CheckLevelTopn(graph, level_topn, beams_per_row, batch, max_work);
  const int64_t length = graph.level_topn_length();
  if (whole.ok() || batch == 1 || beams_per_row < length) return whole;
  for (int64_t row = 0; row < batch; ++row) {
    const absl::Span<const int32_t> beams = level_topn.subspan(row * beams_per_row, beams_per_row);
    const bool is_valid = IsPadding(beams.subspan(length), level_topn, beams_per_row) &&
                          CheckLevelTopn(graph, beams.first(length), length, 1, max_work).ok();
    if (!is_valid) row_status[row] = kRowInvalid;
  }
  // Without a row of that width of its own, the width is everybody's mistake.
  const bool width_is_explained =
      beams_per_row == length || std::count(row_status.begin(), row_status.end(), kRowInvalid) > 0;
  if (!width_is_explained) return whole;
  RefuseWideRows(level_topn, beams_per_row, length, max_work, row_status);
  const bool any = std::find(row_status.begin(), row_status.end(), kRowOk) != row_status.end();
  return any ? absl::OkStatus() : whole;
}

void BeamSearch::Start(absl::Span<const int32_t> level_topn, const WalkOptions& options) {
  level_topn_ = level_topn;
  options_ = options;
  items_scored_ = nan_items_ = hops_ = 0;
  done_ = false;
  in_proxy_walk_ = scoring_all_ = false;
  path_ = FilterPath::kNone;
  results_.clear();
  frontier_.clear();
  selector_.Reset(graph_, options_.filter, options_.excluded);
  filtering_ = selector_.filters() || selector_.excluded() > std::max(WidthOfLevel0(), kLeastResults);
  if (!filtering_ && options_.proxy_only_filters) options_.proxy = nullptr;
  if (filtering_ && options_.expand == 0) options_.expand = kFilterExpand;
  if (options_.score_all || (filtering_ && ScoringAllCostsLess(options_.proxy != nullptr))) {
    StartScoringAll();
  } else if (options_.proxy != nullptr) {
    StartProxyWalk();
  } else {
    StartFromEntryPoints();
  }
}

bool BeamSearch::ScoringAllCostsLess(bool with_proxy) const {
  const int64_t count = selector_.count();
  if (count == ItemSelector::kUnknown) return false;
  if (2 * count <= kScoredPerResultHalves * std::max<int64_t>(level_topn_.back(), kLeastResults)) return true;
  // The walk expands N / count items for each that counts.
  return !with_proxy && count * count <= kScoredPerExpanded * WidthOfLevel0() * graph_->num_items();
}

void BeamSearch::StartScoringAll() {
  scoring_all_ = true;
  if (filtering_) path_ = FilterPath::kExact;
  level_ = 0;
  next_position_ = 0;
  // Few exclusions are scored and left out at the end.
  const int64_t left_out = filtering_ ? 0 : selector_.excluded();
  pool_.Reset(WithRescoreMargin(level_topn_.back() + left_out), graph_->item_ids());
  NextPositions();
  if (frontier_.empty()) Finish();
}

void BeamSearch::StartFromEntryPoints() {
  if (filtering_) path_ = FilterPath::kWalk;
  level_ = graph_->num_levels();
  hops_left_ = 0;
  beam_ = 0;
  if (adaptive()) ResetPool();
  frontier_.assign(graph_->enter_points().begin(), graph_->enter_points().end());
}

void BeamSearch::StartProxyWalk() {
  if (proxy_ == nullptr) proxy_ = std::make_unique<ProxyWalk>(capacity_);
  in_proxy_walk_ = true;
  proxy_->Start(graph_, *options_.proxy, WidthOfLevel0(), level_topn_.back(),
                selector_.SelectsAll() ? nullptr : &selector_, filtering_);
  frontier_.assign(proxy_->frontier().begin(), proxy_->frontier().end());
}

void BeamSearch::AdvanceProxyWalk(absl::Span<const float> scores) {
  ++hops_;
  proxy_->Advance(scores);
  frontier_.assign(proxy_->frontier().begin(), proxy_->frontier().end());
  if (!proxy_->done()) return;
  in_proxy_walk_ = false;
  if (proxy_->gave_up()) {
    return filtering_ && ScoringAllCostsLess(false) ? StartScoringAll() : StartFromEntryPoints();
  }
  if (filtering_) path_ = proxy_->scanned() ? FilterPath::kScan : FilterPath::kSurvey;
  for (const Candidate& candidate : proxy_->scored()) {
    if (!std::isnan(candidate.score)) results_.push_back(candidate);
  }
  Finish();
}

int64_t BeamSearch::WidestBeam(int level, int beam) const {
  const auto beams = level_topn_.subspan(beam, graph_->hops(level));
  return *std::max_element(beams.begin(), beams.end());
}

int64_t BeamSearch::WidthOfLevel0() const {
  return WidestBeam(0, graph_->level_topn_length() - 1 - graph_->hops(0));
}

void BeamSearch::NextPositions() {
  frontier_.clear();
  while (next_position_ < graph_->num_items() && frontier_.size() < kPositionsAtOnce) {
    const auto begin = static_cast<int32_t>(next_position_);
    next_position_ = std::min<int64_t>(begin + kPositionsAtOnce - static_cast<int64_t>(frontier_.size()),
                                       graph_->num_items());
    if (filtering_) {
      selector_.Append(begin, static_cast<int32_t>(next_position_), &frontier_);
    } else {
      for (int32_t position = begin; position < next_position_; ++position) {
        if (!graph_->IsDeleted(position)) frontier_.push_back(position);
      }
    }
  }
}

void BeamSearch::ResetPool() {
  // Enough for the widest level, and for k results after few exclusions, however narrow the beams are. What a
  // filter leaves of the pool is not known, so its pool is as large as one may be.
  const auto beams = level_topn_.subspan(1);
  const int64_t widest = *std::max_element(beams.begin(), beams.end());
  const int64_t size = std::max<int64_t>(widest, level_topn_.back() + selector_.excluded());
  if (filtering_) {
    pool_.Reset(kMaxBeam, graph_->item_ids());
  } else {
    pool_.Reset(size, graph_->item_ids(), graph_->deletions());
  }
  visited_.Clear();
}

void BeamSearch::KeepEntryPoints() {
  for (int32_t position : frontier_) visited_.Insert(position);
  if (graph_->deletions().any()) {
    return KeepTopLive(level_topn_[0], graph_->item_ids(), graph_->deletions(), &candidates_, &waiting_);
  }
  // First those that a hop may expand, in one pass over all; then the entry beam among these few.
  const auto begin = candidates_.begin();
  const size_t kept = std::min(candidates_.size(), static_cast<size_t>(level_topn_[0]));
  const size_t expandable = std::min(candidates_.size(), kept + static_cast<size_t>(WidthOfLevel0()));
  const Better better{graph_->item_ids()};
  std::nth_element(begin, begin + expandable, candidates_.end(), better);
  std::nth_element(begin, begin + kept, begin + expandable, better);
  waiting_.assign(begin + kept, candidates_.end());
  candidates_.resize(kept);
}

void BeamSearch::MergeEntryPoints() {
  const int64_t width = WidthOfLevel0();
  const bool width_is_fixed = !filtering_ && !graph_->deletions().any();
  if (width_is_fixed && width < static_cast<int64_t>(waiting_.size())) {
    candidates_.assign(waiting_.begin(), waiting_.begin() + width);
    waiting_.erase(waiting_.begin(), waiting_.begin() + width);
  } else {
    candidates_.swap(waiting_);
    waiting_.clear();
  }
  pool_.Merge(&candidates_);
}

void BeamSearch::EnterLevel(int level) {
  level_ = level;
  if (adaptive()) {
    if (level == 0) MergeEntryPoints();
    pool_.BeginLevel(WidestBeam(level, beam_ + 1));
    beam_ += graph_->hops(level);
  } else {
    visited_.Clear();
    for (const Candidate& result : results_) visited_.Insert(result.position);
    hops_left_ = graph_->hops(level);
    candidates_ = results_;
  }
}

bool BeamSearch::BeginHop() {
  if (level_ == graph_->num_levels()) return false;  // The entry points are scored, not expanded.
  if (adaptive() && filtering_ && level_ == 0) {
    const int64_t wanted = std::max<int64_t>(WidthOfLevel0(), level_topn_.back());
    return pool_.TakeUnexpanded(options_.expand, wanted, selector_, &candidates_);
  }
  if (adaptive()) return pool_.TakeUnexpanded(options_.expand, &candidates_);
  if (hops_left_ == 0) return false;
  --hops_left_;
  ++beam_;
  return true;
}

void BeamSearch::Expand() {
  const Level& level = graph_->level(level_);
  for (const Candidate& candidate : candidates_) level.FetchOffsets(candidate.position);
  frontier_.clear();
  for (size_t i = 0; i < candidates_.size() && i < kListsAhead; ++i) {
    level.FetchNeighbors(candidates_[i].position);
  }
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i + kListsAhead < candidates_.size()) level.FetchNeighbors(candidates_[i + kListsAhead].position);
    visited_.InsertAll(level.NeighborsOf(candidates_[i].position), &frontier_);
  }
  ++hops_;
}

void BeamSearch::TakeScores(absl::Span<const float> scores, std::vector<Candidate>* candidates) {
  candidates->clear();
  for (size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) {
      ++nan_items_;
    } else {
      candidates->push_back({frontier_[i], scores[i]});
    }
  }
}

void BeamSearch::Advance(absl::Span<const float> scores) {
  items_scored_ += static_cast<int64_t>(scores.size());
  TakeScores(scores, &candidates_);
  if (in_proxy_walk_) return AdvanceProxyWalk(scores);
  if (scoring_all_) {
    pool_.Merge(&candidates_);
    NextPositions();
    if (!frontier_.empty()) return;
    pool_.CopyTo(&results_);
    return Finish();
  }
  if (adaptive()) {
    if (level_ == graph_->num_levels()) KeepEntryPoints();
    pool_.Merge(&candidates_);
  } else {
    KeepBest(level_topn_[beam_], &candidates_);
    results_.insert(results_.end(), candidates_.begin(), candidates_.end());
  }
  SkipEmptyHops();
}

void BeamSearch::KeepBest(int64_t k, std::vector<Candidate>* candidates) const {
  if (graph_->deletions().any()) return KeepTopLive(k, graph_->item_ids(), graph_->deletions(), candidates);
  KeepTop(k, graph_->item_ids(), candidates);
}

void BeamSearch::EndLevel() {
  if (adaptive()) {
    if (level_ > 0) return;
    pool_.Merge(&waiting_);
    pool_.CopyTo(&results_);
  } else if (level_ > 0 && level_ < graph_->num_levels()) {
    // The beam of the last hop also bounds what the level below starts with.
    KeepBest(level_topn_[beam_], &results_);
  }
}

void BeamSearch::SkipEmptyHops() {
  while (true) {
    if (BeginHop()) {
      Expand();
      if (!frontier_.empty()) return;
      candidates_.clear();
      continue;
    }
    EndLevel();
    if (level_ == 0) return Finish();
    EnterLevel(level_ - 1);
  }
}

void BeamSearch::Finish() {
  done_ = true;
  frontier_.clear();
  if (!selector_.SelectsAll()) selector_.Keep(&results_);
}

absl::Span<const int32_t> BeamSearch::KeepResults(int64_t count) {
  KeepTopSorted(count, graph_->item_ids(), &results_);
  frontier_.clear();
  for (const Candidate& result : results_) frontier_.push_back(result.position);
  return frontier_;
}

void BeamSearch::Rescore(absl::Span<const float> scores) { TakeScores(scores, &results_); }

int64_t BeamSearch::TopK(absl::Span<int64_t> ids, absl::Span<float> scores) {
  const absl::Span<const int64_t> item_ids = graph_->item_ids();
  KeepTopSorted(static_cast<int64_t>(ids.size()), item_ids, &results_);
  const size_t count = results_.size();
  for (size_t i = 0; i < count; ++i) {
    ids[i] = item_ids[results_[i].position];
    scores[i] = results_[i].score;
  }
  std::fill(ids.begin() + count, ids.end(), -1);
  std::fill(scores.begin() + count, scores.end(), -std::numeric_limits<float>::infinity());
  return static_cast<int64_t>(count);
}

}  // namespace nann
