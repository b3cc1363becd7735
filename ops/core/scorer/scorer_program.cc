#include "scorer_program.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "../base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "matrix_layouts.h"
#include "tile_kernels.h"

namespace nann {
namespace {

constexpr char kProgramMagic[] = "nannprog";
constexpr size_t kProgramMagicSize = sizeof(kProgramMagic) - 1;
constexpr size_t kHeaderWords = 4;  // Version, flags, words of the instructions, floats of the constants.
constexpr uint32_t kAfterUserFunction = 1;

constexpr int kAny = 1 << 20;

// How many functions an enumeration has, by its last.
template <typename Function>
constexpr uint32_t Count(Function last) {
  return static_cast<uint32_t>(last) + 1;
}

// What an instruction consists of, before its shapes are looked at.
struct Form {
  const char* name;
  int least_operands, most_operands;
  int least_parameters, most_parameters;
  uint32_t functions;
};

constexpr Form kForms[] = {{"input", 0, 0, 1, 3, 1},
                           {"table", 0, 0, 2, 2, 1},
                           {"constant", 0, 0, 2, 2, 1},
                           {"gemm", 2, kAny, 2, 2, Count(Activation::kPrelu)},
                           {"binary", 2, 2, 0, 0, Count(BinaryOp::kAtan2)},
                           {"select", 3, 3, 0, 0, 1},
                           {"unary", 1, 1, 0, 0, Count(UnaryOp::kAtan)},
                           {"prelu", 2, 2, 0, 0, 1},
                           {"softmax", 1, 1, 0, 0, 1},
                           {"reduce", 1, 1, 0, 1, Count(ReduceOp::kMin)},
                           {"similarity", 2, 2, 0, 0, Count(SimilarityOp::kNegativeSquaredDistance)},
                           {"transpose", 1, 1, 0, 0, 1},
                           {"reshape", 1, 1, 2, 2, 1},
                           {"slice", 1, 1, 2, 2, 1},
                           {"concat", 1, kAny, 0, 1, 1},
                           {"product", 2, 2, 2, 2, 1},
                           {"rearrange", 1, 1, 4, kAny, 1},
                           {"gather", 2, 2, 0, 0, 1}};
static_assert(std::size(kForms) == Count(Opcode::kGather));

template <typename T>
void Take(absl::string_view bytes, std::vector<T>* values) {
  values->resize(bytes.size() / sizeof(T));
  if (!values->empty()) std::memcpy(values->data(), bytes.data(), bytes.size());
}

absl::Status Invalid(const std::string& what) { return absl::InvalidArgumentError(what); }

}  // namespace

int64_t ValueShape::Floats() const { return rows * PaddedWidth(columns) + kStrip; }

std::string ValueShape::DebugString() const {
  return absl::StrCat(per_item ? "[tile, " : "[", rows, ", ", columns, "]");
}

bool Instruction::has_slope() const { return static_cast<Activation>(function) == Activation::kPrelu; }

// Reads the words of a program, instruction after instruction.
class ProgramReader {
 public:
  explicit ProgramReader(const ProgramLimits& limits) : limits_(limits) {}

  absl::StatusOr<ScorerProgram> Read(absl::string_view bytes) {
    NANN_RETURN_IF_ERROR(ReadHeader(bytes));
    while (next_ < words_.size()) {
      const absl::Status status = ReadInstruction();
      if (!status.ok()) {
        return Invalid(
            absl::StrCat("instruction ", program_.instructions_.size(), " ", name_, ": ", status.message()));
      }
    }
    if (program_.instructions_.empty()) return Invalid("no instructions");
    const ValueShape& score = program_.instructions_.back().shape;
    if (score.rows != 1 || score.columns != 1) {
      return Invalid(absl::StrCat("scores of shape ", score.DebugString(), ", expected [tile, 1, 1]"));
    }
    if (constants_read_ != static_cast<int64_t>(program_.constants_->size())) {
      return Invalid(absl::StrCat(program_.constants_->size(), " floats of constants, expected ",
                                  constants_read_, " as the instructions have them"));
    }
    return std::move(program_);
  }

 private:
  absl::Status ReadHeader(absl::string_view bytes) {
    constexpr size_t kHeader = kProgramMagicSize + kHeaderWords * sizeof(uint32_t);
    if (bytes.size() < kHeader || bytes.substr(0, kProgramMagicSize) != kProgramMagic) {
      return Invalid(absl::StrCat(bytes.size(), " bytes that do not begin as a scorer program does"));
    }
    uint32_t header[kHeaderWords];
    std::memcpy(header, bytes.data() + kProgramMagicSize, sizeof(header));
    const auto [version, flags, words, floats] = header;
    if (version < 1 || version > ScorerProgram::kVersion) {
      return Invalid(absl::StrCat("version ", version, ", this library runs versions 1 to ",
                                  ScorerProgram::kVersion, ". Export with the version of nann that serves"));
    }
    if ((flags & ~kAfterUserFunction) != 0) return Invalid(absl::StrCat("unknown flags ", flags));
    const uint64_t size = kHeader + sizeof(uint32_t) * (uint64_t{words} + floats);
    if (size != bytes.size()) {
      return Invalid(absl::StrCat(bytes.size(), " bytes, expected ", size, " as the header has it"));
    }
    program_.after_user_function_ = flags != 0;
    Take(bytes.substr(kHeader, words * sizeof(uint32_t)), &words_);
    auto constants = std::make_shared<std::vector<float>>();
    Take(bytes.substr(kHeader + words * sizeof(uint32_t)), constants.get());
    program_.constants_ = std::move(constants);
    return absl::OkStatus();
  }

  // opcode, function, number of operands, number of parameters, operands, parameters.
  absl::Status ReadInstruction() {
    name_ = "";
    constexpr size_t kBegin = 4;
    const size_t left = words_.size() - next_;
    if (left < kBegin) return Invalid("it ends within an instruction");
    const uint32_t* words = words_.data() + next_;
    const uint64_t operands = words[2], parameters = words[3];
    if (words[0] >= std::size(kForms)) return Invalid(absl::StrCat("unknown opcode ", words[0]));
    const Form& form = kForms[words[0]];
    name_ = form.name;
    if (operands + parameters > left - kBegin) return Invalid("it ends within an instruction");
    if (words[1] >= form.functions) return Invalid(absl::StrCat("unknown function ", words[1]));
    if (operands < form.least_operands || operands > form.most_operands ||
        parameters < form.least_parameters || parameters > form.most_parameters) {
      return Invalid(absl::StrCat(operands, " operands and ", parameters, " parameters"));
    }
    const int64_t value = static_cast<int64_t>(program_.instructions_.size());
    if (value >= limits_.instructions) return Invalid("too many instructions");
    now_ = Instruction();
    now_.opcode = static_cast<Opcode>(words[0]);
    now_.function = words[1];
    for (uint64_t i = 0; i < operands; ++i) {
      if (words[kBegin + i] >= value) return Invalid(absl::StrCat("no earlier value ", words[kBegin + i]));
      now_.operands.push_back(static_cast<int>(words[kBegin + i]));
    }
    now_.parameters.assign(words + kBegin + operands, words + kBegin + operands + parameters);
    next_ += kBegin + operands + parameters;
    NANN_ASSIGN_OR_RETURN(now_.shape, InferShape());
    NANN_RETURN_IF_ERROR(CheckSides(now_.shape));
    NANN_RETURN_IF_ERROR(CountCost());
    program_.constant_begins_.push_back(constants_read_);
    if (now_.opcode == Opcode::kConstant) constants_read_ += now_.shape.rows * now_.shape.columns;
    program_.instructions_.push_back(std::move(now_));
    return absl::OkStatus();
  }

  const ValueShape& ShapeOf(int value) const { return program_.instructions_[value].shape; }
  const ValueShape& OperandShape(int operand) const { return ShapeOf(now_.operands[operand]); }

  absl::Status CheckSides(const ValueShape& shape) const {
    if (std::min(shape.rows, shape.columns) >= 1 && std::max(shape.rows, shape.columns) <= kMaxSide) {
      return absl::OkStatus();
    }
    return Invalid(absl::StrCat("a value of shape ", shape.DebugString()));
  }

  absl::StatusOr<ValueShape> InferShape() const {
    const std::vector<uint32_t>& parameters = now_.parameters;
    switch (now_.opcode) {
      case Opcode::kInput:
        return ValueShape{false, parameters.size() > 2 ? parameters[1] : 1,
                          parameters.size() > 1 ? parameters.back() : 1};
      case Opcode::kTable:
        return ValueShape{true, 1, parameters[1]};
      case Opcode::kConstant:
        return ConstantShape();
      case Opcode::kGemm:
        return GemmShape();
      case Opcode::kBinary:
      case Opcode::kSelect:
        return BroadcastShape();
      case Opcode::kUnary:
      case Opcode::kSoftmax:
        return OperandShape(0);
      case Opcode::kPrelu:
        NANN_RETURN_IF_ERROR(CheckRow(now_.operands[1], OperandShape(0).columns));
        return OperandShape(0);
      case Opcode::kSimilarity:
        NANN_RETURN_IF_ERROR(CheckRow(now_.operands[1], OperandShape(0).columns));
        return ValueShape{OperandShape(0).per_item, OperandShape(0).rows, 1};
      case Opcode::kReduce:
        NANN_RETURN_IF_ERROR(CheckAxis());
        return now_.over_rows() ? ValueShape{OperandShape(0).per_item, 1, OperandShape(0).columns}
                                : ValueShape{OperandShape(0).per_item, OperandShape(0).rows, 1};
      case Opcode::kTranspose:
        return ValueShape{OperandShape(0).per_item, OperandShape(0).columns, OperandShape(0).rows};
      case Opcode::kReshape:
        return Reshaped();
      case Opcode::kSlice:
        return SliceShape(parameters[0], parameters[1]);
      case Opcode::kConcat:
        NANN_RETURN_IF_ERROR(CheckAxis());
        return now_.over_rows() ? StackedShape() : ConcatShape();
      case Opcode::kProduct: {
        NANN_ASSIGN_OR_RETURN(ProductLayout layout,
                              ProductLayout::Of(parameters, OperandShape(0), OperandShape(1)));
        return layout.shape;
      }
      case Opcode::kRearrange: {
        NANN_ASSIGN_OR_RETURN(Rearrangement rearranged, Rearrangement::Of(parameters, OperandShape(0)));
        return rearranged.shape;
      }
      case Opcode::kGather:
        if (OperandShape(0).per_item) return Invalid(absl::StrCat("rows of ", OperandShape(0).DebugString()));
        return ValueShape{OperandShape(1).per_item, OperandShape(1).rows * OperandShape(1).columns,
                          OperandShape(0).columns};
    }
    return Invalid("unknown opcode");
  }

  absl::StatusOr<ValueShape> SliceShape(uint64_t begin, uint32_t columns) const {
    const ValueShape& from = OperandShape(0);
    if (begin + columns > from.columns) {
      return Invalid(absl::StrCat("columns ", begin, " to ", begin + columns, " of ", from.DebugString()));
    }
    return ValueShape{from.per_item, from.rows, columns};
  }

  absl::Status CheckAxis() const {
    if (now_.parameters.empty() || now_.parameters[0] == 1) return absl::OkStatus();
    return Invalid(absl::StrCat("axis ", now_.parameters[0], ", expected 1 or none"));
  }

  // A vector that is the same for all items and all rows.
  absl::Status CheckRow(int value, int64_t columns) const {
    if (ShapeOf(value) == ValueShape{false, 1, columns}) return absl::OkStatus();
    return Invalid(
        absl::StrCat("a row of shape ", ShapeOf(value).DebugString(), ", expected [1, ", columns, "]"));
  }

  absl::StatusOr<ValueShape> ConstantShape() const {
    const ValueShape shape{false, now_.parameters[0], now_.parameters[1]};
    NANN_RETURN_IF_ERROR(CheckSides(shape));
    if (shape.rows * shape.columns > static_cast<int64_t>(program_.constants_->size()) - constants_read_) {
      return Invalid(absl::StrCat(shape.DebugString(), " is more than the floats that are left"));
    }
    return shape;
  }

  absl::StatusOr<ValueShape> Reshaped() const {
    const ValueShape& from = OperandShape(0);
    const ValueShape to{from.per_item, now_.parameters[0], now_.parameters[1]};
    NANN_RETURN_IF_ERROR(CheckSides(to));
    if (to.rows * to.columns == from.rows * from.columns) return to;
    return Invalid(absl::StrCat(from.DebugString(), " to ", to.DebugString()));
  }

  absl::StatusOr<ValueShape> GemmShape() const {
    const uint64_t terms = now_.parameters[0];
    const uint64_t least = 2 * terms + (now_.has_slope() ? 1 : 0);
    if (terms < 1 || terms > kMaxSummands || least > now_.operands.size() ||
        now_.operands.size() - least + terms > kMaxSummands) {
      return Invalid(absl::StrCat(now_.operands.size(), " operands of ", terms, " terms"));
    }
    const ValueShape& left = ShapeOf(now_.left(0));
    const ValueShape shape{left.per_item, left.rows, MatrixOf(0).columns};
    for (int t = 0; t < now_.num_terms(); ++t) {
      const ValueShape &a = ShapeOf(now_.left(t)), b = MatrixOf(t);
      if (b.per_item || a.per_item != shape.per_item || a.rows != shape.rows || b.columns != shape.columns ||
          a.columns != b.rows) {
        return Invalid(
            absl::StrCat(a.DebugString(), " x ", b.DebugString(), ", a term of ", shape.DebugString()));
      }
    }
    for (int addend : now_.addends()) {
      if (!IsRepeatedTo(ShapeOf(addend), shape)) NANN_RETURN_IF_ERROR(CheckRow(addend, shape.columns));
    }
    if (now_.has_slope()) NANN_RETURN_IF_ERROR(CheckRow(now_.slope(), shape.columns));
    return shape;
  }

  // Whether an addend has the shape of a product, or that but for its rows or its items.
  static bool IsRepeatedTo(const ValueShape& addend, const ValueShape& shape) {
    const bool rows_fit = addend.rows == shape.rows || addend.rows == 1;
    const bool repeated_once = addend.per_item == shape.per_item || addend.rows == shape.rows;
    return addend.columns == shape.columns && rows_fit && repeated_once &&
           (shape.per_item || !addend.per_item);
  }

  // The right side of a term, as it is multiplied with.
  ValueShape MatrixOf(int t) const {
    ValueShape matrix = ShapeOf(now_.matrix(t));
    if (now_.transposed(t)) std::swap(matrix.rows, matrix.columns);
    return matrix;
  }

  absl::StatusOr<ValueShape> BroadcastShape() const {
    ValueShape all;
    for (int operand : now_.operands) {
      const ValueShape& next = ShapeOf(operand);
      const bool rows_fit = all.rows == next.rows || all.rows == 1 || next.rows == 1;
      const bool columns_fit = all.columns == next.columns || all.columns == 1 || next.columns == 1;
      if (!rows_fit || !columns_fit) {
        return Invalid(absl::StrCat(all.DebugString(), " and ", next.DebugString()));
      }
      all = {all.per_item || next.per_item, std::max(all.rows, next.rows),
             std::max(all.columns, next.columns)};
    }
    return all;
  }

  absl::StatusOr<ValueShape> ConcatShape() const {
    ValueShape all{false, 1, 0};
    for (int operand : now_.operands) {
      const ValueShape& next = ShapeOf(operand);
      if (all.rows != next.rows && all.rows != 1 && next.rows != 1) {
        return Invalid(absl::StrCat(all.DebugString(), " beside ", next.DebugString()));
      }
      all = {all.per_item || next.per_item, std::max(all.rows, next.rows), all.columns + next.columns};
      NANN_RETURN_IF_ERROR(CheckSides(all));
    }
    return all;
  }

  absl::StatusOr<ValueShape> StackedShape() const {
    ValueShape all{false, 0, OperandShape(0).columns};
    for (int operand : now_.operands) {
      const ValueShape& next = ShapeOf(operand);
      if (all.columns != next.columns) {
        return Invalid(absl::StrCat(all.DebugString(), " above ", next.DebugString()));
      }
      all = {all.per_item || next.per_item, all.rows + next.rows, all.columns};
      NANN_RETURN_IF_ERROR(CheckSides(all));
    }
    return all;
  }

  // Adds what the instruction takes to what all take.
  absl::Status CountCost() {
    const ValueShape& shape = now_.shape;
    int64_t& floats = shape.per_item                     ? item_floats_
                      : now_.opcode == Opcode::kConstant ? constant_floats_
                                                         : user_floats_;
    int64_t& work = shape.per_item ? item_work_ : user_work_;
    floats += shape.Floats();
    work += shape.Floats();
    // A gather reads no more rows of its table, the first operand, than it writes.
    for (size_t i = now_.opcode == Opcode::kGather ? 1 : 0; i < now_.operands.size(); ++i) {
      work += OperandShape(static_cast<int>(i)).Floats();
    }
    if (now_.opcode == Opcode::kGemm) {
      for (int t = 0; t < now_.num_terms(); ++t) {
        const ValueShape matrix = MatrixOf(t);
        const bool constant = program_.instructions_[now_.matrix(t)].opcode == Opcode::kConstant;
        (constant ? constant_floats_ : user_floats_) +=
            PackedSize(matrix.rows, matrix.columns, false) + kStrip;
        item_floats_ += shape.per_item ? ShapeOf(now_.left(t)).Floats() : 0;  // A copy in bfloat16.
        work += shape.rows * PackedSize(matrix.rows, matrix.columns, false);
      }
    }
    if (now_.opcode == Opcode::kProduct) {
      NANN_ASSIGN_OR_RETURN(const ProductLayout layout,
                            ProductLayout::Of(now_.parameters, OperandShape(0), OperandShape(1)));
      floats += layout.depth * kStrip;
      work += layout.left.groups * layout.rows * PackedSize(layout.depth, layout.columns, false);
    }
    if (constant_floats_ > 2 * limits_.constant_floats || user_floats_ > limits_.user_floats ||
        item_floats_ > limits_.item_floats) {
      return Invalid("more memory than a scorer may take");
    }
    if (user_work_ > limits_.user_work || item_work_ > limits_.item_work) {
      return Invalid("more work than a scorer may do");
    }
    return absl::OkStatus();
  }

  const ProgramLimits limits_;
  ScorerProgram program_;
  std::vector<uint32_t> words_;
  size_t next_ = 0;
  const char* name_ = "";  // Of the instruction that is being read.
  Instruction now_;
  int64_t constants_read_ = 0;
  int64_t constant_floats_ = 0, user_floats_ = 0, item_floats_ = 0;
  int64_t user_work_ = 0, item_work_ = 0;
};

absl::StatusOr<ScorerProgram> ScorerProgram::Parse(absl::string_view bytes, const ProgramLimits& limits) {
  absl::StatusOr<ScorerProgram> program = ProgramReader(limits).Read(bytes);
  if (program.ok()) return program;
  return Invalid(absl::StrCat("scorer_program: expected a program that can be run, found ",
                              program.status().message(), "."));
}

}  // namespace nann
