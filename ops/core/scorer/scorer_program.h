// A scorer as a list of instructions: read from the bytes that an export holds, and checked to the last
// number.
//
// docs/scorer-program.md is the format's description; export/scorer/_program.py writes it.
#ifndef NANN_OPS_CORE_SCORER_SCORER_PROGRAM_H_
#define NANN_OPS_CORE_SCORER_SCORER_PROGRAM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace nann {

// The order is part of the format.
enum class Opcode {
  kInput,
  kTable,
  kConstant,
  kGemm,
  kBinary,
  kSelect,
  kUnary,
  kPrelu,
  kSoftmax,
  kReduce,
  kSimilarity,
  kTranspose,
  kReshape,
  kSlice,
  kConcat,
  kProduct,
  kRearrange,
  kGather
};

// Sides of a matrix; so that no product of three of them overflows.
inline constexpr int64_t kMaxSide = 1 << 20;

// A matrix [rows, columns]: one for each item of a tile, or one for all of them.
struct ValueShape {
  bool per_item = false;
  int64_t rows = 1;
  int64_t columns = 1;

  bool operator==(const ValueShape& other) const {
    return per_item == other.per_item && rows == other.rows && columns == other.columns;
  }
  // Floats of one matrix where it is computed: whole strips per row, and one strip that kernels may read.
  int64_t Floats() const;
  std::string DebugString() const;
};

// Makes one value out of earlier ones.
struct Instruction {
  Opcode opcode = Opcode::kInput;
  uint32_t function = 0;  // kGemm: Activation. kBinary, kUnary, kReduce, kSimilarity: the operation.
  std::vector<int> operands;
  std::vector<uint32_t> parameters;
  ValueShape shape;

  // Of a kGemm: term t is a product left x matrix (or matrix transposed).
  int num_terms() const { return static_cast<int>(parameters[0]); }
  int left(int t) const { return operands[2 * t]; }
  int matrix(int t) const { return operands[2 * t + 1]; }
  bool transposed(int t) const { return (parameters[1] >> t & 1) != 0; }
  bool has_slope() const;
  // Of a kReduce or a kConcat: whether it goes over the rows, and not over the columns.
  bool over_rows() const { return !parameters.empty() && parameters[0] == 1; }
  int slope() const { return operands.back(); }
  absl::Span<const int> addends() const {
    return absl::MakeConstSpan(operands).subspan(2 * num_terms(),
                                                 operands.size() - 2 * num_terms() - (has_slope() ? 1 : 0));
  }
};

// What a program may take. Anything beyond was not made by an export, and would only harm the server.
struct ProgramLimits {
  int64_t instructions =
      1 << 14;  // Ten times the largest scorer that was seen; loading is quadratic in them.
  int64_t constant_floats = int64_t{1} << 29;  // 2 GiB: a SavedModel's graph cannot hold more.
  int64_t user_floats = int64_t{1} << 26;      // 256 MiB per request.
  int64_t item_floats = int64_t{1} << 20;      // 4 MiB per item, of which a tile has some 50.
  int64_t user_work = int64_t{1} << 36;        // Multiply-adds; a second per request.
  int64_t item_work = int64_t{1} << 30;        // A hundredth of a second per item.
};

// Instructions whose operands are the same for all items are the user section, which runs once per request;
// the others run for every tile. Immutable, so thread-safe. A program that was parsed can be run: every
// operand is an earlier value, every shape fits, and memory and work are within the limits.
class ScorerProgram {
 public:
  static constexpr uint32_t kVersion = 4;  // Earlier ones are read too.

  // InvalidArgument says which instruction is wrong, and why.
  static absl::StatusOr<ScorerProgram> Parse(absl::string_view bytes, const ProgramLimits& limits = {});

  // Whether inputs are the results of the export's user function, which TensorFlow runs, and not the user's
  // tensors themselves.
  bool after_user_function() const { return after_user_function_; }
  const std::vector<Instruction>& instructions() const { return instructions_; }
  // The last value: the score, [1, 1].
  int output() const { return static_cast<int>(instructions_.size()) - 1; }
  // The floats of a kConstant, row by row.
  const float* ConstantOf(int value) const { return constants_->data() + constant_begins_[value]; }

  // The same constants at the same numbers, and other instructions: the caller has them right.
  ScorerProgram WithInstructions(std::vector<Instruction> instructions) const {
    ScorerProgram program = *this;
    program.instructions_ = std::move(instructions);
    return program;
  }

 private:
  friend class ProgramReader;

  bool after_user_function_ = false;
  std::vector<Instruction> instructions_;
  std::vector<int64_t> constant_begins_;  // Per instruction.
  std::shared_ptr<const std::vector<float>> constants_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_SCORER_PROGRAM_H_
