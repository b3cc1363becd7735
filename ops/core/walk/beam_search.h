// The walk of design section 4, apart from where scores come from.
#ifndef NANN_OPS_CORE_WALK_BEAM_SEARCH_H_
#define NANN_OPS_CORE_WALK_BEAM_SEARCH_H_

#include <cstdint>
#include <vector>

#include "../index/graph.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "candidate_pool.h"
#include "top_k.h"
#include "visited_set.h"

namespace nann {

inline constexpr int32_t kMaxBeam = 65536;

// Checks one request: `level_topn` [batch, beams_per_row] row by row, or one row that all of the batch shares
// (then `level_topn` is [beams_per_row]). InvalidArgument names the index, the value and the bound when the
// length is not the graph's, a value is outside [1, kMaxBeam], or the sum of all beams over the batch, where
// each row counts the largest final k (as wide as its padded answer is), is beyond `max_work`.
absl::Status CheckLevelTopn(const Graph& graph, absl::Span<const int32_t> level_topn, int64_t beams_per_row,
                            int64_t batch, int64_t max_work);

// How a level is walked.
//
// Fixed (`expand` is 0), the design's section 4: as many hops as the index says, each expands all of the last
// hop's beam.
//
// Adaptive: a level's widest beam says how many of its best candidates are expanded. A hop expands the
// `expand` best of these that were not expanded yet, and the level ends when there is none left: an easy user
// needs few hops, a hard one as many as it takes. On level 0 the pool keeps the best k, and as many more as
// items may be excluded, however narrow the beam is. With `expand` 1 this is Algorithm 2 of the HNSW paper
// (arXiv 1603.09320); more of them at once fill the scorer's tiles.
struct WalkOptions {
  int64_t expand = 0;
  int64_t excluded = 0;
};

// One search, driven from outside: score frontier(), call Advance with the scores, until done().
//
//   search.Start(level_topn);
//   while (!search.done()) search.Advance(ScoresOf(search.frontier()));
//   search.TopK(k, excluded, ids, scores);
//
// Keeps its memory between searches: Start begins the next one. Not thread-safe; `graph` must outlive it.
class BeamSearch {
 public:
  explicit BeamSearch(const Graph* graph) : graph_(graph), visited_(graph->num_items()) {}

  // `level_topn` has passed CheckLevelTopn and must live until the search is done.
  void Start(absl::Span<const int32_t> level_topn, const WalkOptions& options = {});

  bool done() const { return done_; }

  // The positions that the walk waits for, each once; not empty unless done().
  absl::Span<const int32_t> frontier() const { return frontier_; }

  // `scores[i]` belongs to `frontier()[i]`.
  void Advance(absl::Span<const float> scores);

  // The best `ids.size()` items that are not among the positions `excluded`, best first, padded with id -1
  // and score -infinity. Returns how many were found.
  int64_t TopK(absl::Span<const int32_t> excluded, absl::Span<int64_t> ids, absl::Span<float> scores);

  // Keeps the best `count` results and returns their positions, best first: what is worth scoring again, more
  // exactly, once the search is done.
  absl::Span<const int32_t> KeepResults(int64_t count);

  // `scores[i]` takes the place of the score of KeepResults()[i]; NaN drops the item.
  void Rescore(absl::Span<const float> scores);

  int64_t items_scored() const { return items_scored_; }
  int64_t nan_items() const { return nan_items_; }
  int64_t hops() const { return hops_; }

 private:
  bool adaptive() const { return options_.expand > 0; }
  // The pool of the level that is entered.
  void ResetPool();
  void EnterLevel(int level);
  // Chooses the candidates to expand; false when the level is done.
  bool BeginHop();
  void Expand();
  // What the level hands down, or the result.
  void EndLevel();
  // Moves on to the next hop, the next level or the end until there is something to score.
  void SkipEmptyHops();

  const Graph* graph_;
  VisitedSet visited_;
  absl::Span<const int32_t> level_topn_;
  WalkOptions options_;
  std::vector<Candidate> results_;     // R
  std::vector<Candidate> candidates_;  // C
  std::vector<int32_t> frontier_;      // N
  CandidatePool pool_;                 // Of an adaptive walk, in place of R.
  int level_ = 0;                      // num_levels() while the entry points are scored.
  int hops_left_ = 0;
  int beam_ = 0;  // Index into level_topn_ of the hop under way.
  bool done_ = true;
  int64_t items_scored_ = 0;
  int64_t nan_items_ = 0;
  int64_t hops_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_BEAM_SEARCH_H_
