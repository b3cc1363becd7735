#include "tile_distance.h"

#include <utility>

namespace nann {
namespace {

// Fills in table and vector when (a, b) are those two.
bool MatchPair(const std::vector<TileNode>& nodes, int a, int b, TileDistance* distance) {
  if (!nodes[a].shape.per_item) std::swap(a, b);
  const TileShape& vector = nodes[b].shape;
  if (nodes[a].op != TileOp::kTable || vector.per_item) return false;
  if (vector.width * vector.height != nodes[a].shape.width) return false;
  distance->table = a;
  distance->vector = b;
  return true;
}

// What is summed over the columns.
bool MatchSummand(const std::vector<TileNode>& nodes, int at, TileDistance* distance) {
  const TileNode* node = &nodes[at];
  if (node->op == TileOp::kUnary && node->unary == UnaryOp::kSquare) {
    node = &nodes[node->inputs[0]];
    if (node->op != TileOp::kBinary || node->binary != BinaryOp::kSub) return false;
    distance->squared = true;
  } else if (node->op != TileOp::kBinary) {
    return false;
  } else if (node->binary == BinaryOp::kSquaredDifference) {
    distance->squared = true;
  } else if (node->binary != BinaryOp::kMul) {
    return false;
  }
  return MatchPair(nodes, node->inputs[0], node->inputs[1], distance);
}

int SkipReshapes(const std::vector<TileNode>& nodes, int at) {
  while (nodes[at].op == TileOp::kReshape) at = nodes[at].inputs[0];
  return at;
}

}  // namespace

std::optional<TileDistance> MatchDistance(const std::vector<TileNode>& nodes, int output) {
  TileDistance distance;
  int at = SkipReshapes(nodes, output);
  if (nodes[at].op == TileOp::kUnary && nodes[at].unary == UnaryOp::kNeg) {
    distance.negated = true;
    at = SkipReshapes(nodes, nodes[at].inputs[0]);
  }
  const TileNode& node = nodes[at];
  const bool matched = node.op == TileOp::kMatMul
                           ? MatchPair(nodes, node.inputs[0], node.inputs[1], &distance)
                           : node.op == TileOp::kReduce && node.reduce == ReduceOp::kSum &&
                                 MatchSummand(nodes, node.inputs[0], &distance);
  if (!matched) return std::nullopt;
  return distance;
}

}  // namespace nann
