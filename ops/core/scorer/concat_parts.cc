#include "concat_parts.h"

#include <algorithm>

#include "matrix_layouts.h"

namespace nann {
namespace {

using Instructions = std::vector<Instruction>;

// Whether kernels that write a part in place leave the other parts alone.
bool FitsAsPart(const Instructions& instructions, int part, const Instruction& joined) {
  const Instruction& made = instructions[part];
  const ValueShape &shape = made.shape, &all = joined.shape;
  const bool one_number =
      made.opcode == Opcode::kSimilarity || (made.opcode == Opcode::kReduce && !made.over_rows());
  const bool whole_strips = made.opcode == Opcode::kGemm || made.opcode == Opcode::kProduct ||
                            made.opcode == Opcode::kBinary || made.opcode == Opcode::kSelect ||
                            made.opcode == Opcode::kUnary || made.opcode == Opcode::kPrelu ||
                            made.opcode == Opcode::kSoftmax;
  if (shape.per_item != all.per_item || !(one_number || (whole_strips && shape.columns > 1))) return false;
  if (joined.over_rows()) return !shape.per_item || shape.rows == 1;
  const int64_t begin = PartsBefore(instructions, part, joined), end = begin + shape.columns;
  const bool is_last = end == all.columns && begin + PaddedWidth(shape.columns) <= PaddedWidth(end);
  return shape.rows == all.rows && (one_number || shape.columns % kStrip == 0 || is_last);
}

// Whether a rearrangement may write its rows among those of the other parts. From item to item they are as
// far apart as the concatenation's, so that nothing else can read them.
bool FitsAsRows(const Instructions& instructions, int part, const Instruction& joined) {
  const Instruction& made = instructions[part];
  return made.opcode == Opcode::kRearrange && joined.over_rows() &&
         made.shape.per_item == joined.shape.per_item &&
         Rearrangement::Of(made.parameters, instructions[made.operands[0]].shape)->HasOneColumnAxis();
}

}  // namespace

std::vector<int> PartsInPlace(const Instructions& instructions) {
  std::vector<int> part_of(instructions.size(), -1), readers(instructions.size());
  for (const Instruction& instruction : instructions) {
    for (int operand : instruction.operands) ++readers[operand];
  }
  for (size_t value = 0; value < instructions.size(); ++value) {
    const Instruction& joined = instructions[value];
    if (joined.opcode != Opcode::kConcat || joined.shape.columns == 1) continue;
    for (int part : joined.operands) {
      const bool once = std::count(joined.operands.begin(), joined.operands.end(), part) == 1;
      const bool fits = FitsAsPart(instructions, part, joined) ||
                        (readers[part] == 1 && FitsAsRows(instructions, part, joined));
      if (once && part_of[part] < 0 && fits) part_of[part] = static_cast<int>(value);
    }
  }
  return part_of;
}

int64_t PartsBefore(const Instructions& instructions, int part, const Instruction& joined) {
  int64_t before = 0;
  for (int operand : joined.operands) {
    if (operand == part) break;
    before += joined.over_rows() ? instructions[operand].shape.rows : instructions[operand].shape.columns;
  }
  return before;
}

}  // namespace nann
