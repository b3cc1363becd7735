#include "native_scorer.h"

#include <algorithm>
#include <limits>
#include <type_traits>
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

// Rows and columns of a tensor: all axes but the last one after the other.
template <typename Dims>
std::pair<int64_t, int64_t> MatrixOf(const Dims& dims) {
  int64_t rows = 1, columns = 1;
  for (const auto n : dims) {
    rows *= columns;
    columns = static_cast<int64_t>(n);
  }
  return {rows, columns};
}

// Whole numbers up to this are floats; larger ones become infinity, which equals no number of an item.
constexpr int64_t kMostExact = int64_t{1} << 24;

template <typename T>
float ToFloat(T value) {
  if constexpr (std::is_integral_v<T>) {
    const int64_t whole = static_cast<int64_t>(value);
    if (whole > kMostExact) return std::numeric_limits<float>::infinity();
    if (whole < -kMostExact) return -std::numeric_limits<float>::infinity();
  }
  return static_cast<float>(value);
}

template <typename T>
void ToFloats(const Tensor& tensor, std::vector<float>* floats) {
  const auto values = tensor.flat<T>();
  floats->resize(values.size());
  for (int64_t i = 0; i < values.size(); ++i) (*floats)[i] = ToFloat<T>(values(i));
}

// The floats of a user's tensor, in `room` where they are of another type; null for a type that has none.
const float* FloatsOf(const Tensor& tensor, std::vector<float>* room) {
  switch (tensor.dtype()) {
    case tensorflow::DT_FLOAT:
      return tensor.flat<float>().data();
    case tensorflow::DT_BOOL:
      ToFloats<bool>(tensor, room);
      break;
    case tensorflow::DT_INT32:
      ToFloats<int32_t>(tensor, room);
      break;
    case tensorflow::DT_INT64:
      ToFloats<int64_t>(tensor, room);
      break;
    case tensorflow::DT_HALF:
      ToFloats<Eigen::half>(tensor, room);
      break;
    case tensorflow::DT_BFLOAT16:
      ToFloats<Eigen::bfloat16>(tensor, room);
      break;
    default:
      return nullptr;
  }
  return room->data();
}

}  // namespace

NativeScorer::NativeScorer(std::shared_ptr<const ScorerProgram> program, int64_t tile_rows, bool bfloat16)
    : executors_(std::move(program), OptionsOf(tile_rows, bfloat16)),
      users_(kIdle, [this] { return std::make_unique<AlignedFloats>(executor().MakeUser()); }),
      scratch_(kIdle, [this] { return std::make_unique<AlignedFloats>(executor().MakeScratch()); }),
      packed_(kIdle, [this] { return std::make_unique<PackedUser>(executor().MakePacked()); }) {}

int64_t NativeScorer::WidthOfTable(size_t number) const {
  for (const Instruction& instruction : executor().program().instructions()) {
    if (instruction.opcode == Opcode::kTable && instruction.parameters[0] == number) {
      return instruction.shape.columns;
    }
  }
  return 0;
}

absl::Status NativeScorer::CheckTables(const std::vector<const Table*>& tables,
                                       int64_t computed_width) const {
  for (const Instruction& instruction : executor().program().instructions()) {
    if (instruction.opcode != Opcode::kTable) continue;
    const size_t index = instruction.parameters[0];
    if (index < tables.size() && tables[index]->width() == instruction.shape.columns) continue;
    if (index == tables.size() && computed_width == instruction.shape.columns) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("item_tables[", index, "]: expected a table of width ", instruction.shape.columns,
                     " as the scorer program's, found ",
                     index < tables.size() ? absl::StrCat("width ", tables[index]->width()) : "none"));
  }
  return absl::OkStatus();
}

absl::Status NativeScorer::RunUser(const std::vector<Tensor>& tensors, Memory* user) const {
  std::vector<const float*> floats(tensors.size(), nullptr);
  std::vector<std::vector<float>> converted(tensors.size());
  for (const Instruction& instruction : executor().program().instructions()) {
    if (instruction.opcode != Opcode::kInput) continue;
    const size_t index = instruction.parameters[0];
    const absl::Span<const uint32_t> dims = absl::MakeConstSpan(instruction.parameters).subspan(1);
    const bool fits =
        index < tensors.size() && MatrixOf(tensors[index].shape().dim_sizes()) == MatrixOf(dims);
    if (fits && floats[index] == nullptr) floats[index] = FloatsOf(tensors[index], &converted[index]);
    if (!fits || floats[index] == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "user_state[", index, "]: expected float32 [", absl::StrJoin(dims, ", "),
          "] per user as the scorer program's, found ",
          index < tensors.size() ? absl::StrCat(tensorflow::DataTypeString(tensors[index].dtype()), " ",
                                                tensors[index].shape().DebugString())
                                 : "none"));
    }
  }
  *user = users_.Borrow();
  executor().RunUser(floats, user->get());
  return absl::OkStatus();
}

NativeScorer::ForUser NativeScorer::Bind(const AlignedFloats& user) const {
  const UserExecutors::Choice choice = executors_.Choose(user);
  ForUser bound;
  bound.executor = choice.executor;
  if (choice.executor == &executor()) {
    bound.packed = packed_.Borrow();
    executor().Pack(user, bound.packed.get());
    return bound;
  }
  bound.shorter = std::make_unique<AlignedFloats>(choice.executor->MakeUser());
  executors_.TakeUser(choice, user, bound.shorter.get());
  auto packed = std::make_unique<PackedUser>(choice.executor->MakePacked());
  choice.executor->Pack(*bound.shorter, packed.get());
  bound.packed = {packed.release(), std::default_delete<PackedUser>()};
  return bound;
}

}  // namespace nann
