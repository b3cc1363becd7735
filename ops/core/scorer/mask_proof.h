// Shows that a scorer's result does not depend on positions that the user masks.
#ifndef NANN_OPS_CORE_SCORER_MASK_PROOF_H_
#define NANN_OPS_CORE_SCORER_MASK_PROOF_H_

#include "masked_axis.h"

namespace nann {

// Whether masked positions may be left out of an axis whose spans are known. Fills in its masks: without a
// NaN or an infinity among what is left out, and with a position that no mask before a softmax masks, the
// score is the same. Products of an item's numbers that overflow beside a mask are not looked at.
bool ProveMasked(const ScorerProgram& program, MaskedAxis* axis);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_MASK_PROOF_H_
