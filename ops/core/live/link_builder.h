// Chooses the links of items that are inserted into a graph, as HNSW does (arXiv 1603.09320). docs/live.md
// has the algorithm, and tests compare it with a NumPy version.
#ifndef NANN_OPS_CORE_LIVE_LINK_BUILDER_H_
#define NANN_OPS_CORE_LIVE_LINK_BUILDER_H_

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "../walk/visited_set.h"
#include "absl/types/span.h"
#include "editable_graph.h"

namespace nann {

// Inserts items one by one, each into the graph with all earlier ones. Not thread-safe.
class LinkBuilder {
 public:
  struct Options {
    int32_t m = 0;                // Links of a node at each level above 0; twice as many at level 0.
    int32_t ef_construction = 0;  // Candidates that are looked at for the links of a node.
    bool inner_product = false;   // Half of the links lead to large inner products, half to near items.
  };

  // `graph` must outlive the builder.
  LinkBuilder(EditableGraph* graph, const Options& options);

  // Adds an item that lives on the levels 0 to min(level, num_levels() - 1), and links it. `vector` has dim()
  // finite values. Returns its position.
  int32_t Insert(absl::Span<const float> vector, int32_t level);

  // To be called after the graph was changed by another.
  void FollowGraph();

 private:
  enum class Metric { kL2, kInnerProduct };

  struct Near {
    float distance;
    int32_t position;
    bool operator<(const Near& other) const {
      return distance != other.distance ? distance < other.distance : position < other.position;
    }
  };

  // A search's view of one level.
  struct Search {
    Metric metric;
    int level;
    size_t ef;
    bool with_dead;  // Whether deleted items are results too.
  };

  float Distance(Metric metric, const float* a, const float* b) const;
  Near NearOf(Metric metric, const float* query, int32_t position);

  // The nearest items to `query` that are found from `starts`, at most `ef`, nearest first.
  std::vector<Near> SearchLevel(const float* query, const Search& search, const std::vector<Near>& starts);

  // candidates[l] for the levels 0 to `level`: where links of an item with this vector may lead.
  std::vector<std::vector<Near>> Candidates(const float* query, Metric metric, int32_t level);

  // Of `candidates`, nearest first, those that are nearer to the query than to each one chosen before; at
  // most `most`.
  std::vector<int32_t> Select(Metric metric, const std::vector<Near>& candidates, size_t most);

  // Select for each metric, each position once.
  std::vector<int32_t> SelectAll(const std::vector<std::vector<Near>>& candidates_of_metric, int level);

  void LinkTo(int level, int32_t from, int32_t to);
  void Prune(int level, int32_t position, int32_t added);
  std::vector<int32_t> PruneCandidates(int level, int32_t position, int32_t added);
  void HangCopy(int32_t representative, int32_t copy);
  std::deque<int32_t>& OpenCopies(int32_t representative);
  size_t MostLinks(int level) const { return static_cast<size_t>(level == 0 ? 2 * options_.m : options_.m); }

  EditableGraph& graph_;
  const Options options_;
  const std::vector<Metric> metrics_;
  VisitedSet visited_;
  std::vector<float> row_;      // [dim]
  std::vector<float> owner_;    // [dim]: the item whose list is pruned.
  std::vector<float> chosen_;   // [chosen, dim]: vectors of the items that Select has chosen.
  std::vector<int32_t> fresh_;  // Neighbours that a search meets first.
  std::unordered_map<int32_t, std::deque<int32_t>> open_copies_;  // Copies on which others can hang, by item.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_LINK_BUILDER_H_
