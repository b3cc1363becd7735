// Where the positions of one axis lie in the values of a program.
#ifndef NANN_OPS_CORE_SCORER_AXIS_SPANS_H_
#define NANN_OPS_CORE_SCORER_AXIS_SPANS_H_

#include <optional>
#include <utility>
#include <vector>

#include "masked_axis.h"
#include "matrix_layouts.h"

namespace nann {

// Follows an axis from one side of a value through all values per item that are computed from it or it from
// them. `positions` are those of the axis.
class AxisSpreader {
 public:
  AxisSpreader(const ScorerProgram& program, int64_t positions);

  // Whether the axis can be followed everywhere, beginning at a side of a value.
  bool Spread(int value, Side side);

  const std::vector<AxisSpans>& spans() const { return spans_; }
  const std::vector<bool>& kept() const { return kept_; }

 private:
  using End = std::pair<int, Side>;

  const Instruction& At(int value) const { return instructions_[value]; }
  const AxisSpan& Of(End end) const { return spans_[end.first][end.second]; }
  void Set(End end, const AxisSpan& span);
  void Unify(End a, End b, int64_t a_groups = 1, int64_t b_groups = 1);
  void UnifyBroadcast(int operand, int value);
  void Relate(int value);
  void RelateGather(int value);
  void RelateGemm(int value);
  void RelateProduct(int value);
  void RelateConcat(int value);
  void RelateReshape(int value);
  void RelateRearrange(int value);
  void RearrangeForward(int value, const Rearrangement& moved);
  void RearrangeBackward(int value, const Rearrangement& moved);
  std::optional<AxisSpan> Flat(int value) const;
  void SetFlat(int value, const AxisSpan& flat);

  const std::vector<Instruction>& instructions_;
  const int64_t positions_;
  std::vector<AxisSpans> spans_;
  std::vector<bool> kept_;
  bool changed_ = false;
  bool failed_ = false;
};

// How one axis of a rearrangement steps over a side that has positions.
enum class Stepping { kNone, kOuter, kPositions, kInner, kOther };
Stepping SteppingOf(const AxisSpan& span, int64_t size, int64_t step);

// The first index on a side: its index of `outer`, its position, and its index of `inner`.
struct SpanIndex {
  int64_t outer, position, inner;
};
inline SpanIndex IndexIn(const AxisSpan& span, int64_t index) {
  return {index / (span.count * span.inner), index / span.inner % span.count, index % span.inner};
}

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_AXIS_SPANS_H_
