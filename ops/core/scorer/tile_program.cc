#include "tile_program.h"

#include <algorithm>
#include <cstring>

namespace nann {
namespace {

constexpr int64_t kCacheLine = 64;

}  // namespace

AlignedFloats::AlignedFloats(int64_t size) {
  // A kernel may read one strip beyond the last row.
  const int64_t bytes = (size + kStrip) * static_cast<int64_t>(sizeof(float));
  data_.reset(static_cast<float*>(
      std::aligned_alloc(kCacheLine, (bytes + kCacheLine - 1) / kCacheLine * kCacheLine)));
}

void TileProgram::Pack(const TilePacking& packing, const float* from, float* arena) const {
  float* to = arena + packing.offset;
  if (packing.kind == TilePacking::kVector) {
    const int64_t width = packing.width * packing.repeat;
    for (int64_t i = 0; i < width; ++i) to[i] = from[packing.repeat > 1 ? 0 : i];
    std::fill(to + width, to + PaddedWidth(width), 0.0f);
    return;
  }
  const int64_t depth = packing.transposed ? packing.width : packing.height;
  const int64_t width = packing.transposed ? packing.height : packing.width;
  if (native_bfloat16_) {
    PackStripsBfloat16(from, packing.width, packing.transposed, depth, width,
                       reinterpret_cast<uint16_t*>(to));
    return;
  }
  PackStrips(from, packing.width, packing.transposed, depth, width, to);
  if (options_.bfloat16) {
    for (int64_t i = 0; i < PackedSize(depth, width, false); ++i) {
      const uint32_t bits = static_cast<uint32_t>(RoundToBfloat16(to[i])) << 16;
      std::memcpy(to + i, &bits, sizeof(bits));
    }
  }
}

AlignedFloats TileProgram::Bind(absl::Span<const float* const> user) const {
  AlignedFloats arena(user_floats_);
  for (const TilePacking& packing : user_packings_) Pack(packing, user[packing.user], arena.data());
  return arena;
}

RowsView TileProgram::View(const TileOperand& operand, const float* user, const float* scratch) const {
  if (operand.space == TileOperand::kConstant) return {constants_->data() + operand.offset, 0};
  if (operand.space == TileOperand::kUser) return {user + operand.offset, 0};
  const Buffer& buffer = buffers_[operand.buffer];
  return {scratch + buffer.offset + operand.offset, buffer.stride};
}

void TileProgram::RunGemm(const TileInstruction& instruction, int64_t rows, const float* user,
                          float* scratch) const {
  GemmTerm terms[kMaxSummands];
  RowsView addends[kMaxSummands];
  uint16_t* narrow = reinterpret_cast<uint16_t*>(scratch + narrow_offset_);
  for (size_t t = 0; t < instruction.rows.size(); ++t) {
    const RowsView view = View(instruction.rows[t], user, scratch);
    const int64_t depth = instruction.depths[t];
    const float* packed = View(instruction.packed[t], user, scratch).data;
    terms[t] = {view.data, view.stride, packed, depth};
    if (native_bfloat16_) {
      const int64_t stride = PaddedWidth(depth);
      options_.kernels->to_bfloat16(view, rows, depth, narrow, stride);
      terms[t].rows = narrow;
      terms[t].stride = stride;
      narrow += options_.tile_rows * stride;
    }
  }
  for (size_t i = 0; i < instruction.addends.size(); ++i) {
    addends[i] = View(instruction.addends[i], user, scratch);
  }
  Gemm gemm;
  gemm.rows = rows;
  gemm.width = instruction.width;
  gemm.terms = terms;
  gemm.num_terms = static_cast<int>(instruction.rows.size());
  gemm.addends = addends;
  gemm.num_addends = static_cast<int>(instruction.addends.size());
  gemm.activation = instruction.activation;
  if (gemm.activation == Activation::kPrelu) gemm.alpha = View(instruction.alpha, user, scratch).data;
  const Buffer& out = buffers_[instruction.out.buffer];
  gemm.out = scratch + out.offset;
  gemm.out_stride = out.stride;
  (native_bfloat16_ ? options_.kernels->gemm_bfloat16 : options_.kernels->gemm)(gemm);
}

void TileProgram::Run(const TileInstruction& instruction, int64_t rows, const float* user,
                      float* scratch) const {
  if (instruction.kind == TileInstruction::kGemm) return RunGemm(instruction, rows, user, scratch);
  const TileKernels& kernels = *options_.kernels;
  const Buffer& buffer = buffers_[instruction.out.buffer];
  float* out = scratch + buffer.offset + instruction.out.offset;
  const int64_t width = instruction.width;
  const RowsView in = View(instruction.rows[0], user, scratch);
  switch (instruction.kind) {
    case TileInstruction::kGemm:
      break;
    case TileInstruction::kBinary:
      kernels.binary(instruction.binary, {in, instruction.rows[0].column},
                     {View(instruction.rows[1], user, scratch), instruction.rows[1].column}, rows, width, out,
                     buffer.stride);
      break;
    case TileInstruction::kUnary:
      kernels.unary(instruction.unary, in, rows, width, out, buffer.stride);
      break;
    case TileInstruction::kPrelu:
      kernels.prelu(in, View(instruction.alpha, user, scratch).data, rows, width, out, buffer.stride);
      break;
    case TileInstruction::kSoftmax:
      kernels.softmax(in, rows, width, out, buffer.stride);
      break;
    case TileInstruction::kReduce:
      kernels.reduce(instruction.reduce, in, rows, width, out, buffer.stride);
      break;
    case TileInstruction::kCopy:
      for (int64_t row = 0; row < rows; ++row) {
        std::memcpy(out + row * buffer.stride, in.data + row * in.stride, width * sizeof(float));
      }
      break;
  }
}

void TileProgram::ScoreInPlace(const AlignedFloats& user, absl::Span<const Table* const> tables,
                               absl::Span<const int32_t> positions, float* scores) const {
  const Table& table = *tables[direct_->table];
  const float* query = View(direct_->query, user.data(), nullptr).data;
  const auto distance =
      direct_->squared_distance ? options_.kernels->squared_distance : options_.kernels->dot;
  distance(query, table.AsFloat32().data(), table.width(), positions.data(),
           static_cast<int64_t>(positions.size()), scores);
  if (!direct_->negated) return;
  for (size_t i = 0; i < positions.size(); ++i) scores[i] = -scores[i];
}

void TileProgram::Gather(absl::Span<const Table* const> tables, absl::Span<const int32_t> positions,
                         AlignedFloats* scratch) const {
  for (size_t t = 0; t < table_buffers_.size(); ++t) {
    if (table_buffers_[t] < 0) continue;
    const Buffer& buffer = buffers_[table_buffers_[t]];
    tables[t]->Gather(positions, scratch->data() + buffer.offset, buffer.stride);
  }
}

void TileProgram::Score(const AlignedFloats& user, int64_t rows, AlignedFloats* scratch,
                        float* scores) const {
  for (const TileInstruction& instruction : instructions_) {
    Run(instruction, rows, user.data(), scratch->data());
  }
  const RowsView output = View(output_, user.data(), scratch->data());
  for (int64_t row = 0; row < rows; ++row) scores[row] = output.data[row * output.stride];
}

}  // namespace nann
