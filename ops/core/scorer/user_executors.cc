#include "user_executors.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace nann {
namespace {

// Lengths of user sequences that get an executor of their own; longer axes are left in steps.
constexpr int64_t kMostLengths = 32;

// A server of many kinds of users would otherwise hold one for each.
constexpr size_t kMostExecutors = 256;

bool Masks(MaskKind kind, float x) {
  switch (kind) {
    case MaskKind::kZero:
      return x == 0;
    case MaskKind::kNonzero:
      return x != 0;
    case MaskKind::kLow:
      return x <= kLowLogit;
    case MaskKind::kHigh:
      return x >= -kLowLogit;
  }
  return false;
}

// Of an IEEE float: neither a NaN nor an infinity. The library needs no libm.
bool IsFinite(float x) { return x - x == 0; }

int64_t PositionOf(const AxisSpan& span, int64_t index) {
  return span.first + index / span.inner % span.count;
}

// The indices of a side that are left.
std::vector<int64_t> IndicesLeft(const AxisSpan& span, int64_t size, const std::vector<bool>& is_live) {
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < size; ++i) {
    if (!span.exists() || is_live[PositionOf(span, i)]) indices.push_back(i);
  }
  return indices;
}

std::vector<bool> AsFlags(const std::vector<int>& live, int64_t positions) {
  std::vector<bool> flags(positions, false);
  for (int position : live) flags[position] = true;
  return flags;
}

// Adds a position; false where all are there.
bool Grow(int64_t positions, std::vector<int>* live) {
  if (static_cast<int64_t>(live->size()) == positions) return false;
  int first = 0;  // That is missing.
  while (first < static_cast<int>(live->size()) && (*live)[first] == first) ++first;
  live->insert(live->begin() + first, first);
  return true;
}

}  // namespace

UserExecutors::UserExecutors(std::shared_ptr<const ScorerProgram> program,
                             const NativeExecutor::Options& options)
    : whole_(std::move(program), options), axes_(FindMaskedAxes(whole_.program())), cuts_(axes_.size()) {
  const std::vector<Instruction>& all = whole_.program().instructions();
  std::vector<bool> is_read(all.size(), false);
  for (const Instruction& each : all) {
    for (int operand : each.operands) {
      const bool varies =
          all[operand].opcode != Opcode::kConstant ||
          std::any_of(axes_.begin(), axes_.end(), [&](const MaskedAxis& axis) {
            return axis.spans[operand][kRows].exists() || axis.spans[operand][kColumns].exists();
          });
      if (each.shape.per_item && !all[operand].shape.per_item && varies) is_read[operand] = true;
    }
  }
  for (size_t value = 0; value < all.size() && !axes_.empty(); ++value) {
    if (is_read[value]) read_.push_back(static_cast<int>(value));
  }
  for (size_t i = 0; i < axes_.size(); ++i) {
    std::vector<int64_t>& cuts = cuts_[i];
    for (int value : read_) {
      for (const AxisSpan& span : axes_[i].spans[value]) {
        if (span.exists()) cuts.insert(cuts.end(), {span.first, span.first + span.count});
      }
    }
    for (int64_t position = 0; position < axes_[i].positions; ++position) {
      if (axes_[i].kept[position]) cuts.push_back(position);
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  }
}

RowsView UserExecutors::ValueOf(int value, const AlignedFloats& user) const {
  const Instruction& made = whole_.program().instructions()[value];
  if (made.opcode == Opcode::kConstant) return {whole_.program().ConstantOf(value), made.shape.columns};
  return whole_.UserValue(value, user);
}

// What no mask masks, and some more: of every value something, and as many as some executor takes.
UserExecutors::Positions UserExecutors::LivePositions(const MaskedAxis& axis,
                                                      const AlignedFloats& user) const {
  std::vector<bool> is_live = axis.kept;
  std::vector<int> masked_by(axis.positions, 0);
  for (const Mask& mask : axis.masks) {
    const ValueShape& shape = ShapeOf(mask.value);
    const AxisSpan& span = axis.spans[mask.value][mask.side];
    const RowsView view = ValueOf(mask.value, user);
    for (int64_t i = span.first; i < span.first + span.count; ++i) ++masked_by[i];
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t column = 0; column < shape.columns; ++column) {
        if (!Masks(mask.kind, view.data[row * view.stride + column])) {
          is_live[PositionOf(span, mask.side == kRows ? row : column)] = true;
        }
      }
    }
  }
  const int masks = static_cast<int>(axis.masks.size());
  for (int64_t i = 0; i < axis.positions; ++i) is_live[i] = is_live[i] || masked_by[i] < masks;
  for (int value : read_) {
    for (const AxisSpan& span : axis.spans[value]) {
      const auto begin = is_live.begin() + span.first, end = begin + span.count;
      if (span.exists() && std::find(begin, end, true) == end) *begin = true;
    }
  }
  Positions live;
  for (int position = 0; position < axis.positions; ++position) {
    if (is_live[position]) live.push_back(position);
  }
  const int64_t step = (axis.positions + kMostLengths - 1) / kMostLengths;
  while (static_cast<int64_t>(live.size()) % step != 0 && Grow(axis.positions, &live)) {
  }
  return live;
}

// Whether the score is the same with the live positions only.
bool UserExecutors::AreMasked(const MaskedAxis& axis, const AlignedFloats& user,
                              const Positions& live) const {
  if (static_cast<int64_t>(live.size()) == axis.positions) return false;
  const std::vector<bool> is_live = AsFlags(live, axis.positions);
  return IsFiniteWithout(axis, user, is_live) &&
         std::all_of(axis.softmax_masks.begin(), axis.softmax_masks.end(),
                     [&](const Mask& mask) { return HasUnmasked(axis, mask, user, is_live); });
}

// Each softmax has a line of the mask.
bool UserExecutors::HasUnmasked(const MaskedAxis& axis, const Mask& mask, const AlignedFloats& user,
                                const std::vector<bool>& is_live) const {
  const RowsView view = ValueOf(mask.value, user);
  const AxisSpans& spans = axis.spans[mask.value];
  const Side other = mask.side == kRows ? kColumns : kRows;
  for (int64_t line : IndicesLeft(spans[other], SizeOf(ShapeOf(mask.value), other), is_live)) {
    bool unmasked = false;
    for (int64_t i = 0; i < spans[mask.side].count && !unmasked; ++i) {
      const int64_t row = mask.side == kRows ? i : line, column = mask.side == kRows ? line : i;
      unmasked = !Masks(mask.kind, view.data[row * view.stride + column]);
    }
    if (!unmasked) return false;
  }
  return true;
}

// Nothing that is left out is a NaN or an infinity: no mask takes those away, but for logits that are masked
// by an infinity.
bool UserExecutors::IsFiniteWithout(const MaskedAxis& axis, const AlignedFloats& user,
                                    const std::vector<bool>& is_live) const {
  for (int value : read_) {
    const AxisSpans& spans = axis.spans[value];
    const bool is_mask_of_logits = std::any_of(axis.masks.begin(), axis.masks.end(), [&](const Mask& mask) {
      return mask.value == value && (mask.kind == MaskKind::kLow || mask.kind == MaskKind::kHigh);
    });
    const ValueShape& shape = ShapeOf(value);
    const RowsView view = ValueOf(value, user);
    for (int64_t row = 0; row < shape.rows && !is_mask_of_logits; ++row) {
      const bool row_is_out = spans[kRows].exists() && !is_live[PositionOf(spans[kRows], row)];
      if (!row_is_out && !spans[kColumns].exists()) continue;
      for (int64_t column = 0; column < shape.columns; ++column) {
        const bool is_out = row_is_out || !is_live[PositionOf(spans[kColumns], column)];
        if (is_out && !IsFinite(view.data[row * view.stride + column])) return false;
      }
    }
  }
  return true;
}

UserExecutors::Choice UserExecutors::Choose(const AlignedFloats& user) const {
  std::vector<Positions> live(axes_.size());
  for (size_t i = 0; i < axes_.size(); ++i) {
    live[i] = LivePositions(axes_[i], user);
    if (AreMasked(axes_[i], user, live[i])) continue;
    live[i].resize(axes_[i].positions);
    std::iota(live[i].begin(), live[i].end(), 0);
  }
  // Positions that are masked may be computed: as many as it takes for an executor.
  for (int64_t missing = 1; missing > 0;) {
    missing = 0;
    for (size_t i = 0; i < axes_.size(); ++i)
      missing += axes_[i].positions - static_cast<int64_t>(live[i].size());
    const NativeExecutor* shorter = missing == 0 ? nullptr : ExecutorFor(live);
    if (shorter != nullptr) return {shorter, std::move(live)};
    for (size_t i = 0; i < axes_.size(); ++i) Grow(axes_[i].positions, &live[i]);
  }
  return {&whole_, {}};
}

// How many positions are left, of all, of each span and before each that is kept, says all that an executor
// depends on.
const NativeExecutor* UserExecutors::ExecutorFor(const std::vector<Positions>& live) const {
  std::vector<int> key;
  for (size_t i = 0; i < axes_.size(); ++i) {
    key.push_back(static_cast<int>(live[i].size()));
    for (int64_t cut : cuts_[i]) {
      key.push_back(
          static_cast<int>(std::lower_bound(live[i].begin(), live[i].end(), cut) - live[i].begin()));
    }
  }
  std::lock_guard<std::mutex> lock(mutex_);
  const auto known = made_.find(key);
  if (known != made_.end()) return known->second.get();
  if (made_.size() >= kMostExecutors) return nullptr;
  auto made = std::make_unique<const NativeExecutor>(ShortProgram(live), whole_);
  // Tiles of all users share scratch memory. More of it would go with copies, too: rows of items lie one
  // after the other only where they are whole strips.
  if (!made->FitsInto(whole_)) made = nullptr;
  return made_.emplace(std::move(key), std::move(made)).first->second.get();
}

// What the user section computed comes as inputs.
std::shared_ptr<const ScorerProgram> UserExecutors::ShortProgram(const std::vector<Positions>& live) const {
  std::vector<Instruction> instructions = whole_.program().instructions();
  for (size_t i = 0; i < instructions.size(); ++i) {
    const int value = static_cast<int>(i);
    Instruction& each = instructions[i];
    if (!each.shape.per_item && std::binary_search(read_.begin(), read_.end(), value)) {
      each = {Opcode::kInput, 0, {}, {}, each.shape};
    } else if (!each.shape.per_item && each.opcode != Opcode::kConstant) {
      each = {Opcode::kInput, 0, {}, {}, {}};  // Nothing reads it.
      continue;
    }
    for (size_t axis = 0; axis < axes_.size(); ++axis) Shorten(axes_[axis], value, live[axis], &each);
  }
  return std::make_shared<const ScorerProgram>(whole_.program().WithInstructions(std::move(instructions)));
}

void UserExecutors::TakeUser(const Choice& choice, const AlignedFloats& user, AlignedFloats* shorter) const {
  for (int value : read_) {
    const ValueShape& shape = ShapeOf(value);
    std::vector<int64_t> left[2];
    for (Side side : {kRows, kColumns}) {
      left[side].resize(SizeOf(shape, side));
      std::iota(left[side].begin(), left[side].end(), 0);
      for (size_t i = 0; i < axes_.size(); ++i) {
        const AxisSpan& span = axes_[i].spans[value][side];
        if (span.exists())
          left[side] = IndicesLeft(span, SizeOf(shape, side), AsFlags(choice.live[i], axes_[i].positions));
      }
    }
    const RowsView from = ValueOf(value, user);
    float* to = choice.executor->UserRows(value, shorter);
    const int64_t stride = choice.executor->UserStride(value);
    const bool whole_rows = static_cast<int64_t>(left[kColumns].size()) == shape.columns;
    for (int64_t row : left[kRows]) {
      const float* numbers = from.data + row * from.stride;
      if (whole_rows) {
        std::memcpy(to, numbers, shape.columns * sizeof(float));
      } else {
        for (size_t i = 0; i < left[kColumns].size(); ++i) to[i] = numbers[left[kColumns][i]];
      }
      to += stride;
    }
  }
}

}  // namespace nann
