#include "native_scorer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scorer_compiler.h"

namespace nann {
namespace {

// A multiple of the rows that every version of the kernels takes at once. Short tiles spread a hop evenly
// over the threads; the speed of a tile is the same from 30 rows on.
constexpr int64_t kMostTileRows = 48;

std::vector<tensorflow::TensorShape> ShapesOf(const std::vector<tensorflow::Tensor>& tensors) {
  std::vector<tensorflow::TensorShape> shapes;
  for (const tensorflow::Tensor& tensor : tensors) shapes.push_back(tensor.shape());
  return shapes;
}

}  // namespace

std::shared_ptr<CompiledUser> NativeUser::For(const std::vector<tensorflow::Tensor>& user) {
  std::vector<tensorflow::TensorShape> shapes = ShapesOf(user);
  absl::MutexLock lock(&mu_);
  if (refused_) return nullptr;
  if (compiled_ != nullptr && compiled_->input_shapes == shapes) return compiled_;
  absl::StatusOr<UserProgram> program = CompileUser(function_, shapes);
  refused_ = !program.ok();
  compiled_ = refused_ ? nullptr : std::make_shared<CompiledUser>(*std::move(program), std::move(shapes));
  return compiled_;
}

absl::StatusOr<std::shared_ptr<CompiledScorer>> NativeScorer::For(const std::vector<tensorflow::Tensor>& user,
                                                                  const std::vector<const Table*>& tables) {
  std::vector<tensorflow::TensorShape> shapes = ShapesOf(user);
  {
    absl::MutexLock lock(&mu_);
    if (compiled_ != nullptr && compiled_->user_shapes == shapes) return compiled_;
  }
  absl::StatusOr<std::shared_ptr<CompiledScorer>> compiled = Compile(std::move(shapes), tables);
  if (!compiled.ok()) return compiled;
  absl::MutexLock lock(&mu_);
  compiled_ = *compiled;
  return compiled;
}

absl::StatusOr<std::shared_ptr<CompiledScorer>> NativeScorer::Compile(
    std::vector<tensorflow::TensorShape> user_shapes, const std::vector<const Table*>& tables) const {
  std::vector<int64_t> widths;
  for (const Table* table : tables) widths.push_back(table->width());
  const auto explain = [](const absl::Status& status) {
    return absl::InvalidArgumentError(
        absl::StrCat("scorer: the native executor cannot run it: ", status.message(),
                     ". Export with the executor `tensorflow` or `auto`."));
  };
  const absl::StatusOr<TileGraph> graph = CompileScorer(scorer_, user_shapes, widths);
  if (!graph.ok()) return explain(graph.status());
  TileProgram::Options options;
  options.tile_rows = std::min(tile_rows_, kMostTileRows);
  options.bfloat16 = bfloat16_;
  absl::StatusOr<TileProgram> program = TileProgram::Compile(*graph, options);
  if (!program.ok()) return explain(program.status());
  return std::make_shared<CompiledScorer>(*std::move(program), std::move(user_shapes));
}

}  // namespace nann
