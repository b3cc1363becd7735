#include "function_reader.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace nann {

using tensorflow::NodeDef;
using tensorflow::Tensor;

namespace {

// Operations of TensorFlow that are one of ours. Plain arrays: libstdc++ exports what a std::map makes of our
// types from the shared library.
template <typename Op>
struct NamedOp {
  const char* name;
  Op op;
};

constexpr NamedOp<BinaryOp> kBinaryOps[] = {
    {"AddV2", BinaryOp::kAdd},   {"Add", BinaryOp::kAdd},
    {"BiasAdd", BinaryOp::kAdd}, {"Sub", BinaryOp::kSub},
    {"Mul", BinaryOp::kMul},     {"RealDiv", BinaryOp::kDiv},
    {"Div", BinaryOp::kDiv},     {"Maximum", BinaryOp::kMax},
    {"Minimum", BinaryOp::kMin}, {"SquaredDifference", BinaryOp::kSquaredDifference}};

constexpr NamedOp<UnaryOp> kUnaryOps[] = {
    {"Neg", UnaryOp::kNeg},         {"Relu", UnaryOp::kRelu}, {"Relu6", UnaryOp::kRelu6},
    {"Square", UnaryOp::kSquare},   {"Sqrt", UnaryOp::kSqrt}, {"Rsqrt", UnaryOp::kRsqrt},
    {"Inv", UnaryOp::kReciprocal},  {"Exp", UnaryOp::kExp},   {"Reciprocal", UnaryOp::kReciprocal},
    {"Sigmoid", UnaryOp::kSigmoid}, {"Tanh", UnaryOp::kTanh}, {"Erf", UnaryOp::kErf},
    {"Abs", UnaryOp::kAbs}};

constexpr NamedOp<ReduceOp> kReduceOps[] = {
    {"Sum", ReduceOp::kSum}, {"Mean", ReduceOp::kMean}, {"Max", ReduceOp::kMax}, {"Min", ReduceOp::kMin}};

template <typename Op, size_t kCount>
const Op* Find(const NamedOp<Op> (&ops)[kCount], const std::string& name) {
  for (const NamedOp<Op>& op : ops) {
    if (name == op.name) return &op.op;
  }
  return nullptr;
}

}  // namespace

std::string ValueReference::ToString() const { return number == 0 ? node : absl::StrCat(node, ":", number); }

ValueReference ParseReference(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  ValueReference reference{parts[0], 0};
  if (parts.size() == 3) (void)absl::SimpleAtoi(parts[2], &reference.number);
  return reference;
}

const BinaryOp* FindBinaryOp(const std::string& op) { return Find(kBinaryOps, op); }
const UnaryOp* FindUnaryOp(const std::string& op) { return Find(kUnaryOps, op); }
const ReduceOp* FindReduceOp(const std::string& op) { return Find(kReduceOps, op); }

bool PassesThrough(const std::string& op) {
  return op == "Identity" || op == "StopGradient" || op == "PreventGradient" || op == "EnsureShape" ||
         op == "Snapshot";
}

bool AttrBool(const NodeDef& node, const char* name) {
  const auto found = node.attr().find(name);
  return found != node.attr().end() && found->second.b();
}

int64_t AttrInt(const NodeDef& node, const char* name) {
  const auto found = node.attr().find(name);
  return found != node.attr().end() ? found->second.i() : 0;
}

float AttrFloat(const NodeDef& node, const char* name, float otherwise) {
  const auto found = node.attr().find(name);
  return found != node.attr().end() ? found->second.f() : otherwise;
}

absl::StatusOr<Tensor> ValueOf(const NodeDef& constant) {
  const auto value = constant.attr().find("value");
  Tensor tensor;
  if (value == constant.attr().end() || !tensor.FromProto(value->second.tensor())) {
    return absl::InvalidArgumentError("a damaged constant");
  }
  return tensor;
}

FunctionReader::FunctionReader(const tensorflow::FunctionDef& function) {
  for (const NodeDef& node : function.node_def()) nodes_[node.name()] = &node;
}

const NodeDef* FunctionReader::Find(const std::string& name) const {
  const auto found = nodes_.find(name);
  return found == nodes_.end() ? nullptr : found->second;
}

absl::StatusOr<std::string> FunctionReader::Input(const NodeDef& node, int input) {
  if (input >= node.input_size() || absl::StartsWith(node.input(input), "^")) {
    return absl::InvalidArgumentError(absl::StrCat("no input ", input));
  }
  return node.input(input);
}

absl::StatusOr<Tensor> FunctionReader::ConstantOf(const std::string& text) const {
  const NodeDef* node = Find(ParseReference(text).node);
  while (node != nullptr && PassesThrough(node->op())) node = Find(ParseReference(node->input(0)).node);
  if (node == nullptr || node->op() != "Const") {
    return absl::InvalidArgumentError("an axis or shape that is not constant");
  }
  return ValueOf(*node);
}

absl::StatusOr<std::vector<int64_t>> FunctionReader::IntsOf(const NodeDef& node, int input) const {
  const absl::StatusOr<std::string> name = Input(node, input);
  if (!name.ok()) return name.status();
  const absl::StatusOr<Tensor> tensor = ConstantOf(*name);
  if (!tensor.ok()) return tensor.status();
  std::vector<int64_t> values(tensor->NumElements());
  for (int64_t i = 0; i < tensor->NumElements(); ++i) {
    if (tensor->dtype() == tensorflow::DT_INT32) {
      values[i] = tensor->flat<int32_t>()(i);
    } else if (tensor->dtype() == tensorflow::DT_INT64) {
      values[i] = tensor->flat<int64_t>()(i);
    } else {
      return absl::InvalidArgumentError("an axis or shape that is not an integer");
    }
  }
  return values;
}

}  // namespace nann
