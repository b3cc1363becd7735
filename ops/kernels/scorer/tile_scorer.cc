#include "tile_scorer.h"

#include <chrono>
#include <utility>

#include "../metrics/metrics.h"
#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "scorer_function.h"
#include "tensorflow/core/framework/tensor_util.h"

namespace nann {

using tensorflow::FunctionLibraryRuntime;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

TileScorer::TileScorer(tensorflow::OpKernelConstruction* ctx) {
  std::string native_scorer, precision;
  OP_REQUIRES_OK(ctx, ctx->GetAttr("scorer", &scorer_));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("user_functions", &user_functions_));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("native_scorer", &native_scorer));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("precision", &precision));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("item_tables", &table_names_));
  OP_REQUIRES_OK(ctx, ctx->GetAttr("tile_rows", &tile_rows_));
  if (ctx->HasAttr("rescore_tables"))
    OP_REQUIRES_OK(ctx, ctx->GetAttr("rescore_tables", &rescore_table_names_));
  OP_REQUIRES(ctx, user_functions_.size() <= 1,
              absl::InvalidArgumentError(
                  absl::StrCat("user_functions: expected at most 1, found ", user_functions_.size())));
  if (native_scorer.empty()) return;
  tensorflow::FunctionDef function;
  OP_REQUIRES(ctx, function.ParseFromString(native_scorer),
              absl::InvalidArgumentError("native_scorer: expected a serialized FunctionDef, found " +
                                         std::to_string(native_scorer.size()) + " bytes that are none"));
  if (!rescore_table_names_.empty()) rescorer_ = std::make_unique<NativeScorer>(function, tile_rows_, false);
  native_ = std::make_unique<NativeScorer>(std::move(function), tile_rows_, precision == "bfloat16");
  const FunctionLibraryRuntime* runtime = ctx->function_library();
  if (runtime == nullptr || user_functions_.empty()) return;
  const tensorflow::FunctionDef* user =
      runtime->GetFunctionLibraryDefinition()->Find(user_functions_.front().name());
  if (user != nullptr) native_user_ = std::make_unique<NativeUser>(*user);
}

namespace {

absl::Status FindTables(const Index& index, const std::vector<std::string>& names,
                        std::vector<const Table*>* tables) {
  for (const std::string& name : names) {
    absl::StatusOr<const Table*> table = index.ItemTable(name);
    if (!table.ok()) return table.status();
    tables->push_back(*table);
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
  ready.native_user = native_user_.get();
  ready.tile_rows = tile_rows_;
  // A look-up but for the first time. The handles are not kept: a session may run this kernel under another
  // runtime, even one that lies where a former one lay.
  if (native_ == nullptr) {
    const absl::Status instantiated =
        runtime->Instantiate(scorer_.name(), tensorflow::AttrSlice(&scorer_.attr()), {}, &ready.scorer);
    if (!instantiated.ok()) return instantiated;
  }
  if (!user_functions_.empty()) ready.user_function = &user_functions_.front();
  const absl::Status found = FindTables(index, table_names_, &ready.tables);
  if (!found.ok()) return found;
  return ready;
}

absl::StatusOr<TileScorer::Ready> TileScorer::PrepareRescorer(const Index& index) const {
  Ready ready;
  ready.native = rescorer_.get();
  ready.tile_rows = tile_rows_;
  const absl::Status found = FindTables(index, rescore_table_names_, &ready.tables);
  if (!found.ok()) return found;
  return ready;
}

absl::Status PackUser(const TileScorer::Ready& scorer, ScorerUser* user) {
  if (scorer.native == nullptr) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<CompiledScorer>> compiled = scorer.native->For(user->tensors, scorer.tables);
  if (!compiled.ok()) return compiled.status();
  user->native = *std::move(compiled);
  std::vector<const float*> floats;
  for (const Tensor& tensor : user->tensors) {
    // A tensor of another type is one that the compiled scorer does not read.
    floats.push_back(tensor.dtype() == tensorflow::DT_FLOAT ? tensor.flat<float>().data() : nullptr);
  }
  user->packed = user->native->program.Bind(floats);
  return absl::OkStatus();
}

namespace {

// Replaces the user's tensors by what the user function makes of them. Returns false where TensorFlow has to.
bool RunNativeUser(const TileScorer::Ready& scorer, ScorerUser* user) {
  const auto is_float = [](const Tensor& tensor) { return tensor.dtype() == tensorflow::DT_FLOAT; };
  if (scorer.native_user == nullptr || !absl::c_all_of(user->tensors, is_float)) return false;
  const std::shared_ptr<CompiledUser> compiled = scorer.native_user->For(user->tensors);
  if (compiled == nullptr) return false;
  std::vector<const float*> inputs;
  for (const Tensor& tensor : user->tensors) inputs.push_back(tensor.flat<float>().data());
  std::vector<Tensor> results;
  std::vector<float*> outputs;
  for (const tensorflow::TensorShape& shape : compiled->part.output_shapes) {
    results.emplace_back(tensorflow::DT_FLOAT, shape);
    outputs.push_back(results.back().flat<float>().data());
  }
  const ObjectPool<AlignedFloats>::Loan scratch = compiled->scratch.Borrow();
  compiled->part.program.Run(inputs, scratch.get(), absl::MakeSpan(outputs));
  user->tensors = std::move(results);
  return true;
}

}  // namespace

void BindUser(OpKernelContext* ctx, const TileScorer::Ready& scorer, std::vector<Tensor> tensors,
              ScorerUser* user, TileScorer::Done done) {
  user->tensors = std::move(tensors);
  const auto started = std::chrono::steady_clock::now();
  const auto finish = [&scorer, user, started, done = std::move(done)](absl::Status status) {
    if (status.ok()) status = PackUser(scorer, user);
    CountTime(Part::kUser, std::chrono::steady_clock::now() - started);
    done(status);
  };
  if (scorer.user_function == nullptr) return finish(absl::OkStatus());
  if (RunNativeUser(scorer, user)) return finish(absl::OkStatus());
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
