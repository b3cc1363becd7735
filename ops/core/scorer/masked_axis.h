// Finds the events of a user that a scorer masks: what need not be computed for items.
#ifndef NANN_OPS_CORE_SCORER_MASKED_AXIS_H_
#define NANN_OPS_CORE_SCORER_MASKED_AXIS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "scorer_program.h"

namespace nann {

enum Side { kRows, kColumns };

inline int64_t SizeOf(const ValueShape& shape, int side) {
  return side == kRows ? shape.rows : shape.columns;
}

// How the positions of an axis lie on one side of a matrix: index = (o * count + position - first) * inner +
// i, for o < outer and i < inner. A value per item holds all positions; one of the user may hold some of
// them. count 0: the side has no positions.
struct AxisSpan {
  int64_t outer = 1, inner = 1, first = 0, count = 0;

  bool exists() const { return count > 0; }
  int64_t size() const { return outer * count * inner; }
  bool operator==(const AxisSpan& other) const {
    return outer == other.outer && inner == other.inner && first == other.first && count == other.count;
  }
};

using AxisSpans = std::array<AxisSpan, 2>;  // By Side.

// Which numbers of a user's value mask a position: zeros, others than zeros, or numbers so low or high that a
// softmax of them is 0.
enum class MaskKind { kZero, kNonzero, kLow, kHigh };

// A value of the user that masks positions, on one of its sides.
struct Mask {
  int value = 0;
  Side side = kRows;
  MaskKind kind = MaskKind::kZero;

  bool operator==(const Mask& other) const {
    return value == other.value && side == other.side && kind == other.kind;
  }
};

// Numbers from here on take part in no softmax: beside them float32 does not tell logits apart.
inline constexpr float kLowLogit = -1e8f;

// An axis of positions, such as events. The score is the same without a position that all of `masks` mask.
struct MaskedAxis {
  int64_t positions = 0;
  std::vector<AxisSpans> spans;  // Per value; of the user's, those that values per item are computed from.
  std::vector<Mask> masks;
  std::vector<Mask> softmax_masks;  // Those of them before a softmax: it needs a position that is not masked.
  std::vector<bool> kept;           // Per position: whether it is never left out.
};

// The axes that positions can be left out of; no side of a value has positions of two of them.
std::vector<MaskedAxis> FindMaskedAxes(const ScorerProgram& program);

// An instruction that makes the value `value` per item, with the positions `live` of an axis only: an
// ascending subset.
void Shorten(const MaskedAxis& axis, int value, const std::vector<int>& live, Instruction* instruction);

// The same of the shape of any value.
void Shorten(const AxisSpans& spans, const std::vector<int>& live, ValueShape* shape);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_MASKED_AXIS_H_
