// What a scorer computes for a tile of items, as a graph of the few operations that the native executor
// knows.
#ifndef NANN_OPS_CORE_SCORER_TILE_GRAPH_H_
#define NANN_OPS_CORE_SCORER_TILE_GRAPH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tile_kernels.h"

namespace nann {

// Either one row an item, [tile, width] (`is_vector`: [tile]), or the same for all items of a tile: a matrix
// [height, width], a vector [width] or a scalar (height 1; `rank` tells them apart).
struct TileShape {
  bool per_item = false;
  int rank = 2;
  int64_t height = 1;  // Not of a shape that is per item.
  int64_t width = 1;

  std::string DebugString() const;
};

enum class TileOp {
  kTable,     // Rows of item table `index`.
  kUser,      // User tensor `index`.
  kConstant,  // `values`.
  kMatMul,    // [tile, depth] x [depth, width]; `transposed`: x [width, depth] transposed.
  kBinary,
  kUnary,
  kPrelu,    // `values` [width] times x where x is negative.
  kSoftmax,  // Over the columns.
  kReduce,   // Over the columns.
  kSlice,    // Columns [begin, begin + width).
  kConcat,   // Side by side.
  kReshape,  // [tile, 1] to [tile] or back.
};

struct TileNode {
  TileOp op = TileOp::kConstant;
  std::vector<int> inputs;  // Earlier nodes.
  TileShape shape;
  int index = 0;
  int64_t begin = 0;
  bool transposed = false;
  BinaryOp binary = BinaryOp::kAdd;
  UnaryOp unary = UnaryOp::kNeg;
  ReduceOp reduce = ReduceOp::kSum;
  std::vector<float> values;
};

// Builds a graph from its inputs on, working out and checking shapes: every method returns the new node, or
// InvalidArgument that says what the executor does not compute. Not thread-safe.
class TileGraph {
 public:
  int AddTable(int table, int64_t width);
  absl::StatusOr<int> AddUser(int user, absl::Span<const int64_t> shape);
  absl::StatusOr<int> AddConstant(absl::Span<const int64_t> shape, std::vector<float> values);
  absl::StatusOr<int> MatMul(int rows, int matrix, bool transposed);
  absl::StatusOr<int> Binary(BinaryOp op, int a, int b);
  absl::StatusOr<int> Unary(UnaryOp op, int x);
  absl::StatusOr<int> Softmax(int x);
  absl::StatusOr<int> Reduce(ReduceOp op, int x, bool keep_column);
  absl::StatusOr<int> Slice(int x, int64_t begin, int64_t width);
  absl::StatusOr<int> Concat(absl::Span<const int> parts);
  absl::StatusOr<int> Reshape(int x, int rank);

  // Marks the scores: [tile] or [tile, 1].
  absl::Status SetOutput(int node);

  const std::vector<TileNode>& nodes() const { return nodes_; }
  int output() const { return output_; }
  int num_tables() const { return num_tables_; }
  int num_users() const { return num_users_; }

 private:
  int Add(TileNode node);
  absl::Status CheckPerItem(const char* what, int node) const;
  // [height, width] as it stands in TensorFlow's shape; at most rank 2.
  static absl::StatusOr<TileShape> SharedShape(absl::Span<const int64_t> shape);

  std::vector<TileNode> nodes_;
  int output_ = -1;
  int num_tables_ = 0;
  int num_users_ = 0;
};

// The same scores, with relu(x) + a * relu(-x) in whatever spelling as one kPrelu.
void FusePrelu(std::vector<TileNode>* nodes);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_TILE_GRAPH_H_
