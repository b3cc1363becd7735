#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "concat_parts.h"
#include "matrix_layouts.h"
#include "native_executor.h"
#include "taken_sides.h"

namespace nann {

// Gives every value of a program its place: memory is used again once nothing reads what was there, slices
// are views, and the right sides of products are packed: constants here, what the user section computes by
// Pack.
class ExecutorLayout {
 public:
  // `whole`: an executor whose constants are taken, or null.
  ExecutorLayout(NativeExecutor* executor, const NativeExecutor* whole)
      : executor_(*executor), whole_(whole), instructions_(executor->program_->instructions()) {}

  void Lay() {
    const int count = static_cast<int>(instructions_.size());
    executor_.places_.resize(count);
    executor_.packed_.resize(count);
    buffers_of_.assign(count, -1);
    FindConstantRows();
    executor_.part_of_ = PartsInPlace(instructions_);
    for (int value = 0; value < count; ++value) LayValue(value);
    ReadAt(executor_.program_->output(), kEnd);
    for (int value : executor_.tile_section_) ShareBuffer(value);
    PlaceBuffers(Place::kUser, &executor_.user_floats_);
    PlaceBuffers(Place::kTile, &executor_.scratch_floats_);
    for (int value = 0; value < count; ++value) {
      if (buffers_of_[value] >= 0) executor_.places_[value].offset += buffers_[buffers_of_[value]].offset;
    }
    for (NativeExecutor::TableInTile& table : executor_.tables_) {
      for (int64_t& offset : table.offsets) offset += buffers_[buffers_of_[table.value]].offset;
    }
    for (const auto& [place, buffer] : packed_buffers_) place->offset = buffers_[buffer].offset;
    executor_.narrow_offset_ = executor_.scratch_floats_;
    executor_.scratch_floats_ += narrow_floats_;
    PackConstants();
    FindSimilarity();
    executor_.takes_sides_ = AnyTakesOneSide(instructions_);
  }

 private:
  using Place = NativeExecutor::Place;
  static constexpr int kEnd = std::numeric_limits<int>::max();

  // Memory of a value from the instruction that makes it to the last that reads it.
  struct Buffer {
    Place::Space space;
    int64_t size;
    int first, last;
    int64_t offset = 0;
  };

  // A constant that is only multiplied with is only packed; others lie there in rows too.
  void FindConstantRows() {
    constant_rows_.assign(instructions_.size(), false);
    constant_rows_.back() = true;
    for (const Instruction& instruction : instructions_) {
      const bool is_gemm = instruction.opcode == Opcode::kGemm;
      for (size_t i = 0; i < instruction.operands.size(); ++i) {
        const bool is_matrix = is_gemm && i % 2 == 1 && static_cast<int>(i) < 2 * instruction.num_terms();
        if (!is_matrix) constant_rows_[instruction.operands[i]] = true;
      }
    }
  }

  static int64_t Aligned(int64_t floats) { return PaddedWidth(floats); }

  void LayValue(int value) {
    const Instruction& instruction = instructions_[value];
    const ValueShape& shape = instruction.shape;
    for (int operand : instruction.operands) Read(operand, value);
    if (LaidAsView(value)) {
      executor_.part_of_[value] = -1;
      return;
    }
    switch (instruction.opcode) {
      case Opcode::kConstant:
        if (whole_ != nullptr) {
          executor_.places_[value] = whole_->places_[value];
          return;
        }
        executor_.places_[value] = {Place::kConstant, constant_floats_, Stride(instruction)};
        if (constant_rows_[value]) constant_floats_ += Aligned(shape.Floats());
        return;
      case Opcode::kInput:
        executor_.inputs_.push_back(value);
        break;
      case Opcode::kTable:
        return LayTable(value);
      case Opcode::kGemm:
      case Opcode::kProduct:
        instruction.opcode == Opcode::kGemm ? LayMatrices(value) : LayStrip(value);
        [[fallthrough]];
      default:
        if (!ConsistsOfParts(value)) {
          (shape.per_item ? executor_.tile_section_ : executor_.user_section_).push_back(value);
        }
    }
    const int joined = executor_.part_of_[value];
    if (joined >= 0) {
      if (buffers_of_[joined] < 0) Allocate(joined, value);
      executor_.places_[value] = PlaceOfPart(value, joined);
      buffers_of_[value] = buffers_of_[joined];
      return;
    }
    if (buffers_of_[value] >= 0) return ReadAt(value, value);  // Its parts made it.
    Allocate(value, instruction.opcode == Opcode::kInput ? -1 : value);
  }

  // The columns of a table's rows that are read, piece after piece, each of all items. Tiles fill them first.
  void LayTable(int value) {
    NativeExecutor::TableInTile table{value, ColumnsOfTable(instructions_, value), {}};
    int64_t floats = 0;
    for (const TableColumns& part : table.columns) {
      table.offsets.push_back(floats);
      floats += Aligned(executor_.options_.tile_rows * part.stride);
    }
    buffers_of_[value] = NewBuffer(Place::kTile, floats + kStrip, -1);
    executor_.places_[value] = {Place::kTile, 0, table.columns[0].stride};
    executor_.tables_.push_back(std::move(table));
  }

  // Memory of a value from an instruction on.
  void Allocate(int value, int first) {
    const Instruction& instruction = instructions_[value];
    const ValueShape& shape = instruction.shape;
    const int64_t rows = shape.rows * (shape.per_item ? executor_.options_.tile_rows : 1);
    const Place::Space space = shape.per_item ? Place::kTile : Place::kUser;
    buffers_of_[value] = NewBuffer(space, rows * Stride(instruction) + kStrip, first);
    executor_.places_[value] = {space, 0, Stride(instruction)};
  }

  // Rows of one number lie one after the other. A softmax reads what it wrote again, and so cannot write
  // whole strips over the rows that follow.
  static int64_t Stride(const Instruction& instruction) {
    const int64_t columns = instruction.shape.columns;
    return columns == 1 && instruction.opcode != Opcode::kSoftmax ? 1 : PaddedWidth(columns);
  }

  // -------------------------------------------------------------------- parts of concatenations

  Place PlaceOfPart(int part, int value) const {
    const Instruction& joined = instructions_[value];
    Place place = executor_.places_[value];
    const int64_t before = PartsBefore(instructions_, part, joined);
    place.offset = joined.over_rows() ? before * place.stride : before;
    const bool row_by_row = instructions_[part].opcode == Opcode::kRearrange;
    if (joined.over_rows() && joined.shape.per_item && !row_by_row) place.stride *= joined.shape.rows;
    return place;
  }

  // Whether a value is a concatenation that has nothing left to copy.
  bool ConsistsOfParts(int value) const {
    const Instruction& instruction = instructions_[value];
    return instruction.opcode == Opcode::kConcat &&
           std::all_of(instruction.operands.begin(), instruction.operands.end(),
                       [&](int part) { return executor_.part_of_[part] == value; });
  }

  // -------------------------------------------------------------------- views

  // Numbers that lie where an earlier value has them cost nothing: slices, and what is cut into other rows.
  bool LaidAsView(int value) {
    const Instruction& instruction = instructions_[value];
    std::optional<Place> place;
    if (instruction.opcode == Opcode::kSlice) {
      place = PlaceOfColumn(instruction.operands[0], instruction.parameters[0]);
    } else if (instruction.opcode == Opcode::kReshape || instruction.opcode == Opcode::kRearrange) {
      place = PlaceOfRows(instruction);
    }
    if (!place.has_value()) return false;
    executor_.places_[value] = *place;
    buffers_of_[value] = buffers_of_[instruction.operands[0]];
    return true;
  }

  // Where a column of a value's rows lies. Of a table it depends on the piece that it is in.
  Place PlaceOfColumn(int value, int64_t column) const {
    Place place = executor_.places_[value];
    const auto table = std::find_if(executor_.tables_.begin(), executor_.tables_.end(),
                                    [value](const auto& each) { return each.value == value; });
    if (table != executor_.tables_.end()) {
      size_t i = 0;
      while (column >= table->columns[i].begin + table->columns[i].count) ++i;
      place = {Place::kTile, table->offsets[i] - table->columns[i].begin, table->columns[i].stride};
    }
    place.offset += column;
    return place;
  }

  // Where a reshape's or a rearrangement's rows lie in the operand; none where it has to be copied.
  std::optional<Place> PlaceOfRows(const Instruction& instruction) const {
    const int operand = instruction.operands[0];
    const ValueShape &from = instructions_[operand].shape, &to = instruction.shape;
    const int64_t from_stride = executor_.places_[operand].stride;
    int64_t first = 0, step = to.columns;
    if (instruction.opcode == Opcode::kRearrange) {
      const auto found = Rearrangement::Of(instruction.parameters, from)->RowStep(from_stride);
      if (!found.has_value()) return std::nullopt;
      std::tie(first, step) = *found;
    } else if (from.rows > 1 && from_stride != from.columns) {
      return std::nullopt;
    }
    Place place = PlaceOfColumn(operand, first);
    // Rows of items go on where those of the item before end.
    const int64_t per_item = from.rows * place.stride;
    if (to.per_item && to.rows == 1) step = per_item;
    if (to.per_item && to.rows * step != per_item) return std::nullopt;
    place.stride = step;
    return place;
  }

  // What tiles read of the user stays until the last tile.
  void Read(int operand, int reader) {
    const bool by_tile = instructions_[reader].shape.per_item && !instructions_[operand].shape.per_item;
    ReadAt(operand, by_tile ? kEnd : reader);
  }

  void ReadAt(int operand, int time) {
    if (buffers_of_[operand] < 0) return;
    int& last = buffers_[buffers_of_[operand]].last;
    last = std::max(last, time);
  }

  int NewBuffer(Place::Space space, int64_t size, int time) {
    buffers_.push_back({space, Aligned(size), time, time});
    return static_cast<int>(buffers_.size()) - 1;
  }

  // -------------------------------------------------------------------- right sides of products

  void LayMatrices(int value) {
    const Instruction& gemm = instructions_[value];
    executor_.packed_[value].resize(gemm.num_terms());
    int64_t narrow = kStrip;
    for (int t = 0; t < gemm.num_terms(); ++t) {
      const bool constant = instructions_[gemm.matrix(t)].opcode == Opcode::kConstant;
      Place* place = &executor_.packed_[value][t];
      if (constant || gemm.shape.per_item) {
        *place = PackedOnce(gemm.matrix(t), gemm.transposed(t), constant, gemm.shape.per_item);
      } else {
        // The user section packs it where it multiplies.
        const int64_t size = MatrixFloats(gemm.matrix(t), gemm.transposed(t), false);
        place->space = Place::kUser;
        packed_buffers_.emplace_back(place, NewBuffer(Place::kUser, size, value));
      }
      // Of 16 bits each, with the rows behind the last that products may read.
      const int64_t rows = executor_.options_.tile_rows * gemm.shape.rows + kBfloat16Rows - 1;
      narrow += rows * PaddedDepth(instructions_[gemm.left(t)].shape.columns) / 2;
    }
    if (executor_.native_bfloat16_ && gemm.shape.per_item) narrow_floats_ = std::max(narrow_floats_, narrow);
  }

  // Where a product turns its right side.
  void LayStrip(int value) {
    const Instruction& product = instructions_[value];
    const ProductLayout layout =
        *ProductLayout::Of(product.parameters, instructions_[product.operands[0]].shape,
                           instructions_[product.operands[1]].shape);
    executor_.packed_[value].resize(1);
    Place* place = &executor_.packed_[value][0];
    place->space = product.shape.per_item ? Place::kTile : Place::kUser;
    packed_buffers_.emplace_back(place, NewBuffer(place->space, layout.depth * kStrip, value));
  }

  int64_t MatrixFloats(int value, bool transposed, bool bfloat16) const {
    const ValueShape& shape = instructions_[value].shape;
    const int64_t depth = transposed ? shape.columns : shape.rows;
    return PackedSize(depth, transposed ? shape.rows : shape.columns, bfloat16);
  }

  // What several products multiply with is packed once.
  Place PackedOnce(int value, bool transposed, bool constant, bool for_tiles) {
    const auto key = std::make_tuple(value, transposed, for_tiles);
    if (constant && whole_ != nullptr) return whole_->packed_constants_.at(key);
    auto& packed_once = constant ? executor_.packed_constants_ : packed_once_;
    const auto [known, is_new] = packed_once.try_emplace(key);
    if (!is_new) return known->second;
    int64_t& end = constant ? constant_floats_ : executor_.packed_floats_;
    known->second = {constant ? Place::kConstant : Place::kPacked, end, 0};
    end += Aligned(MatrixFloats(value, transposed, for_tiles && executor_.native_bfloat16_));
    if (!constant) {
      executor_.packings_.push_back({value, transposed, known->second});
      ReadAt(value, kEnd);
    }
    return known->second;
  }

  void PackConstants() {
    if (whole_ != nullptr) {
      executor_.constants_ = whole_->constants_;
      return;
    }
    auto constants = std::make_shared<AlignedFloats>(constant_floats_);
    for (size_t value = 0; value < instructions_.size(); ++value) {
      if (instructions_[value].opcode != Opcode::kConstant || !constant_rows_[value]) continue;
      const RowsView from = ConstantRows(static_cast<int>(value));
      const Place& place = executor_.places_[value];
      for (int64_t row = 0; row < instructions_[value].shape.rows; ++row) {
        std::copy_n(from.data + row * from.stride, from.stride,
                    constants->data() + place.offset + row * place.stride);
      }
    }
    for (const auto& [key, place] : executor_.packed_constants_) {
      const auto [value, transposed, for_tiles] = key;
      executor_.PackMatrix(ConstantRows(value), instructions_[value].shape, transposed,
                           for_tiles && executor_.options_.bfloat16, constants->data() + place.offset);
    }
    executor_.constants_ = std::move(constants);
  }

  RowsView ConstantRows(int value) const {
    return {executor_.program_->ConstantOf(value), instructions_[value].shape.columns};
  }

  // -------------------------------------------------------------------- buffers

  // Number by number, a result may take the place of an operand that nothing reads afterwards: what is near
  // in the caches is written again. Other operands must not lie in that buffer, unless at the same place.
  // Not rows of one number: kernels write whole strips, over the rows that they read next.
  void ShareBuffer(int value) {
    const Instruction& instruction = instructions_[value];
    const int own = buffers_of_[value];
    const bool by_number = instruction.opcode == Opcode::kBinary || instruction.opcode == Opcode::kUnary ||
                           instruction.opcode == Opcode::kSelect || instruction.opcode == Opcode::kPrelu;
    if (!by_number || instruction.shape.columns == 1 || executor_.part_of_[value] >= 0) return;
    // The last operand first: a loop's variable before a round, which stays behind the loop's end.
    for (auto each = instruction.operands.rbegin(); each != instruction.operands.rend(); ++each) {
      const int operand = *each, taken = buffers_of_[operand];
      if (!LiesAs(operand, value) || buffers_[taken].last != value || taken == own) continue;
      const bool alone =
          std::all_of(instruction.operands.begin(), instruction.operands.end(),
                      [&](int other) { return buffers_of_[other] != taken || LiesAs(other, value); });
      if (!alone) continue;
      std::replace(buffers_of_.begin(), buffers_of_.end(), own, taken);
      buffers_[taken].last = buffers_[own].last;
      buffers_[own].size = 0;
      return;
    }
  }

  // Whether number by number an operand lies in its buffer as a value will in its own.
  bool LiesAs(int operand, int value) const {
    const ValueShape &from = instructions_[operand].shape, &to = instructions_[value].shape;
    const Place &place = executor_.places_[operand], &own = executor_.places_[value];
    return buffers_of_[operand] >= 0 && place.space == Place::kTile && from.per_item == to.per_item &&
           from.rows == to.rows && from.columns == to.columns && place.offset == own.offset &&
           place.stride == own.stride;
  }

  // In the order of their birth, each in the first gap that is free while it lives.
  void PlaceBuffers(Place::Space space, int64_t* floats) {
    std::vector<const Buffer*> placed;
    for (Buffer& buffer : buffers_) {
      if (buffer.space != space) continue;
      std::vector<std::pair<int64_t, int64_t>> taken;
      for (const Buffer* other : placed) {
        if (other->first <= buffer.last && buffer.first <= other->last) {
          taken.emplace_back(other->offset, other->offset + other->size);
        }
      }
      std::sort(taken.begin(), taken.end());
      for (const auto& [begin, end] : taken) {
        if (buffer.offset + buffer.size <= begin) break;
        buffer.offset = std::max(buffer.offset, end);
      }
      placed.push_back(&buffer);
      *floats = std::max(*floats, buffer.offset + buffer.size);
    }
  }

  // A program that does nothing but compare a table's rows with a vector needs no tiles.
  void FindSimilarity() {
    const Instruction& score = instructions_.back();
    if (score.opcode != Opcode::kSimilarity || executor_.tile_section_.size() != 1) return;
    const Instruction& table = instructions_[score.operands[0]];
    if (table.opcode != Opcode::kTable) return;
    executor_.similarity_ = {static_cast<int>(table.parameters[0]), score.operands[1],
                             static_cast<SimilarityOp>(score.function)};
  }

  NativeExecutor& executor_;
  const NativeExecutor* const whole_;
  const std::vector<Instruction>& instructions_;
  std::vector<Buffer> buffers_;
  std::vector<int> buffers_of_;  // Per value; -1 of constants.
  std::vector<bool> constant_rows_;
  std::vector<std::pair<Place*, int>> packed_buffers_;
  std::map<std::tuple<int, bool, bool>, Place> packed_once_;  // Matrices of the user.
  int64_t constant_floats_ = 0;
  int64_t narrow_floats_ = 0;
};

NativeExecutor::NativeExecutor(std::shared_ptr<const ScorerProgram> program, const Options& options)
    : program_(std::move(program)), options_(options) {
  native_bfloat16_ = options_.bfloat16 && options_.kernels->gemm_bfloat16 != nullptr;
  ExecutorLayout(this, nullptr).Lay();
}

NativeExecutor::NativeExecutor(std::shared_ptr<const ScorerProgram> program, const NativeExecutor& whole)
    : program_(std::move(program)), options_(whole.options_), native_bfloat16_(whole.native_bfloat16_) {
  ExecutorLayout(this, &whole).Lay();
}

}  // namespace nann
