#include "native_scorer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace nann {
namespace {

using tensorflow::Tensor;

// A multiple of the rows that every version of the kernels takes at once. Short tiles spread a hop evenly
// over the threads; the speed of a tile is the same from 30 rows on.
constexpr int64_t kMostTileRows = 48;

// Memory that is kept for later requests: more than this many at once are rare.
constexpr size_t kIdle = 64;

NativeExecutor::Options OptionsOf(int64_t tile_rows, bool bfloat16) {
  NativeExecutor::Options options;
  options.tile_rows = std::min(tile_rows, kMostTileRows);
  options.bfloat16 = bfloat16;
  return options;
}

bool HasDims(const Tensor& tensor, absl::Span<const uint32_t> dims) {
  if (tensor.dtype() != tensorflow::DT_FLOAT || tensor.dims() != static_cast<int>(dims.size())) return false;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (tensor.dim_size(static_cast<int>(i)) != dims[i]) return false;
  }
  return true;
}

}  // namespace

NativeScorer::NativeScorer(std::shared_ptr<const ScorerProgram> program, int64_t tile_rows, bool bfloat16)
    : executor_(std::move(program), OptionsOf(tile_rows, bfloat16)),
      users_(kIdle, [this] { return std::make_unique<AlignedFloats>(executor_.MakeUser()); }),
      packed_(kIdle, [this] { return std::make_unique<AlignedFloats>(executor_.MakePacked()); }),
      scratch_(kIdle, [this] { return std::make_unique<AlignedFloats>(executor_.MakeScratch()); }) {}

absl::Status NativeScorer::CheckTables(const std::vector<const Table*>& tables) const {
  for (const Instruction& instruction : executor_.program().instructions()) {
    if (instruction.opcode != Opcode::kTable) continue;
    const size_t index = instruction.parameters[0];
    if (index < tables.size() && tables[index]->width() == instruction.shape.columns) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("item_tables[", index, "]: expected a table of width ", instruction.shape.columns,
                     " as the scorer program's, found ",
                     index < tables.size() ? absl::StrCat("width ", tables[index]->width()) : "none"));
  }
  return absl::OkStatus();
}

absl::Status NativeScorer::RunUser(const std::vector<Tensor>& tensors, Memory* user) const {
  std::vector<const float*> floats(tensors.size(), nullptr);
  for (const Instruction& instruction : executor_.program().instructions()) {
    if (instruction.opcode != Opcode::kInput) continue;
    const size_t index = instruction.parameters[0];
    const absl::Span<const uint32_t> dims = absl::MakeConstSpan(instruction.parameters).subspan(1);
    if (index >= tensors.size() || !HasDims(tensors[index], dims)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "user_state[", index, "]: expected float32 [", absl::StrJoin(dims, ", "),
          "] per user as the scorer program's, found ",
          index < tensors.size() ? absl::StrCat(tensorflow::DataTypeString(tensors[index].dtype()), " ",
                                                tensors[index].shape().DebugString())
                                 : "none"));
    }
    floats[index] = tensors[index].flat<float>().data();
  }
  *user = users_.Borrow();
  executor_.RunUser(floats, user->get());
  return absl::OkStatus();
}

NativeScorer::Memory NativeScorer::Pack(const AlignedFloats& user) const {
  Memory packed = packed_.Borrow();
  executor_.Pack(user, packed.get());
  return packed;
}

}  // namespace nann
