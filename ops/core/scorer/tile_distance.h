// Recognizing scorers that are an inner product or a distance.
#ifndef NANN_OPS_CORE_SCORER_TILE_DISTANCE_H_
#define NANN_OPS_CORE_SCORER_TILE_DISTANCE_H_

#include <optional>
#include <vector>

#include "tile_graph.h"

namespace nann {

// score = (-) sum of row * vector, or (-) sum of (row - vector)^2. Both are nodes.
struct TileDistance {
  int table = 0;
  int vector = 0;
  bool squared = false;
  bool negated = false;
};

// None when the scorer that ends in `output` is another one.
std::optional<TileDistance> MatchDistance(const std::vector<TileNode>& nodes, int output);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_TILE_DISTANCE_H_
