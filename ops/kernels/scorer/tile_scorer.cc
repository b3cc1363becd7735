#include "tile_scorer.h"

#include <chrono>
#include <cstdio>
#include <utility>

#include "../../core/base/status_macros.h"
#include "../metrics/metrics.h"
#include "absl/strings/str_cat.h"
#include "scorer_function.h"
#include "tensorflow/core/framework/tensor_util.h"

namespace nann {

using tensorflow::FunctionLibraryRuntime;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

namespace {

// Exports that carry `native_scorer`, a serialized FunctionDef, were made before there were scorer programs.
void WarnOfEarlierExport() {
  // Not by LOG: `nann` raises TensorFlow's log level, and whoever runs a server should read this. Not by
  // std::call_once: its thread-local variables would make the loader a dependency of the preloaded library.
  [[maybe_unused]] static const int once = std::fputs(
      "WARNING: This model was exported by nann 0.1.0 before it wrote scorer programs: its scorer runs as a "
      "TensorFlow function, which gives the same answers and takes longer. Export it again with `nann "
      "export`.\n",
      stderr);
}

}  // namespace

TileScorer::TileScorer(tensorflow::OpKernelConstruction* ctx) {
  std::string program, earlier_program, precision;
  OP_REQUIRES_OK(ctx, ctx->GetAttr("scorer", &scorer_));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("user_functions", &user_functions_));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("scorer_program", &program));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("native_scorer", &earlier_program));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("precision", &precision));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("item_tables", &table_names_));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("tile_rows", &tile_rows_));
  if (ctx->HasAttr("rescore_tables"))
    OP_REQUIRES_OK(ctx, ctx->GetAttr("rescore_tables", &rescore_table_names_));
  OP_REQUIRES(ctx, user_functions_.size() <= 1,
              absl::InvalidArgumentError(
                  absl::StrCat("user_functions: expected at most 1, found ", user_functions_.size())));
  if (!program.empty()) {
    OP_REQUIRES_OK(ctx, ReadProgram(program, precision == "bfloat16"));
    return;
  }
  if (!earlier_program.empty()) WarnOfEarlierExport();
  // A function of TensorFlow walks over the exact tables at once.
  if (!rescore_table_names_.empty()) table_names_ = rescore_table_names_;
}

absl::Status TileScorer::ReadProgram(const std::string& bytes, bool bfloat16) {
  NANN_ASSIGN_OR_RETURN(ScorerProgram parsed, ScorerProgram::Parse(bytes));
  if (parsed.after_user_function() && user_functions_.empty()) {
    return absl::InvalidArgumentError(
        "scorer_program: expected a user function that it comes after, found none");
  }
  const auto program = std::make_shared<const ScorerProgram>(std::move(parsed));
  native_ = std::make_unique<NativeScorer>(program, tile_rows_, bfloat16);
  if (!rescore_table_names_.empty()) rescorer_ = std::make_unique<NativeScorer>(program, tile_rows_, false);
  return absl::OkStatus();
}

namespace {

absl::Status FindTables(const Index& index, const std::vector<std::string>& names,
                        std::vector<const Table*>* tables) {
  for (const std::string& name : names) {
    NANN_ASSIGN_OR_RETURN(const Table* table, index.ItemTable(name));
    tables->push_back(table);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TileScorer::Ready> TileScorer::Prepare(OpKernelContext* ctx, const Index& index) const {
  FunctionLibraryRuntime* runtime = ctx->function_library();
  if (runtime == nullptr) return absl::InternalError("this TensorFlow runtime gives kernels no functions");
  Ready ready;
  ready.runtime = runtime;
  ready.native = native_.get();
  ready.tile_rows = tile_rows_;
  NANN_RETURN_IF_ERROR(FindTables(index, table_names_, &ready.tables));
  if (!user_functions_.empty()) ready.user_function = &user_functions_.front();
  if (native_ != nullptr) {
    if (!native_->executor().program().after_user_function()) ready.user_function = nullptr;
    ready.computed_width = native_->WidthOfTable(ready.tables.size());
    NANN_RETURN_IF_ERROR(native_->CheckTables(ready.tables, ready.computed_width));
    if (!ready.calls_function()) return ready;
  }
  // Instantiates once; later calls only look it up. The handles are not kept: a session may run this kernel
  // under another runtime, even one at the address of an earlier one.
  NANN_RETURN_IF_ERROR(
      runtime->Instantiate(scorer_.name(), tensorflow::AttrSlice(&scorer_.attr()), {}, &ready.scorer));
  return ready;
}

absl::StatusOr<TileScorer::Ready> TileScorer::PrepareRescorer(const Index& index) const {
  Ready ready;
  ready.native = rescorer_.get();
  ready.tile_rows = tile_rows_;
  if (rescorer_ == nullptr) return ready;
  NANN_RETURN_IF_ERROR(FindTables(index, rescore_table_names_, &ready.tables));
  NANN_RETURN_IF_ERROR(rescorer_->CheckTables(ready.tables, 0));
  return ready;
}

namespace {

absl::Status RunNativeUser(const TileScorer::Ready& scorer, ScorerUser* user) {
  if (scorer.native == nullptr) return absl::OkStatus();
  NANN_RETURN_IF_ERROR(scorer.native->RunUser(user->tensors, &user->native));
  user->bound = scorer.native->Bind(*user->native);
  return absl::OkStatus();
}

}  // namespace

void BindUser(OpKernelContext* ctx, const TileScorer::Ready& scorer, std::vector<Tensor> tensors,
              ScorerUser* user, TileScorer::Done done) {
  user->tensors = std::move(tensors);
  const auto started = std::chrono::steady_clock::now();
  const auto finish = [&scorer, user, started, done = std::move(done)](absl::Status status) {
    if (status.ok()) status = RunNativeUser(scorer, user);
    CountTime(Part::kUser, std::chrono::steady_clock::now() - started);
    done(status);
  };
  if (scorer.user_function == nullptr) return finish(absl::OkStatus());
  CountTensorflowUser();
  FunctionLibraryRuntime::Handle function;
  const absl::Status instantiated = scorer.runtime->Instantiate(
      scorer.user_function->name(), tensorflow::AttrSlice(&scorer.user_function->attr()), {}, &function);
  if (!instantiated.ok()) return finish(instantiated);
  auto results = std::make_shared<std::vector<Tensor>>();
  scorer.runtime->Run(InlineFunctionOptions(ctx), function, user->tensors, results.get(),
                      [user, results, finish](const absl::Status& status) {
                        if (status.ok()) user->tensors = std::move(*results);
                        finish(status);
                      });
}

std::vector<Tensor> UserOfRow(const tensorflow::OpInputList& batch, int64_t row) {
  std::vector<Tensor> user;
  for (const Tensor& tensor : batch) {
    const Tensor slice = tensor.SubSlice(row);
    user.push_back(slice.IsAligned() ? slice : tensorflow::tensor::DeepCopy(slice));
  }
  return user;
}

absl::StatusOr<int64_t> BatchOf(const tensorflow::OpInputList& user) {
  int64_t batch = -1;
  for (int i = 0; i < user.size(); ++i) {
    const tensorflow::TensorShape& shape = user[i].shape();
    if (shape.dims() < 1 || (batch >= 0 && shape.dim_size(0) != batch)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "user_state[", i, "]: expected shape [batch", batch >= 0 ? absl::StrCat(" = ", batch) : "",
          ", ...] as of the first user tensor, found ", shape.DebugString()));
    }
    batch = shape.dim_size(0);
  }
  return batch;
}

}  // namespace nann
