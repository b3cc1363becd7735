#include "user_compiler.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "function_reader.h"

namespace nann {
namespace {

using tensorflow::FunctionDef;
using tensorflow::NodeDef;
using tensorflow::Tensor;
using tensorflow::TensorShape;

constexpr int kMaxDepth = 5000;

// A matrix of the program and what TensorFlow takes it for: [] and [n] are matrices of one row.
struct Value {
  int matrix = 0;
  int rank = 0;
};

absl::Status NotKnown(const std::string& what) { return absl::InvalidArgumentError(what); }

class UserCompiler {
 public:
  explicit UserCompiler(const FunctionDef& function) : function_(function), reader_(function) {}

  absl::StatusOr<UserProgram> Compile(absl::Span<const TensorShape> input_shapes) {
    const auto& signature = function_.signature();
    if (signature.input_arg_size() != static_cast<int>(input_shapes.size())) return NotKnown("other inputs");
    for (int i = 0; i < signature.input_arg_size(); ++i) {
      if (signature.input_arg(i).type() != tensorflow::DT_FLOAT || input_shapes[i].dims() > 2 ||
          input_shapes[i].num_elements() < 1) {
        return NotKnown(absl::StrCat("input ", signature.input_arg(i).name()));
      }
      known_[signature.input_arg(i).name()] = {program_.Input(MatrixOf(input_shapes[i].dim_sizes())),
                                               input_shapes[i].dims()};
    }
    UserProgram result;
    for (const auto& output : signature.output_arg()) {
      const auto name = function_.ret().find(output.name());
      if (name == function_.ret().end() || output.type() != tensorflow::DT_FLOAT)
        return NotKnown("an output");
      const absl::StatusOr<Value> value = Resolve(name->second);
      if (!value.ok()) return value.status();
      program_.Output(value->matrix);
      result.output_shapes.push_back(TensorShape(DimsOf(*value)));
    }
    result.program = std::move(program_);
    return result;
  }

 private:
  template <typename Dims>
  static MatrixShape MatrixOf(const Dims& dims) {
    MatrixShape shape;
    if (dims.size() > 0) shape.width = dims[dims.size() - 1];
    if (dims.size() > 1) shape.height = dims[0];
    return shape;
  }

  MatrixShape ShapeOf(const Value& value) const { return program_.shape(value.matrix); }

  std::vector<int64_t> DimsOf(const Value& value) const {
    const MatrixShape shape = ShapeOf(value);
    if (value.rank == 0) return {};
    if (value.rank == 1) return {shape.width};
    return {shape.height, shape.width};
  }

  absl::StatusOr<Value> Resolve(const std::string& text) {
    const ValueReference reference = ParseReference(text);
    const std::string key = reference.ToString();
    const auto known = known_.find(key);
    if (known != known_.end()) return known->second;
    const NodeDef* node = reader_.Find(reference.node);
    if (node == nullptr || reference.number != 0) return NotKnown(absl::StrCat("a reference to ", text));
    if (depth_ > kMaxDepth) return NotKnown("a function of more than 5,000 levels");
    ++depth_;
    absl::StatusOr<Value> value = Translate(*node);
    --depth_;
    if (value.ok()) known_[key] = *value;
    return value;
  }

  absl::StatusOr<Value> Input(const NodeDef& node, int input) {
    const absl::StatusOr<std::string> name = FunctionReader::Input(node, input);
    if (!name.ok()) return name.status();
    return Resolve(*name);
  }

  absl::StatusOr<Value> Translate(const NodeDef& node) {
    const std::string& op = node.op();
    if (op == "Const") return TranslateConst(node);
    const absl::StatusOr<Value> x = Input(node, 0);
    if (!x.ok() || PassesThrough(op)) return x;
    if (op == "Cast") return TranslateCast(node, *x);
    if (op == "MatMul") return TranslateMatMul(node, *x, "transpose_a", "transpose_b");
    if (op == "BatchMatMul" || op == "BatchMatMulV2") return TranslateMatMul(node, *x, "adj_x", "adj_y");
    if (const UnaryOp* unary = FindUnaryOp(op)) return Value{program_.Unary(*unary, x->matrix), x->rank};
    if (const ReduceOp* reduce = FindReduceOp(op)) return TranslateReduce(node, *x, *reduce);
    if (op == "Any") return TranslateReduce(node, *x, ReduceOp::kMax);
    if (op == "All") return TranslateReduce(node, *x, ReduceOp::kMin);
    if (op == "Softmax" && x->rank > 0) return Value{program_.Softmax(x->matrix), x->rank};
    if (op == "Transpose") return TranslateTranspose(node, *x);
    if (op == "Reshape" || op == "Squeeze" || op == "ExpandDims") return TranslateReshape(node, *x);
    if (op == "LogicalNot") return Elementwise(BinaryOp::kSub, Scalar(1.0f), *x);
    const absl::StatusOr<Value> y = Input(node, 1);
    if (!y.ok()) return y;
    if (op == "SelectV2") return TranslateSelect(node, *x, *y);
    if (const BinaryOp* binary = FindBinaryOp(op)) return Elementwise(*binary, *x, *y);
    if (op == "LogicalAnd") return Elementwise(BinaryOp::kMin, *x, *y);
    if (op == "LogicalOr") return Elementwise(BinaryOp::kMax, *x, *y);
    if (op == "Equal") return Compare(Comparison::kEqual, *x, *y);
    if (op == "NotEqual") return Compare(Comparison::kNotEqual, *x, *y);
    if (op == "Greater") return Compare(Comparison::kGreater, *x, *y);
    if (op == "GreaterEqual") return Compare(Comparison::kGreaterEqual, *x, *y);
    if (op == "Less") return Compare(Comparison::kGreater, *y, *x);
    if (op == "LessEqual") return Compare(Comparison::kGreaterEqual, *y, *x);
    return NotKnown(op);
  }

  Value Scalar(float value) { return {program_.Constant({}, &value), 0}; }

  absl::StatusOr<Value> TranslateConst(const NodeDef& node) {
    const absl::StatusOr<Tensor> tensor = ValueOf(node);
    if (!tensor.ok()) return tensor.status();
    if (tensor->dtype() != tensorflow::DT_FLOAT || tensor->dims() > 2 || tensor->NumElements() < 1) {
      return NotKnown("a constant that is no matrix of float32");
    }
    const MatrixShape shape = MatrixOf(tensor->shape().dim_sizes());
    return Value{program_.Constant(shape, tensor->flat<float>().data()), tensor->dims()};
  }

  // What is true is 1 here.
  absl::StatusOr<Value> TranslateCast(const NodeDef& node, const Value& x) {
    const auto from = node.attr().find("SrcT"), to = node.attr().find("DstT");
    const bool known =
        from != node.attr().end() && to != node.attr().end() &&
        (from->second.type() == tensorflow::DT_BOOL || from->second.type() == tensorflow::DT_FLOAT) &&
        to->second.type() == tensorflow::DT_FLOAT;
    if (!known) return NotKnown("a cast of another type");
    return x;
  }

  absl::StatusOr<Value> TranslateMatMul(const NodeDef& node, const Value& a, const char* transpose_a,
                                        const char* transpose_b) {
    const absl::StatusOr<Value> b = Input(node, 1);
    if (!b.ok()) return b;
    if (a.rank != 2 || b->rank != 2) return NotKnown("a product of another rank");
    const int left = AttrBool(node, transpose_a) ? program_.Transpose(a.matrix) : a.matrix;
    return Ranked(program_.MatMul(left, b->matrix, AttrBool(node, transpose_b)), 2);
  }

  static absl::StatusOr<Value> Ranked(const absl::StatusOr<int>& matrix, int rank) {
    if (!matrix.ok()) return matrix.status();
    return Value{*matrix, rank};
  }

  absl::StatusOr<Value> Elementwise(BinaryOp op, const Value& a, const Value& b) {
    return Ranked(program_.Binary(op, a.matrix, b.matrix), std::max(a.rank, b.rank));
  }

  absl::StatusOr<Value> Compare(Comparison op, const Value& a, const Value& b) {
    return Ranked(program_.Compare(op, a.matrix, b.matrix), std::max(a.rank, b.rank));
  }

  absl::StatusOr<Value> TranslateSelect(const NodeDef& node, const Value& condition, const Value& a) {
    const absl::StatusOr<Value> b = Input(node, 2);
    if (!b.ok()) return b;
    return Ranked(program_.Select(condition.matrix, a.matrix, b->matrix),
                  std::max(condition.rank, std::max(a.rank, b->rank)));
  }

  absl::StatusOr<Value> TranslateReduce(const NodeDef& node, const Value& x, ReduceOp op) {
    const absl::StatusOr<std::vector<int64_t>> axes = reader_.IntsOf(node, 1);
    if (!axes.ok()) return axes.status();
    if (axes->size() != 1 || x.rank == 0) return NotKnown("a reduction over several axes");
    const int64_t axis = axes->front() < 0 ? axes->front() + x.rank : axes->front();
    if (axis < 0 || axis >= x.rank) return NotKnown("a reduction over an axis that is not there");
    const bool columns = axis == x.rank - 1, keep = AttrBool(node, "keep_dims");
    // One value a row, standing; those of columns lie.
    const int reduced = program_.Reduce(op, columns ? x.matrix : program_.Transpose(x.matrix));
    const int rank = keep ? x.rank : x.rank - 1;
    if (columns && (keep || x.rank == 1)) return Value{reduced, rank};
    return Ranked(program_.Reshape(reduced, {1, program_.shape(reduced).height}), rank);
  }

  absl::StatusOr<Value> TranslateTranspose(const NodeDef& node, const Value& x) {
    const absl::StatusOr<std::vector<int64_t>> axes = reader_.IntsOf(node, 1);
    if (!axes.ok()) return axes.status();
    if (x.rank != 2 || *axes != std::vector<int64_t>{1, 0})
      return NotKnown("a transposition of another rank");
    return Value{program_.Transpose(x.matrix), 2};
  }

  absl::StatusOr<Value> TranslateReshape(const NodeDef& node, const Value& x) {
    const absl::StatusOr<std::vector<int64_t>> dims = NewDims(node, x);
    if (!dims.ok()) return dims.status();
    if (dims->size() > 2) return NotKnown("a tensor of rank 3");
    return Ranked(program_.Reshape(x.matrix, MatrixOf(*dims)), static_cast<int>(dims->size()));
  }

  absl::StatusOr<std::vector<int64_t>> NewDims(const NodeDef& node, const Value& x) {
    std::vector<int64_t> dims = DimsOf(x);
    if (node.op() == "Squeeze") {
      const auto attr = node.attr().find("squeeze_dims");
      const bool all = attr == node.attr().end() || attr->second.list().i_size() == 0;
      std::vector<int64_t> kept;
      for (int64_t i = 0; i < x.rank; ++i) {
        bool named = all;
        for (int j = 0; !all && j < attr->second.list().i_size(); ++j) {
          const int64_t axis = attr->second.list().i(j);
          named = named || (axis < 0 ? axis + x.rank : axis) == i;
        }
        if (!named || dims[i] != 1) kept.push_back(dims[i]);
      }
      return kept;
    }
    absl::StatusOr<std::vector<int64_t>> values = reader_.IntsOf(node, 1);
    if (!values.ok()) return values;
    if (node.op() == "ExpandDims") {
      if (values->size() != 1) return NotKnown("several new axes");
      const int64_t axis = values->front() < 0 ? values->front() + x.rank + 1 : values->front();
      if (axis < 0 || axis > x.rank) return NotKnown("a new axis out of range");
      dims.insert(dims.begin() + axis, 1);
      return dims;
    }
    int64_t known = 1;
    for (int64_t value : *values) known *= value < 0 ? 1 : value;
    const MatrixShape shape = ShapeOf(x);
    for (int64_t& value : *values)
      value = value < 0 && known > 0 ? shape.height * shape.width / known : value;
    return values;
  }

  const FunctionDef& function_;
  const FunctionReader reader_;
  MatrixProgram program_;
  std::map<std::string, Value> known_;
  int depth_ = 0;
};

}  // namespace

absl::StatusOr<UserProgram> CompileUser(const FunctionDef& function,
                                        absl::Span<const TensorShape> input_shapes) {
  return UserCompiler(function).Compile(input_shapes);
}

}  // namespace nann
