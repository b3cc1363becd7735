// The walk over a graph, without the scorer: docs/design.md#the-search.
#ifndef NANN_OPS_CORE_WALK_BEAM_SEARCH_H_
#define NANN_OPS_CORE_WALK_BEAM_SEARCH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../index/graph.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "candidate_pool.h"
#include "item_selector.h"
#include "proxy_walk.h"
#include "top_k.h"
#include "visited_set.h"

namespace nann {

// The widest beam of a request. Far wider than is useful; it bounds the memory of one search.
inline constexpr int32_t kMaxBeam = 65536;

// Checks the beams of a request. `level_topn` is [batch, beams_per_row], row by row, or [beams_per_row] for
// all rows. InvalidArgument names the index, the value and the bound when the number of beams is not the
// graph's, a beam is not in [1, kMaxBeam], or the work of the batch is more than `max_work`. The work is the
// sum of all beams of all rows, in which each row counts the largest k, because its answer is padded to that
// width.
absl::Status CheckLevelTopn(const Graph& graph, absl::Span<const int32_t> level_topn, int64_t beams_per_row,
                            int64_t batch, int64_t max_work);

// What became of a row of a batch, as google.rpc.Code numbers it.
enum RowStatus : int32_t { kRowOk = 0, kRowInvalid = 3, kRowTooMuchWork = 8 };

// Checks the beams of rows that callers who do not know each other may have sent: `level_topn` is [batch,
// beams_per_row]. Sets `row_status` [batch], which the caller has filled with kRowOk, for each row that is
// refused, and returns an error, that of CheckLevelTopn, only when no row can be answered.
//
// kRowInvalid: the row fails CheckLevelTopn on its own. A server that joins requests pads their rows to one
// width with the first beam of a request, so such values may follow the graph's number of beams.
// kRowTooMuchWork: the batch is over `max_work`, and the row takes more than half of an even share of it; the
// other half is for padding to the largest k.
absl::Status CheckRows(const Graph& graph, absl::Span<const int32_t> level_topn, int64_t beams_per_row,
                       int64_t batch, int64_t max_work, absl::Span<int32_t> row_status);

// How the levels are walked.
//
// Fixed walk: a level has as many hops as the index says. Each hop expands all candidates that the last one
// kept.
//
// Adaptive walk: the widest beam of a level says how many of the best candidates are expanded on it, `expand`
// of them per hop, and the level ends when all of these were. An easy user needs few hops, a hard one many.
// With `expand` 1 this is Algorithm 2 of the HNSW paper (arXiv 1603.09320); a larger `expand` fills the
// scorer's tiles. No item is scored twice: all levels share one pool and one visited set.
//
// Proxy walk: see ProxyWalk. Its width is the widest beam of level 0. Where it gives up, one of the other two
// answers.
//
// All items: the graph is not read. Every position is scored, in ascending order, some tiles at a time.
//
// What the filter does not pass, is excluded or deleted, is not selected and no result. Deleted items are
// scored and expanded by the fixed and the adaptive walk, as LiveCount says, and by the others they are not
// scored. Few exclusions, at most 200 or the widest beam of level 0, take part in the fixed and the adaptive
// walk, and are left out of the results. More of them are a filter too: where few items are selected, these
// are all scored. Otherwise the proxy walk looks for selected items only, or the adaptive walk, in place of
// the fixed one too, goes on until it has expanded as many selected items as its beam says.
struct WalkOptions {
  int64_t expand = 0;  // 0: the fixed walk.
  bool score_all = false;
  const ProxyOptions* proxy = nullptr;   // Null: no proxy walk. Must live until the search is done.
  bool proxy_only_filters = false;       // Whether the proxy walk is for searches that filter alone.
  absl::Span<const int32_t> excluded{};  // Positions that are not returned.
  const RowFilter* filter = nullptr;     // Null: every item passes. Must live until the search is done.
};

// How a search finds selected items.
enum class FilterPath {
  kNone,    // It does not filter: all items are selected, or all but a few.
  kExact,   // All selected items are scored.
  kScan,    // Those that are best by the guess, of all selected ones, are scored.
  kSurvey,  // The walk by guesses leads to those that are scored.
  kWalk,    // The adaptive walk is widened.
};

// How many results of a search for the best `k` are worth scoring again more exactly: a margin of a quarter
// and 16 for items that narrow numbers ranked below k.
inline int64_t WithRescoreMargin(int64_t k) { return k + k / 4 + 16; }

// One search, driven by its caller, who computes the scores:
//
//   search.Start(level_topn);
//   while (!search.done()) search.Advance(ScoresOf(search.frontier()));
//   search.TopK(ids, scores);
//
// Start begins the next search and reuses the memory. The graph must outlive the search. Not thread-safe: one
// thread at a time may use it, but each call may come from another one.
class BeamSearch {
 public:
  // For graphs of up to `capacity` positions; SetGraph comes before the first search.
  explicit BeamSearch(int32_t capacity) : capacity_(capacity), visited_(capacity), selector_(capacity) {}
  explicit BeamSearch(const Graph* graph) : BeamSearch(graph->num_items()) { SetGraph(graph); }

  // Sets the graph of the searches to come.
  void SetGraph(const Graph* graph) { graph_ = graph; }

  // `level_topn` is one row that CheckLevelTopn has accepted; it must live until the search is done.
  void Start(absl::Span<const int32_t> level_topn, const WalkOptions& options = {});

  bool done() const { return done_; }

  // The positions whose scores the walk waits for, each once. Empty only when done().
  absl::Span<const int32_t> frontier() const { return frontier_; }

  // Goes on with the scores of frontier(), in the same order. NaN drops the item.
  void Advance(absl::Span<const float> scores);

  // Writes the best `ids.size()` selected items, best first, padded with id -1 and score -infinity. Returns
  // how many were found. `scores` is as long as `ids`.
  int64_t TopK(absl::Span<int64_t> ids, absl::Span<float> scores);

  // Keeps the best `count` results of a search that is done, and returns their positions, best first, so that
  // the caller can score them again more exactly.
  absl::Span<const int32_t> KeepResults(int64_t count);

  // Replaces the scores of what KeepResults returned, in the same order. NaN drops the item.
  void Rescore(absl::Span<const float> scores);

  // Of this search so far; items that are scored again count once.
  int64_t items_scored() const { return items_scored_; }
  int64_t nan_items() const { return nan_items_; }
  int64_t hops() const { return hops_; }

  // How many live items the filter passes, excluded ones too; -1 where they were not counted.
  int64_t passing() const { return selector_.passing(); }
  // How the search has filtered; of a search that is done.
  FilterPath filter_path() const { return path_; }
  // Whether every selected item was scored, so that no better one exists.
  bool exact() const { return scoring_all_; }

 private:
  // Whether to score all selected items costs no more than to look for the best of them.
  bool ScoringAllCostsLess(bool with_proxy) const;
  void StartScoringAll();
  void StartFromEntryPoints();
  void StartProxyWalk();
  // Goes on with the proxy walk, or when that has ended, to the end or to another walk.
  void AdvanceProxyWalk(absl::Span<const float> scores);
  // The widest beam of a level, whose first beam is level_topn_[beam].
  int64_t WidestBeam(int level, int beam) const;
  int64_t WidthOfLevel0() const;
  bool adaptive() const { return options_.expand > 0; }
  // Sets frontier_ to the next positions of a search that scores all; at the end there are none.
  void NextPositions();
  // Starts the level with what the walk has found so far.
  void EnterLevel(int level);
  // Empties the pool of an adaptive walk.
  void ResetPool();
  // Moves the entry points beyond the entry beam from candidates_ to waiting_, which begins with the best of
  // them, as many as level 0 is wide, unless items are deleted. All entry points are visited.
  void KeepEntryPoints();
  // Keeps the best `k` of `candidates`, in any order.
  void KeepBest(int64_t k, std::vector<Candidate>* candidates) const;
  // Ends the search: results_ are left, of which some may not be selected.
  void Finish();
  // Moves entry points from waiting_ to the pool, as level 0 begins: the best, which may be expanded. The
  // others are merged when it ends, most of them then too bad to be sorted.
  void MergeEntryPoints();
  // Sets candidates_ to what the next hop expands; false when the level has ended.
  bool BeginHop();
  // Sets frontier_ to the new neighbours of candidates_.
  void Expand();
  // Sets `candidates` to the nodes of frontier_ with their scores; counts and drops NaN.
  void TakeScores(absl::Span<const float> scores, std::vector<Candidate>* candidates);
  // Sets results_ to the result of the search, or, of a fixed walk, to what the level below starts with.
  void EndLevel();
  // Goes on to the next hop, the next level or the end, until there is something to score.
  void SkipEmptyHops();

  const Graph* graph_ = nullptr;
  const int32_t capacity_;
  VisitedSet visited_;
  ItemSelector selector_;
  absl::Span<const int32_t> level_topn_;
  WalkOptions options_;
  std::vector<Candidate> results_;     // R of docs/design.md#the-search.
  std::vector<Candidate> candidates_;  // C.
  std::vector<int32_t> frontier_;      // F.
  std::vector<Candidate> waiting_;     // Of an adaptive walk: entry points that join the pool at level 0.
  CandidatePool pool_;                 // Of an adaptive walk: takes the place of R until the walk ends.
  bool filtering_ = false;             // Whether the search looks for selected items.
  FilterPath path_ = FilterPath::kNone;
  bool scoring_all_ = false;          // Whether all items, or all selected ones, are scored.
  int64_t next_position_ = 0;         // Of such a search.
  std::unique_ptr<ProxyWalk> proxy_;  // Made by the first search that needs it.
  bool in_proxy_walk_ = false;
  int level_ = 0;      // num_levels() while the entry points are scored.
  int hops_left_ = 0;  // Of a fixed walk, on this level.
  int beam_ = 0;       // Index into level_topn_ of the current hop's beam.
  bool done_ = true;
  int64_t items_scored_ = 0;
  int64_t nan_items_ = 0;
  int64_t hops_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_BEAM_SEARCH_H_
