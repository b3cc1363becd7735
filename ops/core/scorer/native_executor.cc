#include "native_executor.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "matrix_layouts.h"
#include "taken_sides.h"

namespace nann {
namespace {

// For the rows of tensors, behind the last of which nothing may be read.
void CopyRows(RowsView from, int64_t rows, int64_t columns, float* to, int64_t to_stride) {
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(to + row * to_stride, from.data + row * from.stride, columns * sizeof(float));
  }
}

// The same floats in rows of another width.
void Reshape(RowsView from, int64_t from_columns, int64_t floats, float* to, int64_t columns,
             int64_t to_stride) {
  int64_t read = 0, written = 0;  // Of the row that is read, and of the row that is written.
  for (int64_t left = floats; left > 0;) {
    const int64_t n = std::min(from_columns - read, columns - written);
    std::copy_n(from.data + read, n, to + written);
    left -= n;
    read += n;
    written += n;
    if (read == from_columns) {
      from.data += from.stride;
      read = 0;
    }
    if (written == columns) {
      to += to_stride;
      written = 0;
    }
  }
}

// Rows that lie one after the other in all operands and the result are computed as one: of one number, and
// of whole strips.
Extent AsOneRow(absl::Span<Operand> operands, Extent extent) {
  bool lie_so;
  if (extent.columns == 1) {
    lie_so = std::all_of(operands.begin(), operands.end(),
                         [](const Operand& operand) { return operand.view.stride <= 1; });
    if (lie_so) {
      for (Operand& operand : operands) operand.column = operand.view.stride == 0;
    }
  } else {
    lie_so = extent.stride == extent.columns &&
             std::all_of(operands.begin(), operands.end(), [&](const Operand& operand) {
               return !operand.column && operand.view.stride == extent.stride;
             });
  }
  if (!lie_so) return extent;
  const int64_t floats = extent.rows * extent.stride;
  return {extent.blocks, 1, floats, floats};
}

}  // namespace

const float* NativeExecutor::In(const Place& place, const Memory& memory) const {
  switch (place.space) {
    case Place::kConstant:
      return memory.constants + place.offset;
    case Place::kUser:
      return memory.user + place.offset;
    case Place::kPacked:
      return memory.packed + place.offset;
    case Place::kTile:
      break;
  }
  return memory.out + place.offset;
}

RowsView NativeExecutor::View(int value, const Memory& memory) const {
  return {In(places_[value], memory), places_[value].stride};
}

// The operands beside the rows of a result: in one block, or, where an operand's rows are repeated otherwise
// than by a stride of 0, in one per item.
Extent NativeExecutor::Beside(int value, absl::Span<const int> operands, const Memory& memory,
                              Operand* beside) const {
  const ValueShape& shape = At(value).shape;
  const bool at_once = std::all_of(operands.begin(), operands.end(), [&](int operand) {
    const ValueShape& from = At(operand).shape;
    return from.per_item == shape.per_item ? from.rows == shape.rows || !shape.per_item : from.rows == 1;
  });
  for (size_t i = 0; i < operands.size(); ++i) {
    const ValueShape& from = At(operands[i]).shape;
    beside[i] = {View(operands[i], memory), from.columns < shape.columns, 0};
    if (from.per_item && !at_once) beside[i].block = from.rows * beside[i].view.stride;
    if (from.rows == 1 && !(from.per_item && at_once)) beside[i].view.stride = 0;
  }
  const bool by_item = shape.per_item && !at_once;
  return {by_item ? memory.items : 1, by_item ? shape.rows : Rows(shape, memory), shape.columns,
          places_[value].stride};
}

void NativeExecutor::PackMatrix(RowsView from, const ValueShape& shape, bool transposed, bool bfloat16,
                                float* to) const {
  const int64_t depth = transposed ? shape.columns : shape.rows;
  const int64_t width = transposed ? shape.rows : shape.columns;
  if (bfloat16 && native_bfloat16_) {
    PackStripsBfloat16(from.data, from.stride, transposed, depth, width, reinterpret_cast<uint16_t*>(to));
    return;
  }
  PackStrips(from.data, from.stride, transposed, depth, width, to);
  if (!bfloat16) return;
  for (int64_t i = 0; i < PackedSize(depth, width, false); ++i) {
    const uint32_t bits = static_cast<uint32_t>(RoundToBfloat16(to[i])) << 16;
    std::memcpy(to + i, &bits, sizeof(bits));
  }
}

void NativeExecutor::RunGemm(int value, const Memory& memory) const {
  const Instruction& instruction = At(value);
  const bool bfloat16 = instruction.shape.per_item && native_bfloat16_;
  Gemm gemm;
  gemm.rows = Rows(instruction.shape, memory);
  gemm.width = instruction.shape.columns;
  GemmTerm terms[kMaxSummands];
  uint16_t* narrow = reinterpret_cast<uint16_t*>(memory.out + narrow_offset_);
  for (int t = 0; t < instruction.num_terms(); ++t) {
    const RowsView left = View(instruction.left(t), memory);
    const int64_t depth = At(instruction.left(t)).shape.columns;
    const Place& packed = packed_[value][t];
    if (packed.space == Place::kUser) {
      const int matrix = instruction.matrix(t);
      PackMatrix(View(matrix, memory), At(matrix).shape, instruction.transposed(t), false,
                 memory.out + packed.offset);
    }
    terms[t] = {left.data, left.stride, In(packed, memory), depth};
    if (bfloat16) {
      const int64_t stride = PaddedDepth(depth);
      options_.kernels->to_bfloat16(left, gemm.rows, depth, narrow, stride);
      terms[t].rows = narrow;
      terms[t].stride = stride;
      narrow += gemm.rows * stride;
    }
  }
  Addend addends[kMaxSummands];
  for (int addend : instruction.addends()) {
    addends[gemm.num_addends++] = AddendOf(addend, instruction.shape, memory);
  }
  gemm.terms = terms;
  gemm.num_terms = instruction.num_terms();
  gemm.addends = addends;
  gemm.activation = static_cast<Activation>(instruction.function);
  if (instruction.has_slope()) gemm.alpha = View(instruction.slope(), memory).data;
  gemm.out = Out(value, memory);
  gemm.out_stride = places_[value].stride;
  (bfloat16 ? options_.kernels->gemm_bfloat16 : options_.kernels->gemm)(gemm);
}

Addend NativeExecutor::AddendOf(int value, const ValueShape& shape, const Memory& memory) const {
  const ValueShape& from = At(value).shape;
  Addend addend;
  addend.view = View(value, memory);
  if (from == shape) return addend;
  if (from.per_item) {
    addend.repeat = shape.rows;
  } else if (from.rows == 1) {
    addend.view.stride = 0;
  } else {
    addend.period = from.rows;
  }
  return addend;
}

void NativeExecutor::RunProduct(int value, const Memory& memory) const {
  const Instruction& instruction = At(value);
  const int left = instruction.operands[0], right = instruction.operands[1];
  const ProductLayout layout = *ProductLayout::Of(instruction.parameters, At(left).shape, At(right).shape);
  const BlocksView out = layout.out.View({nullptr, places_[value].stride}, layout.shape);
  GroupedProduct product;
  product.items = layout.shape.per_item ? memory.items : 1;
  product.groups = layout.left.groups;
  product.rows = layout.rows;
  product.depth = layout.depth;
  product.width = layout.columns;
  product.left = layout.left.View(View(left, memory), At(left).shape);
  product.right = layout.right.View(View(right, memory), At(right).shape);
  product.out = Out(value, memory);
  product.out_item = out.item;
  product.out_group = out.group;
  product.out_stride = out.row;
  product.whole_strips = layout.out.below || layout.left.groups == 1;
  product.strip = memory.out + packed_[value][0].offset;
  options_.kernels->grouped_product(product);
}

void NativeExecutor::RunRearrange(int value, const Memory& memory) const {
  const Instruction& instruction = At(value);
  const ValueShape &shape = instruction.shape, &from = At(instruction.operands[0]).shape;
  const Rearrangement rearrangement = *Rearrangement::Of(instruction.parameters, from);
  const RowsView in = View(instruction.operands[0], memory);
  const int64_t stride = places_[value].stride;
  const int64_t rows = (part_of_[value] >= 0 ? At(part_of_[value]).shape : shape).rows;
  rearrangement.Run(*options_.kernels, in, from.rows * in.stride, shape.per_item ? memory.items : 1,
                    Out(value, memory), stride, rows * stride);
}

void NativeExecutor::RunGather(int value, const Memory& memory) const {
  const int table = At(value).operands[0], index = At(value).operands[1];
  const ValueShape &rows = At(table).shape, &wanted = At(index).shape;
  options_.kernels->gather(View(table, memory), rows.rows, View(index, memory), Rows(wanted, memory),
                           wanted.columns, rows.columns, Out(value, memory), places_[value].stride);
}

// Parts one below the other; a part that is the same for all items is copied to each.
void NativeExecutor::RunStack(int value, const Memory& memory) const {
  const ValueShape& shape = At(value).shape;
  const int64_t stride = places_[value].stride;
  float* out = Out(value, memory);
  for (int part : At(value).operands) {
    const ValueShape& from = At(part).shape;
    const RowsView view = View(part, memory);
    const bool is_there = part_of_[part] == value;
    for (int64_t item = 0; !is_there && item < (shape.per_item ? memory.items : 1); ++item) {
      const float* rows = view.data + (from.per_item ? item * from.rows * view.stride : 0);
      options_.kernels->copy({rows, view.stride}, from.rows, shape.columns, stride > 1,
                             out + item * shape.rows * stride, stride);
    }
    out += from.rows * stride;
  }
}

void NativeExecutor::RunConcat(int value, const Memory& memory) const {
  const Instruction& instruction = At(value);
  const int64_t stride = places_[value].stride;
  float* out = Out(value, memory);
  for (const int& part : instruction.operands) {
    const int64_t columns = At(part).shape.columns;
    Operand from;
    const Extent extent = Beside(value, {&part, 1}, memory, &from);
    for (int64_t block = 0; part_of_[part] != value && block < extent.blocks; ++block) {
      options_.kernels->copy({from.view.data + block * from.block, from.view.stride}, extent.rows, columns,
                             false, out + block * extent.rows * stride, stride);
    }
    out += columns;
  }
}

void NativeExecutor::Run(int value, const Memory& memory) const {
  const TileKernels& kernels = *options_.kernels;
  const Instruction& instruction = At(value);
  float* out = Out(value, memory);
  switch (instruction.opcode) {
    case Opcode::kGemm:
      return RunGemm(value, memory);
    case Opcode::kProduct:
      return RunProduct(value, memory);
    case Opcode::kRearrange:
      return RunRearrange(value, memory);
    case Opcode::kGather:
      return RunGather(value, memory);
    case Opcode::kConcat:
      return instruction.over_rows() ? RunStack(value, memory) : RunConcat(value, memory);
    case Opcode::kSelect:
      return RunSelect(value, memory);
    case Opcode::kBinary: {
      Operand o[2];
      const Extent extent = AsOneRow(absl::MakeSpan(o), Beside(value, instruction.operands, memory, o));
      return kernels.binary(static_cast<BinaryOp>(instruction.function), o[0], o[1], extent, out);
    }
    default:
      return RunOnRows(value, memory);
  }
}

// Of a side that is not taken, nothing is read: it may not have been computed.
void NativeExecutor::RunSelect(int value, const Memory& memory) const {
  const Instruction& instruction = At(value);
  int operands[] = {instruction.operands[0], instruction.operands[1], instruction.operands[2]};
  if (TakesOneSide(program_->instructions(), value)) {
    const int taken = operands[*View(operands[0], memory).data != 0 ? 1 : 2];
    if (At(taken).shape == instruction.shape && View(taken, memory).data == Out(value, memory)) return;
    operands[1] = operands[2] = taken;
  }
  Operand o[3];
  const Extent extent = AsOneRow(absl::MakeSpan(o), Beside(value, operands, memory, o));
  options_.kernels->select(o[0], o[1], o[2], extent, Out(value, memory));
}

void NativeExecutor::RunOnRows(int value, const Memory& memory) const {
  const TileKernels& kernels = *options_.kernels;
  const Instruction& instruction = At(value);
  const ValueShape& shape = instruction.shape;
  const uint32_t function = instruction.function;
  float* out = Out(value, memory);
  const int64_t stride = places_[value].stride, columns = shape.columns;
  const int operand = instruction.operands[0];
  const ValueShape& from = At(operand).shape;
  const RowsView in = View(operand, memory);
  const int64_t rows = Rows(from, memory);
  switch (instruction.opcode) {
    case Opcode::kUnary: {
      Operand operands[] = {{in}};
      const Extent extent = AsOneRow(operands, {1, rows, columns, stride});
      return kernels.unary(static_cast<UnaryOp>(function), in, extent.rows, extent.columns, out, stride);
    }
    case Opcode::kPrelu:
      return kernels.prelu(in, View(instruction.operands[1], memory).data, rows, columns, out, stride);
    case Opcode::kSoftmax:
      return kernels.softmax(in, rows, columns, out, stride);
    case Opcode::kReduce:
      if (instruction.over_rows()) {
        return kernels.reduce_rows(static_cast<ReduceOp>(function), in, rows / from.rows, from.rows, columns,
                                   out, stride);
      }
      return kernels.reduce(static_cast<ReduceOp>(function), in, rows, from.columns, out, stride);
    case Opcode::kSimilarity:
      return kernels.similarity(static_cast<SimilarityOp>(function),
                                View(instruction.operands[1], memory).data, in, rows, from.columns, out,
                                stride);
    case Opcode::kReshape:
      return Reshape(in, from.columns, rows * from.columns, out, columns, stride);
    case Opcode::kTranspose: {
      const Step down{shape.rows, 1}, across{columns, in.stride};
      SteppedCopy copy;
      copy.rows = &down;
      copy.columns = &across;
      copy.row_axes = copy.column_axes = 1;
      copy.items = shape.per_item ? memory.items : 1;
      copy.from = in.data;
      copy.from_item = from.rows * in.stride;
      copy.out = out;
      copy.out_item = shape.rows * stride;
      copy.out_stride = stride;
      return kernels.copy_steps(copy);
    }
    default:
      return;  // Inputs, tables, constants and slices are in no section; `Run` runs the others.
  }
}

void NativeExecutor::RunUser(absl::Span<const float* const> tensors, AlignedFloats* user) const {
  Memory memory;
  memory.constants = constants_->data();
  memory.user = memory.out = user->data();
  for (int value : inputs_) {
    const ValueShape& shape = At(value).shape;
    CopyRows({tensors[At(value).parameters[0]], shape.columns}, shape.rows, shape.columns, Out(value, memory),
             places_[value].stride);
  }
  for (int value : user_section_) Run(value, memory);
}

void NativeExecutor::Pack(const AlignedFloats& user, PackedUser* packed) const {
  Memory memory;
  memory.constants = constants_->data();
  memory.user = user.data();
  for (const Packing& packing : packings_) {
    PackMatrix(View(packing.value, memory), At(packing.value).shape, packing.transposed, options_.bfloat16,
               packed->matrices.data() + packing.place.offset);
  }
  if (!takes_sides_) {
    packed->steps = tile_section_;
    return;
  }
  const std::vector<bool> needed = NeededValues(
      program_->instructions(), [&](int condition) { return *View(condition, memory).data != 0; });
  packed->steps.clear();
  std::copy_if(tile_section_.begin(), tile_section_.end(), std::back_inserter(packed->steps),
               [&](int value) { return needed[value]; });
}

void NativeExecutor::Gather(absl::Span<const Table* const> tables, absl::Span<const int32_t> positions,
                            AlignedFloats* scratch, RowsView computed) const {
  for (const TableInTile& in_tile : tables_) {
    Table::Columns columns[kMostTableColumns];
    const size_t count = in_tile.columns.size();
    for (size_t i = 0; i < count; ++i) {
      const TableColumns& part = in_tile.columns[i];
      columns[i] = {part.begin, part.count, scratch->data() + in_tile.offsets[i], part.stride};
    }
    const size_t table = At(in_tile.value).parameters[0];
    if (table < tables.size()) {
      tables[table]->Gather(positions, absl::MakeConstSpan(columns, count));
      continue;
    }
    for (const Table::Columns& part : absl::MakeConstSpan(columns, count)) {
      CopyRows({computed.data + part.begin, computed.stride}, static_cast<int64_t>(positions.size()),
               part.count, part.out, part.stride);
    }
  }
}

void NativeExecutor::Score(const AlignedFloats& user, const PackedUser& packed, int64_t rows,
                           AlignedFloats* scratch, float* scores) const {
  Memory memory;
  memory.constants = constants_->data();
  memory.user = user.data();
  memory.packed = packed.matrices.data();
  memory.out = scratch->data();
  memory.items = rows;
  for (int value : packed.steps) Run(value, memory);
  RowsView output = View(program_->output(), memory);
  if (!At(program_->output()).shape.per_item) output.stride = 0;
  for (int64_t row = 0; row < rows; ++row) scores[row] = output.data[row * output.stride];
}

void NativeExecutor::ScoreInPlace(const AlignedFloats& user, absl::Span<const Table* const> tables,
                                  absl::Span<const int32_t> positions, float* scores) const {
  Memory memory;
  memory.constants = constants_->data();
  memory.user = user.data();
  const Table& table = *tables[similarity_->table];
  options_.kernels->table_similarity(similarity_->op, View(similarity_->query, memory).data,
                                     table.AsFloat32().data(), table.width(), positions.data(),
                                     static_cast<int64_t>(positions.size()), scores);
}

}  // namespace nann
