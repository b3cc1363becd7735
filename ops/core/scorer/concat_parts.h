// Which values are computed in the place of a concatenation, which then need not copy them.
#ifndef NANN_OPS_CORE_SCORER_CONCAT_PARTS_H_
#define NANN_OPS_CORE_SCORER_CONCAT_PARTS_H_

#include <cstdint>
#include <vector>

#include "scorer_program.h"

namespace nann {

// Per value: the concatenation in whose place it may be written, or -1.
std::vector<int> PartsInPlace(const std::vector<Instruction>& instructions);

// Rows or columns of a concatenation before one of its parts.
int64_t PartsBefore(const std::vector<Instruction>& instructions, int part, const Instruction& joined);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_CONCAT_PARTS_H_
