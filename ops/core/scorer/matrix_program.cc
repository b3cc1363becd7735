#include "matrix_program.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace nann {
namespace {

bool Holds(Comparison op, float a, float b) {
  switch (op) {
    case Comparison::kEqual:
      return a == b;
    case Comparison::kNotEqual:
      return a != b;
    case Comparison::kGreater:
      return a > b;
    case Comparison::kGreaterEqual:
      return a >= b;
  }
  return false;
}

std::string Text(MatrixShape shape) { return absl::StrCat("[", shape.height, ", ", shape.width, "]"); }

void CopyRows(const float* from, int64_t from_stride, MatrixShape shape, float* to, int64_t to_stride) {
  for (int64_t row = 0; row < shape.height; ++row) {
    std::memcpy(to + row * to_stride, from + row * from_stride, shape.width * sizeof(float));
  }
}

}  // namespace

int MatrixProgram::Add(Step step, MatrixShape shape) {
  Value value{shape, scratch_floats_};
  // A strip more: kernels read and write whole strips.
  scratch_floats_ += shape.height * value.stride() + kStrip;
  values_.push_back(value);
  step.to = static_cast<int>(values_.size()) - 1;
  steps_.push_back(std::move(step));
  return steps_.back().to;
}

int MatrixProgram::Input(MatrixShape shape) {
  Step step(Step::kInput);
  for (const Step& other : steps_) step.input += other.kind == Step::kInput ? 1 : 0;
  return Add(std::move(step), shape);
}

int MatrixProgram::Constant(MatrixShape shape, const float* values) {
  Step step(Step::kConstant);
  step.values.assign(values, values + shape.height * shape.width);
  return Add(std::move(step), shape);
}

absl::StatusOr<int> MatrixProgram::MatMul(int a, int b, bool transpose_b) {
  const MatrixShape x = shape(a), y = shape(b);
  const int64_t depth = transpose_b ? y.width : y.height;
  const int64_t width = transpose_b ? y.height : y.width;
  if (depth != x.width) {
    return absl::InvalidArgumentError(absl::StrCat("a matrix product of depths ", x.width, " and ", depth));
  }
  Step step(Step::kMatMul, {a, b});
  step.transpose_b = transpose_b;
  step.packed = scratch_floats_;
  scratch_floats_ += PackedSize(depth, width, false) + kStrip;
  return Add(std::move(step), {x.height, width});
}

absl::StatusOr<int> MatrixProgram::AddRepeated(Step step) {
  MatrixShape all;
  for (int from : step.from) {
    const MatrixShape next = shape(from);
    const bool fit = (all.height == next.height || all.height == 1 || next.height == 1) &&
                     (all.width == next.width || all.width == 1 || next.width == 1);
    if (!fit) {
      return absl::InvalidArgumentError(
          absl::StrCat("an elementwise operation of ", Text(all), " and ", Text(next)));
    }
    all = {std::max(all.height, next.height), std::max(all.width, next.width)};
  }
  return Add(std::move(step), all);
}

absl::StatusOr<int> MatrixProgram::Binary(BinaryOp op, int a, int b) {
  Step step(Step::kBinary, {a, b});
  step.binary = op;
  return AddRepeated(std::move(step));
}

absl::StatusOr<int> MatrixProgram::Compare(Comparison op, int a, int b) {
  Step step(Step::kCompare, {a, b});
  step.comparison = op;
  return AddRepeated(std::move(step));
}

absl::StatusOr<int> MatrixProgram::Select(int condition, int a, int b) {
  return AddRepeated(Step(Step::kSelect, {condition, a, b}));
}

int MatrixProgram::Unary(UnaryOp op, int x) {
  Step step(Step::kUnary, {x});
  step.unary = op;
  return Add(std::move(step), shape(x));
}

int MatrixProgram::Softmax(int x) {
  Step step(Step::kSoftmax, {x});
  return Add(std::move(step), shape(x));
}

int MatrixProgram::Reduce(ReduceOp op, int x) {
  Step step(Step::kReduce, {x});
  step.reduce = op;
  return Add(std::move(step), {shape(x).height, 1});
}

int MatrixProgram::Transpose(int x) {
  Step step(Step::kTranspose, {x});
  return Add(std::move(step), {shape(x).width, shape(x).height});
}

absl::StatusOr<int> MatrixProgram::Reshape(int x, MatrixShape to) {
  if (shape(x).height * shape(x).width != to.height * to.width) {
    return absl::InvalidArgumentError(absl::StrCat("a reshape of ", Text(shape(x)), " to ", Text(to)));
  }
  if (shape(x) == to) return x;
  Step step(Step::kReshape, {x});
  return Add(std::move(step), to);
}

BinaryOperand MatrixProgram::Operand(int x, const float* arena) const {
  const Value& value = values_[x];
  BinaryOperand operand;
  operand.view = {arena + value.offset, value.shape.height == 1 ? 0 : value.stride()};
  return operand;
}

AlignedFloats MatrixProgram::MakeScratch() const {
  AlignedFloats scratch(scratch_floats_);
  for (const Step& step : steps_) {
    const Value& out = values_[step.to];
    if (step.kind == Step::kConstant) {
      CopyRows(step.values.data(), out.shape.width, out.shape, scratch.data() + out.offset, out.stride());
    } else if (step.kind == Step::kMatMul && IsConstant(step.from[1])) {
      Pack(step, scratch.data());
    }
  }
  return scratch;
}

void MatrixProgram::Pack(const Step& matmul, float* arena) const {
  const Value& b = values_[matmul.from[1]];
  PackStrips(arena + b.offset, b.stride(), matmul.transpose_b, values_[matmul.from[0]].shape.width,
             values_[matmul.to].shape.width, arena + matmul.packed);
}

void MatrixProgram::RunMatMul(const Step& step, float* arena) const {
  const Value &a = values_[step.from[0]], &out = values_[step.to];
  if (!IsConstant(step.from[1])) Pack(step, arena);
  GemmTerm term;
  term.rows = arena + a.offset;
  term.stride = a.stride();
  term.packed = arena + step.packed;
  term.depth = a.shape.width;
  Gemm gemm;
  gemm.rows = out.shape.height;
  gemm.width = out.shape.width;
  gemm.terms = &term;
  gemm.num_terms = 1;
  gemm.out = arena + out.offset;
  gemm.out_stride = out.stride();
  kernels_->gemm(gemm);
}

float MatrixProgram::At(int x, int64_t row, int64_t column, const float* arena) const {
  const Value& value = values_[x];
  return arena[value.offset + (value.shape.height == 1 ? 0 : row) * value.stride() +
               (value.shape.width == 1 ? 0 : column)];
}

void MatrixProgram::RunCompare(const Step& step, float* arena) const {
  const Value& out = values_[step.to];
  for (int64_t row = 0; row < out.shape.height; ++row) {
    for (int64_t column = 0; column < out.shape.width; ++column) {
      const float a = At(step.from[0], row, column, arena), b = At(step.from[1], row, column, arena);
      arena[out.offset + row * out.stride() + column] = Holds(step.comparison, a, b) ? 1.0f : 0.0f;
    }
  }
}

void MatrixProgram::RunSelect(const Step& step, float* arena) const {
  const Value& out = values_[step.to];
  for (int64_t row = 0; row < out.shape.height; ++row) {
    for (int64_t column = 0; column < out.shape.width; ++column) {
      const bool holds = At(step.from[0], row, column, arena) != 0.0f;
      arena[out.offset + row * out.stride() + column] = At(step.from[holds ? 1 : 2], row, column, arena);
    }
  }
}

void MatrixProgram::RunStep(const Step& step, absl::Span<const float* const> inputs, float* arena) const {
  const Value& out = values_[step.to];
  const auto [height, width] = out.shape;
  float* to = arena + out.offset;
  const Value& from = step.from.empty() ? out : values_[step.from[0]];
  const RowsView in = {arena + from.offset, from.stride()};
  switch (step.kind) {
    case Step::kInput:
      return CopyRows(inputs[step.input], width, out.shape, to, out.stride());
    case Step::kConstant:
      return;  // MakeScratch has laid it out.
    case Step::kMatMul:
      return RunMatMul(step, arena);
    case Step::kBinary: {
      BinaryOperand a = Operand(step.from[0], arena), b = Operand(step.from[1], arena);
      a.column = shape(step.from[0]).width < width;
      b.column = shape(step.from[1]).width < width;
      return kernels_->binary(step.binary, a, b, height, width, to, out.stride());
    }
    case Step::kCompare:
      return RunCompare(step, arena);
    case Step::kSelect:
      return RunSelect(step, arena);
    case Step::kUnary:
      return kernels_->unary(step.unary, in, height, width, to, out.stride());
    case Step::kSoftmax:
      return kernels_->softmax(in, height, width, to, out.stride());
    case Step::kReduce:
      return kernels_->reduce(step.reduce, in, height, from.shape.width, to, out.stride());
    case Step::kTranspose:
      for (int64_t row = 0; row < height; ++row) {
        for (int64_t column = 0; column < width; ++column) {
          to[row * out.stride() + column] = in.data[column * in.stride + row];
        }
      }
      return;
    case Step::kReshape:
      for (int64_t i = 0; i < height * width; ++i) {
        to[i / width * out.stride() + i % width] =
            in.data[i / from.shape.width * in.stride + i % from.shape.width];
      }
      return;
  }
}

void MatrixProgram::Run(absl::Span<const float* const> inputs, AlignedFloats* scratch,
                        absl::Span<float* const> outputs) const {
  for (const Step& step : steps_) RunStep(step, inputs, scratch->data());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Value& value = values_[outputs_[i]];
    CopyRows(scratch->data() + value.offset, value.stride(), value.shape, outputs[i], value.shape.width);
  }
}

}  // namespace nann
