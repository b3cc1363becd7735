// Small matrices computed once a request: the user's part of a scorer, without TensorFlow.
#ifndef NANN_OPS_CORE_SCORER_MATRIX_PROGRAM_H_
#define NANN_OPS_CORE_SCORER_MATRIX_PROGRAM_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tile_kernels.h"
#include "tile_program.h"

namespace nann {

struct MatrixShape {
  int64_t height = 1;
  int64_t width = 1;

  bool operator==(const MatrixShape& other) const { return height == other.height && width == other.width; }
};

enum class Comparison { kEqual, kNotEqual, kGreater, kGreaterEqual };

// A list of operations on matrices of floats, built one after the other and then run as often as wanted.
// Every method that builds returns the number of the new matrix, or InvalidArgument when shapes do not fit.
// Building is not thread-safe; a finished program is constant, so thread-safe.
class MatrixProgram {
 public:
  explicit MatrixProgram(const TileKernels* kernels = &BestTileKernels()) : kernels_(kernels) {}

  int Input(MatrixShape shape);
  int Constant(MatrixShape shape, const float* values);
  absl::StatusOr<int> MatMul(int a, int b, bool transpose_b);
  // Operands of height or width 1 are repeated.
  absl::StatusOr<int> Binary(BinaryOp op, int a, int b);
  // 1 where it holds, else 0; repeated likewise.
  absl::StatusOr<int> Compare(Comparison op, int a, int b);
  // a where the condition is not 0, else b; repeated likewise.
  absl::StatusOr<int> Select(int condition, int a, int b);
  int Unary(UnaryOp op, int x);
  // Over the columns.
  int Softmax(int x);
  // One value a row.
  int Reduce(ReduceOp op, int x);
  int Transpose(int x);
  // The same floats, row by row, in another shape.
  absl::StatusOr<int> Reshape(int x, MatrixShape shape);
  void Output(int x) { outputs_.push_back(x); }

  MatrixShape shape(int x) const { return values_[x].shape; }
  int num_outputs() const { return static_cast<int>(outputs_.size()); }
  MatrixShape output_shape(int output) const { return shape(outputs_[output]); }

  // Memory for one Run at a time, with the constants laid out.
  AlignedFloats MakeScratch() const;

  // Input i is read from inputs[i], output i written to outputs[i]: dense rows.
  void Run(absl::Span<const float* const> inputs, AlignedFloats* scratch,
           absl::Span<float* const> outputs) const;

 private:
  // Rows lie PaddedWidth(width) apart, as the kernels have it.
  struct Value {
    MatrixShape shape;
    int64_t offset = 0;
    int64_t stride() const { return PaddedWidth(shape.width); }
  };

  struct Step {
    enum Kind {
      kInput,
      kConstant,
      kMatMul,
      kBinary,
      kCompare,
      kSelect,
      kUnary,
      kSoftmax,
      kReduce,
      kTranspose,
      kReshape
    };

    explicit Step(Kind kind, std::vector<int> from = {}) : kind(kind), from(std::move(from)) {}

    Kind kind;
    std::vector<int> from;
    int to = 0;
    int input = 0;
    bool transpose_b = false;
    int64_t packed = 0;  // kMatMul: where the right side is packed.
    BinaryOp binary = BinaryOp::kAdd;
    Comparison comparison = Comparison::kEqual;
    UnaryOp unary = UnaryOp::kNeg;
    ReduceOp reduce = ReduceOp::kSum;
    std::vector<float> values;  // kConstant.
  };

  int Add(Step step, MatrixShape shape);
  // Adds an elementwise step, whose operands are repeated to the largest of their heights and widths.
  absl::StatusOr<int> AddRepeated(Step step);
  bool IsConstant(int x) const { return steps_[x].kind == Step::kConstant; }
  BinaryOperand Operand(int x, const float* arena) const;
  void Pack(const Step& matmul, float* arena) const;
  void RunStep(const Step& step, absl::Span<const float* const> inputs, float* arena) const;
  void RunMatMul(const Step& step, float* arena) const;
  // Element (row, column) of a value that is repeated where it has one row or column.
  float At(int x, int64_t row, int64_t column, const float* arena) const;
  void RunCompare(const Step& step, float* arena) const;
  void RunSelect(const Step& step, float* arena) const;

  const TileKernels* kernels_;
  std::vector<Value> values_;
  std::vector<Step> steps_;  // Step i makes value i.
  std::vector<int> outputs_;
  int64_t scratch_floats_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_MATRIX_PROGRAM_H_
