#include "taken_sides.h"

namespace nann {

bool TakesOneSide(const std::vector<Instruction>& instructions, int value) {
  const Instruction& instruction = instructions[value];
  return instruction.opcode == Opcode::kSelect && instruction.shape.per_item &&
         instructions[instruction.operands[0]].shape == ValueShape{};
}

bool AnyTakesOneSide(const std::vector<Instruction>& instructions) {
  for (size_t value = 0; value < instructions.size(); ++value) {
    if (TakesOneSide(instructions, static_cast<int>(value))) return true;
  }
  return false;
}

std::vector<bool> NeededValues(const std::vector<Instruction>& instructions,
                               absl::FunctionRef<bool(int condition)> holds) {
  std::vector<bool> needed(instructions.size(), false);
  needed.back() = true;
  for (int value = static_cast<int>(instructions.size()) - 1; value >= 0; --value) {
    if (!needed[value]) continue;
    const std::vector<int>& operands = instructions[value].operands;
    if (TakesOneSide(instructions, value)) {
      needed[operands[0]] = true;
      needed[operands[holds(operands[0]) ? 1 : 2]] = true;
      continue;
    }
    for (int operand : operands) needed[operand] = true;
  }
  return needed;
}

}  // namespace nann
