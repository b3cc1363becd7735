// The last part of a proxy walk: expands the best by their true scores, and scores only those neighbours of
// which the guess says that they may be among the results.
#ifndef NANN_OPS_CORE_WALK_GATED_WALK_H_
#define NANN_OPS_CORE_WALK_GATED_WALK_H_

#include <cstdint>
#include <vector>

#include "../index/graph.h"
#include "../index/table.h"
#include "absl/types/span.h"
#include "candidate_pool.h"
#include "item_selector.h"
#include "position_map.h"
#include "proxy_model.h"

namespace nann {

// Standardizes the scores of one user: z = (score - mean) / deviation.
struct ScoreScale {
  double mean = 0;
  double deviation = 1;
  double Standardize(float score) const { return (static_cast<double>(score) - mean) / deviation; }
};

// One search. Start, then as long as frontier() is not empty, Advance with its scores. `graph`, `model`
// and `features` are used until the walk ends. Keeps its memory between searches. Not thread-safe.
class GatedWalk {
 public:
  struct Options {
    int64_t width = 0;  // How many of the best are expanded.
    int64_t keep = 0;   // The rank whose score an item must come near to be scored.
    double slack = 0;   // How near: so many deviations of the guesses' errors.
    int64_t batch = 0;  // Items that are scored at once.
  };

  // Begins with all items that were scored, in the order in which they were; each stands there once. A NaN
  // score drops an item. With a `selector`, which must live until the walk ends, only what it selects is
  // expanded and scored.
  void Start(const Graph* graph, const Options& options, ProxyModel* model, const Table* features,
             const ScoreScale& scale, absl::Span<const Candidate> scored, const ItemSelector* selector);

  absl::Span<const int32_t> frontier() const { return frontier_; }
  void Advance(absl::Span<const float> scores);

 private:
  // What the walk knows of an item that it met.
  struct Item {
    int32_t position;
    float guess;
    int32_t neighbors;  // Expansions that met the item,
    double residuals;   // and the sum of their errors: true score minus guess.
  };

  // Guesses the scores of items_[first...]. The positions are set.
  void GuessFrom(size_t first);
  void SetFirstVariance(absl::Span<const Candidate> scored);
  // Sets frontier_ to what is scored next; empty when the walk has ended.
  void FindFrontier();
  // Hands the error of the guess for `expanded` on to its neighbours; in place of one that is not selected,
  // to the selected neighbours of that.
  void ReachNeighborsOf(const Candidate& expanded);
  // Hands `error` on to those of these items that are not scored.
  void Reach(absl::Span<const int32_t> positions, double error);
  // Guesses anew for the items in touched_, from their own features and the errors around them.
  void Refine();
  // The least refined guess that is worth a score.
  double Cut() const;

  const Graph* graph_ = nullptr;
  Options options_;
  ProxyModel* model_ = nullptr;
  const Table* features_ = nullptr;
  ScoreScale scale_;
  const ItemSelector* selector_ = nullptr;  // Null: all items are selected.
  double variance_ = 0;                     // Of the guesses' errors.
  CandidatePool pool_;                      // The best that are scored.
  PositionMap numbers_;                     // Of positions in items_ and refined_.
  std::vector<Item> items_;
  std::vector<double> refined_;   // NaN: scored, or not yet refined.
  std::vector<int32_t> touched_;  // Items that a hop has met; one may stand twice.
  std::vector<int32_t> chosen_;   // Items of frontier_.
  std::vector<int32_t> frontier_;
  std::vector<Candidate> candidates_;
  std::vector<int32_t> selected_;   // Scratch of ReachNeighborsOf.
  std::vector<int32_t> positions_;  // Scratch of GuessFrom.
  std::vector<float> guesses_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_GATED_WALK_H_
