#include "masked_axis.h"

#include <algorithm>
#include <utility>

#include "axis_spans.h"
#include "mask_proof.h"

namespace nann {
namespace {

struct Seed {
  int value;
  Side side;
};

// Sides of values per item that something of the user may mask.
std::vector<Seed> Seeds(const ScorerProgram& program) {
  const std::vector<Instruction>& all = program.instructions();
  const auto varies = [&](int value) {
    return !all[value].shape.per_item && all[value].opcode != Opcode::kConstant;
  };
  std::vector<Seed> seeds;
  for (size_t value = 0; value < all.size(); ++value) {
    const Instruction& each = all[value];
    const int made = static_cast<int>(value);
    if (!each.shape.per_item) continue;
    if (each.opcode == Opcode::kGemm) {
      for (int t = 0; t < each.num_terms(); ++t) {
        if (varies(each.matrix(t)) && all[each.left(t)].shape.per_item)
          seeds.push_back({each.left(t), kColumns});
      }
    }
    const bool elementwise = each.opcode == Opcode::kBinary || each.opcode == Opcode::kSelect;
    if (each.opcode == Opcode::kConcat && std::any_of(each.operands.begin(), each.operands.end(), varies)) {
      seeds.push_back({made, each.over_rows() ? kRows : kColumns});
    }
    for (size_t i = 0; elementwise && i < each.operands.size(); ++i) {
      for (Side side : {kRows, kColumns}) {
        if (varies(each.operands[i]) && SizeOf(all[each.operands[i]].shape, side) > 1)
          seeds.push_back({made, side});
      }
    }
  }
  return seeds;
}

// Floats of an item that the axis takes part in.
int64_t FloatsWithPositions(const ScorerProgram& program, const std::vector<AxisSpans>& spans) {
  int64_t floats = 0;
  for (size_t value = 0; value < spans.size(); ++value) {
    const ValueShape& shape = program.instructions()[value].shape;
    if (!shape.per_item) continue;
    for (Side side : {kRows, kColumns})
      floats += spans[value][side].exists() ? shape.rows * shape.columns : 0;
  }
  return floats;
}

// Whether a side of a value has positions of both axes.
bool Meet(const std::vector<AxisSpans>& a, const std::vector<AxisSpans>& b) {
  for (size_t value = 0; value < a.size(); ++value) {
    for (Side side : {kRows, kColumns}) {
      if (a[value][side].exists() && b[value][side].exists()) return true;
    }
  }
  return false;
}

}  // namespace

std::vector<MaskedAxis> FindMaskedAxes(const ScorerProgram& program) {
  // Loading a program takes time for each; scorers have a few axes, each with a few seeds.
  constexpr int kMostTried = 64;
  std::vector<std::pair<int64_t, MaskedAxis>> found;
  if (!program.instructions()[program.output()].shape.per_item) return {};  // Items cost nothing.
  int tried = 0;
  std::vector<std::array<bool, 2>> followed(program.instructions().size());
  for (const Seed& seed : Seeds(program)) {
    const int64_t positions = SizeOf(program.instructions()[seed.value].shape, seed.side);
    if (positions < 2 || followed[seed.value][seed.side] || ++tried > kMostTried) continue;
    AxisSpreader spreader(program, positions);
    const bool spread = spreader.Spread(seed.value, seed.side);
    for (size_t value = 0; value < followed.size(); ++value) {
      for (Side side : {kRows, kColumns}) {
        if (spreader.spans()[value][side].exists()) followed[value][side] = true;
      }
    }
    MaskedAxis axis{positions, spreader.spans(), {}, {}, spreader.kept()};
    if (spread && ProveMasked(program, &axis)) {
      found.emplace_back(FloatsWithPositions(program, axis.spans), std::move(axis));
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<MaskedAxis> axes;
  for (auto& [extent, axis] : found) {
    const bool apart = std::none_of(axes.begin(), axes.end(),
                                    [&](const MaskedAxis& other) { return Meet(axis.spans, other.spans); });
    if (apart) axes.push_back(std::move(axis));
  }
  return axes;
}

void Shorten(const AxisSpans& spans, const std::vector<int>& live, ValueShape* shape) {
  for (Side side : {kRows, kColumns}) {
    const AxisSpan& span = spans[side];
    if (!span.exists()) continue;
    const int64_t left = std::count_if(live.begin(), live.end(), [&](int position) {
      return position >= span.first && position < span.first + span.count;
    });
    (side == kRows ? shape->rows : shape->columns) = span.outer * left * span.inner;
  }
}

namespace {

// A step, or a first index, over a side that lost positions.
int64_t ShortenedStep(const AxisSpan& span, int64_t size, int64_t step, int64_t left) {
  const bool outer = SteppingOf(span, size, step) == Stepping::kOuter;
  return outer ? step / span.count * left : step;
}

int64_t ShortenedIndex(const AxisSpan& span, int64_t index, const std::vector<int>& live) {
  const SpanIndex at = IndexIn(span, index);
  const int64_t rank = std::lower_bound(live.begin(), live.end(), at.position) - live.begin();
  return (at.outer * static_cast<int64_t>(live.size()) + rank) * span.inner + at.inner;
}

void ShortenRearrangement(const AxisSpans& from, const std::vector<int>& live, Instruction* instruction) {
  constexpr size_t kAxes = 4, kAxisParameters = 3;  // rows, columns, first row, first column; then the axes.
  std::vector<uint32_t>& parameters = instruction->parameters;
  parameters[0] = static_cast<uint32_t>(instruction->shape.rows);
  parameters[1] = static_cast<uint32_t>(instruction->shape.columns);
  const int64_t left = static_cast<int64_t>(live.size());
  for (Side side : {kRows, kColumns}) {
    if (!from[side].exists()) continue;
    bool stepped = false;
    for (size_t at = kAxes; at < parameters.size(); at += kAxisParameters) {
      const int64_t size = parameters[at], step = parameters[at + 1 + side];
      const bool over_positions = SteppingOf(from[side], size, step) == Stepping::kPositions;
      stepped = stepped || over_positions;
      if (over_positions) parameters[at] = static_cast<uint32_t>(size / from[side].count * left);
      parameters[at + 1 + side] = static_cast<uint32_t>(ShortenedStep(from[side], size, step, left));
    }
    uint32_t& first = parameters[2 + side];
    const SpanIndex begin = IndexIn(from[side], first);
    first = static_cast<uint32_t>(stepped ? begin.outer * left * from[side].inner + begin.inner
                                          : ShortenedIndex(from[side], first, live));
  }
}

}  // namespace

void Shorten(const MaskedAxis& axis, int value, const std::vector<int>& live, Instruction* instruction) {
  Shorten(axis.spans[value], live, &instruction->shape);
  switch (instruction->opcode) {
    case Opcode::kReshape:
      instruction->parameters = {static_cast<uint32_t>(instruction->shape.rows),
                                 static_cast<uint32_t>(instruction->shape.columns)};
      return;
    case Opcode::kSlice:
      instruction->parameters[1] = static_cast<uint32_t>(instruction->shape.columns);
      return;
    case Opcode::kRearrange:
      return ShortenRearrangement(axis.spans[instruction->operands[0]], live, instruction);
    default:
      return;
  }
}

}  // namespace nann
