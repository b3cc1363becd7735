// Selections by one number of the user, such as whether a loop over events goes on: of their two sides, a
// user's scores need one.
#ifndef NANN_OPS_CORE_SCORER_TAKEN_SIDES_H_
#define NANN_OPS_CORE_SCORER_TAKEN_SIDES_H_

#include <vector>

#include "absl/functional/function_ref.h"
#include "scorer_program.h"

namespace nann {

// Whether an instruction per item selects by one number of the user.
bool TakesOneSide(const std::vector<Instruction>& instructions, int value);

// Whether some instruction does.
bool AnyTakesOneSide(const std::vector<Instruction>& instructions);

// Per value: whether the last one depends on it. `holds`: whether the condition of a selection that takes one
// side is true.
std::vector<bool> NeededValues(const std::vector<Instruction>& instructions,
                               absl::FunctionRef<bool(int condition)> holds);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_TAKEN_SIDES_H_
