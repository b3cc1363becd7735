#include "scorer_compiler.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "function_reader.h"
#include "tensorflow/core/framework/tensor.h"

namespace nann {
namespace {

using tensorflow::FunctionDef;
using tensorflow::NodeDef;
using tensorflow::Tensor;

class ScorerCompiler {
 public:
  explicit ScorerCompiler(const FunctionDef& scorer) : scorer_(scorer), reader_(scorer) {}

  absl::StatusOr<TileGraph> Compile(absl::Span<const tensorflow::TensorShape> user_shapes,
                                    absl::Span<const int64_t> table_widths) {
    const int users = static_cast<int>(user_shapes.size());
    const int inputs = users + static_cast<int>(table_widths.size());
    if (scorer_.signature().input_arg_size() != inputs || scorer_.signature().output_arg_size() != 1) {
      return absl::InvalidArgumentError(absl::StrCat("a scorer of ", scorer_.signature().input_arg_size(),
                                                     " inputs and ", scorer_.signature().output_arg_size(),
                                                     " outputs, expected ", inputs, " and 1"));
    }
    for (int i = 0; i < inputs; ++i) {
      const auto& arg = scorer_.signature().input_arg(i);
      if (i < users && arg.type() != tensorflow::DT_FLOAT) {
        unusable_inputs_[arg.name()] =
            absl::StrCat("user tensor ", arg.name(), " of type ", tensorflow::DataTypeString(arg.type()));
        continue;
      }
      if (i >= users) {
        known_[arg.name()] = graph_.AddTable(i - users, table_widths[i - users]);
        continue;
      }
      const absl::StatusOr<int> added = graph_.AddUser(i, user_shapes[i].dim_sizes());
      if (added.ok()) {
        known_[arg.name()] = *added;
      } else {
        unusable_inputs_[arg.name()] =
            absl::StrCat("user tensor ", arg.name(), ": ", added.status().message());
      }
    }
    const auto result = scorer_.ret().find(scorer_.signature().output_arg(0).name());
    if (result == scorer_.ret().end()) return absl::InvalidArgumentError("a scorer that returns nothing");
    const absl::StatusOr<int> output = Resolve(result->second);
    if (!output.ok()) return output.status();
    const absl::Status status = graph_.SetOutput(*output);
    if (!status.ok()) return status;
    return std::move(graph_);
  }

 private:
  absl::StatusOr<int> Resolve(const std::string& text) {
    const ValueReference reference = ParseReference(text);
    const std::string key = reference.ToString();
    const auto known = known_.find(key);
    if (known != known_.end()) return known->second;
    const auto unusable = unusable_inputs_.find(reference.node);
    if (unusable != unusable_inputs_.end()) return absl::InvalidArgumentError(unusable->second);
    const NodeDef* node_def = reader_.Find(reference.node);
    if (node_def == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("a reference to an unknown node: ", text));
    }
    // A frozen scorer has no cycles; one that has more levels than this is no scorer.
    if (depth_ > kMaxDepth) return absl::InvalidArgumentError("a scorer of more than 5,000 levels");
    ++depth_;
    absl::StatusOr<int> node = Translate(*node_def, reference.number);
    --depth_;
    if (!node.ok()) return Annotate(node.status(), *node_def);
    known_[key] = *node;
    return *node;
  }

  // Names the node where the trouble lies, once.
  absl::Status Annotate(const absl::Status& status, const NodeDef& node) {
    if (annotated_) return status;
    annotated_ = true;
    return absl::InvalidArgumentError(
        absl::StrCat("node ", node.name(), " (", node.op(), "): ", status.message()));
  }

  absl::StatusOr<int> Input(const NodeDef& node, int input) {
    const absl::StatusOr<std::string> name = FunctionReader::Input(node, input);
    if (!name.ok()) return name.status();
    return Resolve(*name);
  }

  absl::StatusOr<int> Translate(const NodeDef& node, int output) {
    const std::string& op = node.op();
    if (op == "Const") return TranslateConst(node);
    if (PassesThrough(op)) return Input(node, 0);
    if (op == "MatMul") return TranslateMatMul(node, "transpose_a", "transpose_b");
    if (op == "BatchMatMul" || op == "BatchMatMulV2") return TranslateMatMul(node, "adj_x", "adj_y");
    if (const BinaryOp* binary = FindBinaryOp(op)) return TranslateBinary(node, *binary);
    if (const ReduceOp* reduce = FindReduceOp(op)) return TranslateReduce(node, *reduce);
    if (op == "ConcatV2") return TranslateConcat(node);
    if (op == "Slice" || op == "StridedSlice") return TranslateSlice(node);
    if (op == "Split" || op == "SplitV") return TranslateSplit(node, output);
    if (op == "Reshape" || op == "Squeeze" || op == "ExpandDims") return TranslateReshape(node);
    const absl::StatusOr<int> x = Input(node, 0);
    if (!x.ok()) return x.status();
    if (const UnaryOp* unary = FindUnaryOp(op)) return graph_.Unary(*unary, *x);
    if (op == "Softmax") return graph_.Softmax(*x);
    if (op == "LeakyRelu") return LeakyRelu(*x, node);
    if (op == "Erfc") return Combine(BinaryOp::kSub, 1.0f, graph_.Unary(UnaryOp::kErf, *x));
    return absl::InvalidArgumentError("an operation that the native executor does not know");
  }

  absl::StatusOr<int> Scalar(float value) { return graph_.AddConstant({}, {value}); }

  // value (op) node
  absl::StatusOr<int> Combine(BinaryOp op, float value, absl::StatusOr<int> node) {
    if (!node.ok()) return node;
    const absl::StatusOr<int> scalar = Scalar(value);
    return graph_.Binary(op, *scalar, *node);
  }

  // The spelling that FusePrelu knows.
  absl::StatusOr<int> LeakyRelu(int x, const NodeDef& node) {
    const float alpha = AttrFloat(node, "alpha", 0.2f);  // TensorFlow's default.
    const absl::StatusOr<int> positive = graph_.Unary(UnaryOp::kRelu, x);
    if (!positive.ok()) return positive;
    const absl::StatusOr<int> negated = graph_.Unary(UnaryOp::kNeg, x);
    const absl::StatusOr<int> negative =
        Combine(BinaryOp::kMul, -alpha, graph_.Unary(UnaryOp::kRelu, *negated));
    if (!negative.ok()) return negative;
    return graph_.Binary(BinaryOp::kAdd, *positive, *negative);
  }

  absl::StatusOr<int> TranslateConst(const NodeDef& node) {
    const absl::StatusOr<Tensor> tensor = ValueOf(node);
    if (!tensor.ok()) return tensor.status();
    if (tensor->dtype() != tensorflow::DT_FLOAT) {
      return absl::InvalidArgumentError("a constant that is not float32");
    }
    const float* values = tensor->flat<float>().data();
    return graph_.AddConstant(tensor->shape().dim_sizes(),
                              std::vector<float>(values, values + tensor->NumElements()));
  }

  absl::StatusOr<int> TranslateMatMul(const NodeDef& node, const char* transpose_a, const char* transpose_b) {
    const absl::StatusOr<int> a = Input(node, 0);
    if (!a.ok()) return a;
    const absl::StatusOr<int> b = Input(node, 1);
    if (!b.ok()) return b;
    if (AttrBool(node, transpose_a)) return absl::InvalidArgumentError("a transposed left side");
    return graph_.MatMul(*a, *b, AttrBool(node, transpose_b));
  }

  absl::StatusOr<int> TranslateBinary(const NodeDef& node, BinaryOp op) {
    const absl::StatusOr<int> a = Input(node, 0);
    if (!a.ok()) return a;
    const absl::StatusOr<int> b = Input(node, 1);
    if (!b.ok()) return b;
    return graph_.Binary(op, *a, *b);
  }

  const TileShape& ShapeOf(int node) const { return graph_.nodes()[node].shape; }

  // Whether `axis` is that of the columns.
  bool IsColumns(int64_t axis, int node) const {
    return ShapeOf(node).per_item && ShapeOf(node).rank == 2 && (axis == -1 || axis == 1);
  }

  absl::StatusOr<int> TranslateReduce(const NodeDef& node, ReduceOp op) {
    const absl::StatusOr<int> x = Input(node, 0);
    if (!x.ok()) return x;
    const absl::StatusOr<std::vector<int64_t>> axes = reader_.IntsOf(node, 1);
    if (!axes.ok()) return axes.status();
    if (axes->size() != 1 || !IsColumns((*axes)[0], *x)) {
      return absl::InvalidArgumentError("a reduction over another axis than the columns");
    }
    return graph_.Reduce(op, *x, AttrBool(node, "keep_dims"));
  }

  absl::StatusOr<int> TranslateConcat(const NodeDef& node) {
    const int parts = static_cast<int>(AttrInt(node, "N"));
    std::vector<int> inputs;
    for (int i = 0; i < parts; ++i) {
      const absl::StatusOr<int> part = Input(node, i);
      if (!part.ok()) return part;
      inputs.push_back(*part);
    }
    const absl::StatusOr<std::vector<int64_t>> axis = reader_.IntsOf(node, parts);
    if (!axis.ok()) return axis.status();
    if (axis->size() != 1 || inputs.empty() || !IsColumns((*axis)[0], inputs[0])) {
      return absl::InvalidArgumentError("a concatenation along another axis than the columns");
    }
    return graph_.Concat(inputs);
  }

  absl::StatusOr<int> TranslateSlice(const NodeDef& node) {
    const absl::StatusOr<int> x = Input(node, 0);
    if (!x.ok()) return x;
    const absl::StatusOr<std::vector<int64_t>> begin = reader_.IntsOf(node, 1);
    if (!begin.ok()) return begin.status();
    const absl::StatusOr<std::vector<int64_t>> end = reader_.IntsOf(node, 2);
    if (!end.ok()) return end.status();
    const TileShape& shape = ShapeOf(*x);
    const absl::Status unknown = absl::InvalidArgumentError("a slice that is not one of whole rows' columns");
    if (!shape.per_item || shape.rank != 2 || begin->size() != 2 || end->size() != 2) return unknown;
    if (node.op() == "Slice") {
      if ((*begin)[0] != 0) return unknown;
      const int64_t width = (*end)[1] < 0 ? shape.width - (*begin)[1] : (*end)[1];
      return graph_.Slice(*x, (*begin)[1], width);
    }
    const absl::StatusOr<std::vector<int64_t>> strides = reader_.IntsOf(node, 3);
    if (!strides.ok()) return strides.status();
    const int64_t begin_mask = AttrInt(node, "begin_mask"), end_mask = AttrInt(node, "end_mask");
    const int64_t shrink = AttrInt(node, "shrink_axis_mask");
    const int64_t ellipsis = AttrInt(node, "ellipsis_mask");  // x[..., columns]
    const bool all_rows = (((begin_mask & 1) && (end_mask & 1)) || ellipsis == 1) && (shrink & 1) == 0;
    if (!all_rows || *strides != std::vector<int64_t>{1, 1} || ellipsis > 1 ||
        AttrInt(node, "new_axis_mask") != 0) {
      return unknown;
    }
    const auto clamp = [&](int64_t column) {
      return std::clamp<int64_t>(column < 0 ? column + shape.width : column, 0, shape.width);
    };
    const int64_t first = (begin_mask & 2) ? 0 : clamp((*begin)[1]);
    if (shrink & 2) {
      const absl::StatusOr<int> column = graph_.Slice(*x, first, 1);
      if (!column.ok()) return column;
      return graph_.Reshape(*column, 1);
    }
    return graph_.Slice(*x, first, ((end_mask & 2) ? shape.width : clamp((*end)[1])) - first);
  }

  absl::StatusOr<int> TranslateSplit(const NodeDef& node, int output) {
    const bool sized = node.op() == "SplitV";
    const absl::StatusOr<int> x = Input(node, sized ? 0 : 1);
    if (!x.ok()) return x;
    const absl::StatusOr<std::vector<int64_t>> axis = reader_.IntsOf(node, sized ? 2 : 0);
    if (!axis.ok()) return axis.status();
    if (axis->size() != 1 || !IsColumns((*axis)[0], *x)) {
      return absl::InvalidArgumentError("a split along another axis than the columns");
    }
    const int64_t parts = AttrInt(node, "num_split");
    const int64_t total = ShapeOf(*x).width;
    std::vector<int64_t> widths(parts, parts > 0 ? total / parts : 0);
    if (sized) {
      const absl::StatusOr<std::vector<int64_t>> sizes = reader_.IntsOf(node, 1);
      if (!sizes.ok()) return sizes.status();
      widths = *sizes;
      int64_t rest = total;
      for (int64_t width : widths) rest -= std::max<int64_t>(width, 0);
      for (int64_t& width : widths) width = width < 0 ? rest : width;
    }
    if (output < 0 || output >= static_cast<int>(widths.size())) {
      return absl::InvalidArgumentError(absl::StrCat("no output ", output));
    }
    int64_t begin = 0;
    for (int i = 0; i < output; ++i) begin += widths[i];
    return graph_.Slice(*x, begin, widths[output]);
  }

  // [tile, 1] to [tile] and back, or no change at all.
  absl::StatusOr<int> TranslateReshape(const NodeDef& node) {
    const absl::StatusOr<int> x = Input(node, 0);
    if (!x.ok()) return x;
    const TileShape shape = ShapeOf(*x);
    if (!shape.per_item) return absl::InvalidArgumentError("a reshape of what is the same for all items");
    if (node.op() == "Squeeze") {
      if (shape.width != 1) return absl::InvalidArgumentError("a squeeze of more than one column");
      return graph_.Reshape(*x, 1);
    }
    const absl::StatusOr<std::vector<int64_t>> values = reader_.IntsOf(node, 1);
    if (!values.ok()) return values.status();
    if (node.op() == "ExpandDims") {
      const bool adds_column =
          shape.rank == 1 && values->size() == 1 && ((*values)[0] == -1 || (*values)[0] == 1);
      if (!adds_column) return absl::InvalidArgumentError("a new axis that is not that of the columns");
      return graph_.Reshape(*x, 2);
    }
    // The number of items is never looked at: what fits a tile of one size fits all.
    const int rank = static_cast<int>(values->size());
    const bool fits =
        (rank == 1 && shape.width == 1) ||
        (rank == 2 && ((*values)[1] == shape.width || ((*values)[1] == -1 && (*values)[0] != -1)));
    if (!fits) return absl::InvalidArgumentError("a reshape that mixes rows and columns");
    return graph_.Reshape(*x, rank);
  }

  static constexpr int kMaxDepth = 5000;

  const FunctionDef& scorer_;
  const FunctionReader reader_;
  TileGraph graph_;
  std::map<std::string, int> known_;
  std::map<std::string, std::string> unusable_inputs_;
  int depth_ = 0;
  bool annotated_ = false;
};

}  // namespace

absl::StatusOr<TileGraph> CompileScorer(const FunctionDef& scorer,
                                        absl::Span<const tensorflow::TensorShape> user_shapes,
                                        absl::Span<const int64_t> table_widths) {
  return ScorerCompiler(scorer).Compile(user_shapes, table_widths);
}

}  // namespace nann
