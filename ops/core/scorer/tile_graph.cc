#include "tile_graph.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace nann {

std::string TileShape::DebugString() const {
  if (per_item) return rank == 1 ? "[tile]" : absl::StrCat("[tile, ", width, "]");
  if (rank == 0) return "[]";
  return rank == 1 ? absl::StrCat("[", width, "]") : absl::StrCat("[", height, ", ", width, "]");
}

int TileGraph::Add(TileNode node) {
  nodes_.push_back(std::move(node));
  return static_cast<int>(nodes_.size()) - 1;
}

absl::StatusOr<TileShape> TileGraph::SharedShape(absl::Span<const int64_t> shape) {
  if (shape.size() > 2) {
    return absl::InvalidArgumentError(absl::StrCat("a tensor of rank ", shape.size(), " for all items"));
  }
  TileShape result;
  result.rank = static_cast<int>(shape.size());
  result.width = shape.empty() ? 1 : shape.back();
  result.height = shape.size() == 2 ? shape[0] : 1;
  if (result.width < 1 || result.height < 1) {
    return absl::InvalidArgumentError(absl::StrCat("a tensor without elements ", result.DebugString()));
  }
  return result;
}

absl::Status TileGraph::CheckPerItem(const char* what, int node) const {
  if (nodes_[node].shape.per_item) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " of a tensor that is the same for all items, ", nodes_[node].shape.DebugString()));
}

int TileGraph::AddTable(int table, int64_t width) {
  TileNode node;
  node.op = TileOp::kTable;
  node.index = table;
  node.shape = {true, 2, 1, width};
  num_tables_ = std::max(num_tables_, table + 1);
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::AddUser(int user, absl::Span<const int64_t> shape) {
  absl::StatusOr<TileShape> known = SharedShape(shape);
  if (!known.ok()) return known.status();
  TileNode node;
  node.op = TileOp::kUser;
  node.index = user;
  node.shape = *known;
  num_users_ = std::max(num_users_, user + 1);
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::AddConstant(absl::Span<const int64_t> shape, std::vector<float> values) {
  absl::StatusOr<TileShape> known = SharedShape(shape);
  if (!known.ok()) return known.status();
  if (static_cast<int64_t>(values.size()) != known->height * known->width) {
    return absl::InvalidArgumentError("a constant whose values do not fill its shape");
  }
  TileNode node;
  node.shape = *known;
  node.values = std::move(values);
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::MatMul(int rows, int matrix, bool transposed) {
  const TileShape& a = nodes_[rows].shape;
  const TileShape& b = nodes_[matrix].shape;
  if (!a.per_item || a.rank != 2 || b.per_item || b.rank != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("a matrix product ", a.DebugString(), " x ", b.DebugString()));
  }
  const int64_t depth = transposed ? b.width : b.height;
  if (depth != a.width) {
    return absl::InvalidArgumentError(absl::StrCat("a matrix product of depths ", a.width, " and ", depth));
  }
  TileNode node;
  node.op = TileOp::kMatMul;
  node.inputs = {rows, matrix};
  node.transposed = transposed;
  node.shape = {true, 2, 1, transposed ? b.height : b.width};
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::Binary(BinaryOp op, int a, int b) {
  const TileShape& x = nodes_[a].shape;
  const TileShape& y = nodes_[b].shape;
  // TensorFlow lines up the last axes: [tile] fits [tile] and what is one value for all items only.
  const bool ranks_fit = (x.per_item ? x.rank : 2) == (y.per_item ? y.rank : 2) ||
                         (!x.per_item && x.width * x.height == 1 && x.rank <= 1) ||
                         (!y.per_item && y.width * y.height == 1 && y.rank <= 1);
  const bool heights_fit = x.height == 1 && y.height == 1;
  const bool widths_fit = x.width == y.width || x.width == 1 || y.width == 1;
  if ((!x.per_item && !y.per_item) || !ranks_fit || !heights_fit || !widths_fit) {
    return absl::InvalidArgumentError(
        absl::StrCat("an elementwise operation of ", x.DebugString(), " and ", y.DebugString()));
  }
  TileNode node;
  node.op = TileOp::kBinary;
  node.binary = op;
  node.inputs = {a, b};
  const TileShape& like = x.per_item ? x : y;
  node.shape = {true, like.rank, 1, std::max(x.width, y.width)};
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::Unary(UnaryOp op, int x) {
  const absl::Status status = CheckPerItem("an elementwise operation", x);
  if (!status.ok()) return status;
  TileNode node;
  node.op = TileOp::kUnary;
  node.unary = op;
  node.inputs = {x};
  node.shape = nodes_[x].shape;
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::Softmax(int x) {
  const absl::Status status = CheckPerItem("a softmax", x);
  if (!status.ok()) return status;
  if (nodes_[x].shape.rank != 2) return absl::InvalidArgumentError("a softmax over the items of a tile");
  TileNode node;
  node.op = TileOp::kSoftmax;
  node.inputs = {x};
  node.shape = nodes_[x].shape;
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::Reduce(ReduceOp op, int x, bool keep_column) {
  const absl::Status status = CheckPerItem("a reduction", x);
  if (!status.ok()) return status;
  if (nodes_[x].shape.rank != 2) return absl::InvalidArgumentError("a reduction over the items of a tile");
  TileNode node;
  node.op = TileOp::kReduce;
  node.reduce = op;
  node.inputs = {x};
  node.shape = {true, keep_column ? 2 : 1, 1, 1};
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::Slice(int x, int64_t begin, int64_t width) {
  const absl::Status status = CheckPerItem("a slice", x);
  if (!status.ok()) return status;
  const TileShape& shape = nodes_[x].shape;
  if (shape.rank != 2 || begin < 0 || width < 1 || begin + width > shape.width) {
    return absl::InvalidArgumentError(
        absl::StrCat("columns ", begin, " to ", begin + width, " of ", shape.DebugString()));
  }
  if (width == shape.width) return x;
  TileNode node;
  node.op = TileOp::kSlice;
  node.inputs = {x};
  node.begin = begin;
  node.shape = {true, 2, 1, width};
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::Concat(absl::Span<const int> parts) {
  TileNode node;
  node.op = TileOp::kConcat;
  node.shape = {true, 2, 1, 0};
  for (int part : parts) {
    const TileShape& shape = nodes_[part].shape;
    if (!shape.per_item || shape.rank != 2) {
      return absl::InvalidArgumentError(absl::StrCat("a concatenation with ", shape.DebugString()));
    }
    node.inputs.push_back(part);
    node.shape.width += shape.width;
  }
  if (parts.empty()) return absl::InvalidArgumentError("a concatenation of nothing");
  return Add(std::move(node));
}

absl::StatusOr<int> TileGraph::Reshape(int x, int rank) {
  const absl::Status status = CheckPerItem("a reshape", x);
  if (!status.ok()) return status;
  const TileShape& shape = nodes_[x].shape;
  if (rank < 1 || rank > 2 || (rank != shape.rank && shape.width != 1)) {
    return absl::InvalidArgumentError(absl::StrCat("a reshape of ", shape.DebugString(), " to rank ", rank));
  }
  TileNode node;
  node.op = TileOp::kReshape;
  node.inputs = {x};
  node.shape = {true, rank, 1, shape.width};
  return Add(std::move(node));
}

absl::Status TileGraph::SetOutput(int node) {
  const TileShape& shape = nodes_[node].shape;
  if (!shape.per_item || shape.width != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("scores of shape ", shape.DebugString(), ", expected [tile]"));
  }
  output_ = node;
  return absl::OkStatus();
}

namespace {

bool IsUnary(const TileNode& node, UnaryOp op) { return node.op == TileOp::kUnary && node.unary == op; }
bool IsBinary(const TileNode& node, BinaryOp op) { return node.op == TileOp::kBinary && node.binary == op; }

// a * relu(-x), as {x, a}; {-1, -1} for anything else.
std::pair<int, int> MatchNegativePart(const std::vector<TileNode>& nodes, int at) {
  const TileNode& product = nodes[at];
  if (!IsBinary(product, BinaryOp::kMul)) return {-1, -1};
  for (int side = 0; side < 2; ++side) {
    const TileNode& relu = nodes[product.inputs[side]];
    const int factor = product.inputs[1 - side];
    if (!IsUnary(relu, UnaryOp::kRelu) || nodes[factor].op != TileOp::kConstant) continue;
    const TileNode& negated = nodes[relu.inputs[0]];
    if (IsUnary(negated, UnaryOp::kNeg)) return {negated.inputs[0], factor};
  }
  return {-1, -1};
}

}  // namespace

void FusePrelu(std::vector<TileNode>* nodes) {
  const size_t count = nodes->size();
  for (size_t i = 0; i < count; ++i) {
    if (!IsBinary((*nodes)[i], BinaryOp::kAdd)) continue;
    for (int side = 0; side < 2; ++side) {
      const TileNode& relu = (*nodes)[(*nodes)[i].inputs[side]];
      const auto [x, factor] = MatchNegativePart(*nodes, (*nodes)[i].inputs[1 - side]);
      if (x < 0 || !IsUnary(relu, UnaryOp::kRelu) || relu.inputs[0] != x) continue;
      // The factor stands before relu(-x): the slope of the negative side has the other sign.
      TileNode& fused = (*nodes)[i];
      TileNode alpha = (*nodes)[factor];
      for (float& value : alpha.values) value = -value;
      alpha.values.resize(fused.shape.width, alpha.values[0]);
      fused.op = TileOp::kPrelu;
      fused.inputs = {x};
      fused.values = std::move(alpha.values);
      break;
    }
  }
}

}  // namespace nann
