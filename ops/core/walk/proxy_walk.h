// The proxy walk: most items are looked at by a cheap guess of their score, and few are scored
// (docs/design.md#the-search).
#ifndef NANN_OPS_CORE_WALK_PROXY_WALK_H_
#define NANN_OPS_CORE_WALK_PROXY_WALK_H_

#include <cstdint>
#include <vector>

#include "../index/graph.h"
#include "../index/table.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "candidate_pool.h"
#include "gated_walk.h"
#include "item_selector.h"
#include "proxy_model.h"
#include "visited_set.h"

namespace nann {

// What an export knows for the proxy walk. The tables must outlive every search.
struct ProxyOptions {
  // [N, columns], columns a multiple of kProxyLanes: see ProxyModel.
  const Table* features = nullptr;
  // Ascending: group x N + position, N of the base alone. Group 0 are the anchors; every other group is a
  // cluster of items.
  absl::Span<const int64_t> samples;
  double noise = 0;    // Of ProxyModel, above 0.
  int64_t survey = 1;  // Width of the survey, as a multiple of the gated walk's; at least 1.
  double slack = 0;    // Of GatedWalk.
  int64_t batch = 1;   // Items that are scored at once, at least 1.
  // Rounds end where fewer than one of so many scores is a result, at least 1; with probes or a filter, than
  // one of 8 or more.
  int64_t patience = 2;
  // Whether the survey starts from all samples too, and searches without a filter have the longer rounds and
  // the probes of those with one.
  bool probes = false;
};

// InvalidArgument, naming what was expected and found, when the tables are not as ProxyOptions says.
absl::Status CheckProxyOptions(const ProxyOptions& options, int32_t num_items);

// One search in six steps:
//   1. The anchors are scored, their scores standardized and fitted. When they say nothing, the walk gives
//      up: one is not finite, or all are equal.
//   2. The best item of each cluster, by the guess, is scored, so that no region is overlooked.
//   3. The survey walks level 0 by the guess alone, from what is scored and, with `probes`, from all samples.
//      The best that it meets become candidates.
//   Where few items are selected, or the survey meets too few of them, a scan guesses for each in its place.
//   4. In rounds the best candidates are scored and the guess is fitted again, while this finds results.
//   5. With a filter, or `probes`, the best candidates that are not near a scored item are scored: a region
//      that the guess takes for bad is seen once. Near is a neighbour, and a neighbour of one. The results of
//      a filter are ordinary items, so a region where the guess errs is among them more often.
//   6. The gated walk goes on from the best, by true scores.
// Steps 1 and 2 score items whether they are selected or not; the others score selected items only.
//
// Driven by its caller as BeamSearch is: Start, then Advance with the scores of frontier() until done().
// Keeps its memory between searches. Not thread-safe.
class ProxyWalk {
 public:
  // For graphs of up to `capacity` positions.
  explicit ProxyWalk(int32_t capacity) : visited_(capacity) {}

  // `graph` must live until the walk is done. `width`: how many of the best are expanded by true scores.
  // `results`: how many the caller needs. `selector`: null selects all items; it must live as long.
  // `filtering`: whether it leaves out so many that the walk has to look for the others. Where it leaves out
  // few, the walk is that of all items, which scores and returns selected ones.
  void Start(const Graph* graph, const ProxyOptions& options, int64_t width, int64_t results,
             const ItemSelector* selector = nullptr, bool filtering = false);

  bool done() const { return step_ == Step::kDone; }
  // Whether the walk is done without results: another walk must answer.
  bool gave_up() const { return gave_up_; }
  // Whether the candidates of the rounds come from the scan.
  bool scanned() const { return scanned_; }

  // The positions whose scores the walk waits for, each once in a search. Empty only when done().
  absl::Span<const int32_t> frontier() const {
    return step_ == Step::kGated ? gated_.frontier() : absl::MakeConstSpan(frontier_);
  }

  // Goes on with the scores of frontier(), in the same order. NaN drops the item.
  void Advance(absl::Span<const float> scores);

  // All items that were scored, in that order, with their scores; some may be NaN.
  absl::Span<const Candidate> scored() const { return scored_; }

 private:
  enum class Step { kAnchors, kClusters, kRounds, kProbes, kGated, kDone };

  // Sets the scale of the scores by those of the anchors; false when they say nothing.
  bool SetScale(absl::Span<const float> scores);
  // Adds scores of frontier_ to the fit.
  void Observe(absl::Span<const float> scores);
  void ChooseClusterTops();
  // Sets candidates_ to those of the rounds, best first, scored ones among them.
  void FindCandidates();
  // How many candidates the rounds start with.
  int64_t CandidatesWanted() const;
  // How many items the survey keeps, so that `width` of them are selected.
  int64_t WidestSurvey(int64_t width) const;
  // Whether rounds are longer, and probes follow them.
  bool probing() const { return filtering_ || options_.probes; }
  // How many of those that the survey has found are kept.
  int64_t CandidatesKept() const;
  // Sets pool_ to the best items that the survey meets.
  void Survey();
  // Appends the samples that are not visited yet, and marks them.
  void AppendSamples(std::vector<int32_t>* positions);
  // With a selector: whether to guess for every selected item costs less than to meet enough of them in the
  // survey.
  bool ScanCostsLess() const;
  // Sets pool_ to the best of all selected items.
  void Scan();
  void StartRounds();
  // Sets frontier_ to the best candidates, or goes on to the gated walk when there are none.
  void ChooseRound();
  bool RoundsHaveEnded() const;
  // Sets candidates_ to those in left_, with new guesses.
  void GuessLeft();
  void StartProbes();
  // Sets frontier_ to the next probes, or goes on to the gated walk when there are none.
  void ChooseProbes();
  // Marks an item that is scored, and its neighbours, in visited_.
  void MarkAround(int32_t position);
  // Whether the item or a neighbour of it is marked.
  bool IsNearMarked(int32_t position) const;
  void StartGatedWalk();
  // Sets guesses_ to the guesses for `positions`.
  void Guess(absl::Span<const int32_t> positions);
  // Guesses for `positions` and merges them, as candidates with these scores, into pool_.
  void MergeGuesses(absl::Span<const int32_t> positions);
  // The score of the keep_-th best so far, -infinity when there are fewer.
  float KthScore();

  const Graph* graph_ = nullptr;
  ProxyOptions options_;
  const ItemSelector* selector_ = nullptr;  // Null: all items are selected.
  bool filtering_ = false;                  // False without a selector.
  int64_t width_ = 0;
  int64_t keep_ = 0;  // Rules that count results count this many.
  Step step_ = Step::kDone;
  bool gave_up_ = false;
  bool scanned_ = false;
  ScoreScale scale_;
  ProxyModel model_;
  VisitedSet visited_;  // Of the survey; its seeds are in it. Of the probes: see MarkAround.
  CandidatePool pool_;  // Of the survey.
  GatedWalk gated_;
  std::vector<Candidate> scored_;
  std::vector<Candidate> selected_;  // Those of them that are selected, where there is a selector.
  std::vector<int32_t> frontier_;
  std::vector<int32_t> left_;     // Candidates of the rounds; kTaken in place of those that are scored.
  std::vector<float> left_rows_;  // Their features.
  float kth_ = 0;                 // KthScore before the round.
  int64_t probe_rounds_ = 0;      // Of probes, still to come.
  int64_t fresh_ = 0;             // How many scores of the last round are above it.
  std::vector<Candidate> candidates_;
  std::vector<float> rows_;
  std::vector<float> guesses_;
  std::vector<double> standardized_;
  std::vector<float> best_;  // Scratch of KthScore.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_PROXY_WALK_H_
