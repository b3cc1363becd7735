#include "mask_proof.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>

#include "matrix_layouts.h"

namespace nann {
namespace {

// What is known of a value at positions that are masked, on one of its sides.
struct Masked {
  bool is_zero = false;  // Where all of `zero_by` mask.
  std::vector<Mask> zero_by;
  std::optional<Mask> low_by;  // At most kLowLogit where it masks.
  bool is_lowest = false;      // Minus infinity there.
};

// Goes through the values per item and shows that masked positions change nothing.
class MaskProof {
 public:
  MaskProof(const ScorerProgram& program, MaskedAxis* axis)
      : program_(program),
        instructions_(program.instructions()),
        spans_(axis->spans),
        axis_(*axis),
        masked_(instructions_.size()) {}

  bool Holds() {
    for (size_t value = 0; value < instructions_.size() && !failed_; ++value) {
      if (instructions_[value].shape.per_item) Follow(static_cast<int>(value));
    }
    const AxisSpans& score = spans_[program_.output()];
    return !failed_ && !score[kRows].exists() && !score[kColumns].exists();
  }

 private:
  const Instruction& At(int value) const { return instructions_[value]; }
  bool Has(int value, Side side) const { return spans_[value][side].exists(); }
  bool IsConstant(int value) const { return At(value).opcode == Opcode::kConstant; }

  // What is known of an operand; of one of the user: it may hold what masks.
  Masked Of(int value, Side side) const {
    if (!Has(value, side)) return {};
    if (At(value).shape.per_item) return masked_[value][side];
    if (IsConstant(value)) return {};
    return {true, {{value, side, MaskKind::kZero}}, Mask{value, side, MaskKind::kLow}};
  }

  template <typename Holds>
  bool EveryNumber(int value, Holds holds) const {
    if (!IsConstant(value)) return false;
    const float* numbers = program_.ConstantOf(value);
    return std::all_of(numbers, numbers + At(value).shape.rows * At(value).shape.columns, holds);
  }
  bool IsLow(int value) const {
    return EveryNumber(value, [](float x) { return x <= kLowLogit; });
  }
  bool IsLowest(int value) const {
    return EveryNumber(value, [](float x) { return x < std::numeric_limits<float>::lowest(); });
  }
  bool IsZero(int value) const {
    return EveryNumber(value, [](float x) { return x == 0; });
  }

  void Require(const Masked& masked) {
    failed_ = failed_ || !masked.is_zero;
    for (const Mask& mask : masked.zero_by) Add(mask, &axis_.masks);
  }
  static void Add(const Mask& mask, std::vector<Mask>* masks) {
    if (std::find(masks->begin(), masks->end(), mask) == masks->end()) masks->push_back(mask);
  }

  // A sum over positions: one of the factors is zero where they are masked.
  void RequireContraction(int left, Side left_side, int right, Side right_side) {
    if (!Has(left, left_side)) return;
    const Masked known = At(left).shape.per_item ? Of(left, left_side) : Masked{};
    const Masked other = Of(right, right_side);
    Require(known.is_zero ? known : other.is_zero ? other : Of(left, left_side));
  }

  void RequireTerms(const Instruction& gemm) {
    for (int t = 0; t < gemm.num_terms(); ++t) {
      RequireContraction(gemm.left(t), kColumns, gemm.matrix(t), gemm.transposed(t) ? kColumns : kRows);
    }
  }

  // Numbers to which a selection of the user's adds low ones: so a mask becomes a part of a product.
  void FollowAddends(int value) {
    const Instruction& gemm = At(value);
    if (static_cast<Activation>(gemm.function) != Activation::kNone) return;
    for (int addend : gemm.addends()) {
      const Instruction& made = At(addend);
      if (made.shape.per_item || made.opcode != Opcode::kSelect) continue;
      if (!IsLow(made.operands[1]) && !IsLow(made.operands[2])) continue;
      for (Side side : {kRows, kColumns}) {
        if (Has(value, side) && Has(addend, side)) {
          masked_[value][side].low_by = Mask{addend, side, MaskKind::kLow};
        }
      }
    }
  }

  void Follow(int value) {
    const Instruction& instruction = At(value);
    const int first = instruction.operands.empty() ? -1 : instruction.operands[0];
    switch (instruction.opcode) {
      case Opcode::kGemm:
        RequireTerms(instruction);
        return FollowAddends(value);
      case Opcode::kProduct: {
        const int right = instruction.operands[1];
        const ProductLayout layout =
            *ProductLayout::Of(instruction.parameters, At(first).shape, At(right).shape);
        return RequireContraction(first, layout.left.transposed ? kRows : kColumns, right,
                                  layout.right.transposed ? kColumns : kRows);
      }
      case Opcode::kBinary:
        for (Side side : {kRows, kColumns}) {
          if (Has(value, side)) masked_[value][side] = OfBinary(instruction, side);
        }
        return;
      case Opcode::kSelect:
        for (Side side : {kRows, kColumns}) {
          if (Has(value, side)) masked_[value][side] = OfSelect(instruction, side);
        }
        return;
      case Opcode::kUnary:
        if (KeepsZero(static_cast<UnaryOp>(instruction.function))) KeepZeros(value, first);
        return;
      case Opcode::kPrelu:
        return KeepZeros(value, first);
      case Opcode::kSoftmax:
        if (Has(value, kColumns)) OfSoftmax(value, first);
        return;
      case Opcode::kReduce:
        return FollowReduce(value, first);
      case Opcode::kSimilarity:
        failed_ = failed_ || Has(first, kColumns);
        return;
      case Opcode::kConcat:
        return FollowConcat(value);
      case Opcode::kTranspose:
        masked_[value][kRows] = Of(first, kColumns);
        masked_[value][kColumns] = Of(first, kRows);
        return;
      case Opcode::kSlice:
      case Opcode::kReshape:
      case Opcode::kRearrange:
        return Move(value, first);
      default:
        return;
    }
  }

  void KeepZeros(int value, int operand) {
    for (Side side : {kRows, kColumns}) {
      if (!Has(value, side)) continue;
      masked_[value][side] = Of(operand, side);
      masked_[value][side].low_by.reset();
    }
  }

  // The same numbers elsewhere. With positions on both sides it is not known which went where.
  void Move(int value, int operand) {
    if (At(operand).shape == At(value).shape && Has(value, kRows) == Has(operand, kRows) &&
        Has(value, kColumns) == Has(operand, kColumns) && At(value).opcode != Opcode::kRearrange) {
      for (Side side : {kRows, kColumns}) masked_[value][side] = Of(operand, side);
      return;
    }
    if ((Has(value, kRows) && Has(value, kColumns)) || (Has(operand, kRows) && Has(operand, kColumns)))
      return;
    const Masked known = Of(operand, Has(operand, kRows) ? kRows : kColumns);
    for (Side side : {kRows, kColumns}) {
      if (Has(value, side)) masked_[value][side] = known;
    }
  }

  static bool KeepsZero(UnaryOp op) {
    switch (op) {
      case UnaryOp::kRsqrt:
      case UnaryOp::kReciprocal:
      case UnaryOp::kExp:
      case UnaryOp::kSigmoid:
      case UnaryOp::kLog:
      case UnaryOp::kSoftplus:
      case UnaryOp::kCos:
      case UnaryOp::kAcos:
        return false;
      default:
        return true;
    }
  }

  Masked OfBinary(const Instruction& binary, Side side) const {
    const int left = binary.operands[0], right = binary.operands[1];
    const Masked a = Of(left, side), b = Of(right, side);
    const bool items_first = At(left).shape.per_item;
    Masked result;
    switch (static_cast<BinaryOp>(binary.function)) {
      case BinaryOp::kMul: {
        const Masked &likely = items_first ? a : b, &other = items_first ? b : a;
        result = likely.is_zero ? likely : other;
        result.low_by.reset();
        return result;
      }
      case BinaryOp::kAdd:
        result.low_by = items_first && a.low_by.has_value() ? a.low_by : b.low_by;
        if (!result.low_by.has_value()) result.low_by = a.low_by;
        break;
      case BinaryOp::kSub:
        result.low_by = At(left).shape.per_item ? a.low_by : std::nullopt;
        if (!result.low_by.has_value() && Has(right, side) && !At(right).shape.per_item &&
            !IsConstant(right)) {
          result.low_by = Mask{right, side, MaskKind::kHigh};
        }
        break;
      case BinaryOp::kDiv:
        if (IsConstant(right)) result = a;
        result.low_by.reset();
        return result;
      default:
        return result;
    }
    if (a.is_zero && b.is_zero && At(left).shape.per_item && At(right).shape.per_item) {
      result.is_zero = true;
      result.zero_by = a.zero_by;
      for (const Mask& mask : b.zero_by) Add(mask, &result.zero_by);
    }
    return result;
  }

  // Where the condition masks, the other operand is taken.
  Masked OfSelect(const Instruction& select, Side side) const {
    const int condition = select.operands[0], chosen = select.operands[1], other = select.operands[2];
    const Masked off = Of(condition, side);
    Masked result;
    if (!off.is_zero) return result;
    if (IsLow(other) && off.zero_by.size() == 1) {
      result.low_by = off.zero_by[0];
      result.is_lowest = IsLowest(other);
    }
    if (IsZero(other)) result = {true, off.zero_by, std::nullopt};
    if (At(condition).shape.per_item) return result;
    const Mask on{condition, side, MaskKind::kNonzero};
    if (IsLow(chosen)) {
      result.low_by = on;
      result.is_lowest = IsLowest(chosen);
    }
    if (IsZero(chosen)) result = {true, {on}, std::nullopt};
    return result;
  }

  // Beside a position that is not masked, low logits have no share.
  void OfSoftmax(int value, int logits) {
    const std::optional<Mask> low = Of(logits, kColumns).low_by;
    const AxisSpan span = low.has_value() ? spans_[low->value][low->side] : AxisSpan{};
    failed_ = failed_ || !low.has_value() || span.outer != 1 || span.inner != 1;
    if (failed_) return;
    masked_[value][kColumns] = {true, {*low}, std::nullopt};
    Add(*low, &axis_.masks);
    Add(*low, &axis_.softmax_masks);
  }

  // Zeros add nothing, and minus infinity is the largest number only where there is no other.
  void FollowOver(const Masked& masked, ReduceOp op) {
    if (op == ReduceOp::kMax && masked.low_by.has_value() && masked.is_lowest) {
      return Add(*masked.low_by, &axis_.masks);
    }
    failed_ = failed_ || op != ReduceOp::kSum;
    Require(masked);
  }

  void FollowReduce(int value, int operand) {
    const Side over = At(value).over_rows() ? kRows : kColumns, kept = over == kRows ? kColumns : kRows;
    const ReduceOp op = static_cast<ReduceOp>(At(value).function);
    if (Has(operand, over)) FollowOver(Of(operand, over), op);
    if (Has(value, kept)) {
      masked_[value][kept] = Of(operand, kept);
      masked_[value][kept].low_by.reset();
    }
  }

  void FollowConcat(int value) {
    const Instruction& joined = At(value);
    const Side along = joined.over_rows() ? kRows : kColumns, across = joined.over_rows() ? kColumns : kRows;
    if (Has(value, along)) {
      // Positions of other parts are kept.
      std::vector<int> of_user;
      std::copy_if(joined.operands.begin(), joined.operands.end(), std::back_inserter(of_user),
                   [&](int part) { return !At(part).shape.per_item; });
      if (of_user.size() == 1) masked_[value][along] = Of(of_user[0], along);
    }
    if (!Has(value, across)) return;
    Masked all{true, {}, std::nullopt};
    for (int part : joined.operands) {
      const Masked known = Of(part, across);
      all.is_zero = all.is_zero && known.is_zero;
      for (const Mask& mask : known.zero_by) Add(mask, &all.zero_by);
    }
    if (all.is_zero) masked_[value][across] = all;
  }

  const ScorerProgram& program_;
  const std::vector<Instruction>& instructions_;
  const std::vector<AxisSpans>& spans_;
  MaskedAxis& axis_;
  std::vector<std::array<Masked, 2>> masked_;
  bool failed_ = false;
};

}  // namespace

bool ProveMasked(const ScorerProgram& program, MaskedAxis* axis) {
  return MaskProof(program, axis).Holds() && !axis->masks.empty();
}

}  // namespace nann
