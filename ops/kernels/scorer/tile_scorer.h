// Running a model's scorer over rows of item tables, a fixed number of rows at a time.
#ifndef NANN_OPS_KERNELS_SCORER_TILE_SCORER_H_
#define NANN_OPS_KERNELS_SCORER_TILE_SCORER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../base/step_cancellation.h"
#include "../index/index_resource.h"
#include "absl/types/span.h"
#include "native_scorer.h"
#include "tensorflow/core/framework/function.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {

// The part of a kernel that knows its scorer: attributes `scorer`, `user_functions`, `scorer_program`,
// `precision`, `item_tables`, `rescore_tables`, `tile_rows`. The scorer is a function without captures:
//   (user tensors without their batch dimension..., float32[tile_rows, width] an item table...) ->
//   float32[tile_rows]
// Where there is a user function, the scorer takes what that makes of the user tensors. A scorer program
// computes the same scores without TensorFlow, and is then run in place of the function; or it goes on with
// what the function computes of a tile, float32[tile_rows, width], which it reads as one more item table.
// With `rescore_tables` it can score the same user tensors again, in float32, over those tables. Fixed tiles
// make the answer independent of load and threads. Constant once made, so thread-safe.
class TileScorer {
 public:
  using Done = std::function<void(const absl::Status&)>;

  // Reads the attributes; check ctx->status() afterwards.
  explicit TileScorer(tensorflow::OpKernelConstruction* ctx);

  // A scorer made ready for one kernel invocation: its function instantiated, tables found. Not to be used
  // beyond the scorer's life.
  struct Ready {
    tensorflow::FunctionLibraryRuntime* runtime = nullptr;
    tensorflow::FunctionLibraryRuntime::Handle scorer = 0;
    const tensorflow::NameAttrList* user_function = nullptr;  // Null: the scorer takes the user as it comes.
    const NativeScorer* native = nullptr;  // Not null: in place of the function `scorer`, or after it.
    int64_t computed_width = 0;            // Of what `scorer` computes for `native`; 0: it does not run.
    std::vector<const Table*> tables;
    int64_t tile_rows = 0;

    bool calls_function() const { return native == nullptr || computed_width > 0; }
  };
  absl::StatusOr<Ready> Prepare(tensorflow::OpKernelContext* ctx, const Index& index) const;

  // The scorer of the second, more exact pass; `native` is null where there is none.
  absl::StatusOr<Ready> PrepareRescorer(const Index& index) const;

 private:
  absl::Status ReadProgram(const std::string& bytes, bool bfloat16);

  tensorflow::NameAttrList scorer_;
  std::vector<tensorflow::NameAttrList> user_functions_;
  std::unique_ptr<const NativeScorer> native_;
  std::unique_ptr<const NativeScorer> rescorer_;
  std::vector<std::string> table_names_;
  std::vector<std::string> rescore_table_names_;
  int64_t tile_rows_ = 0;
};

// What a scorer knows of one user. The memory is the native executor's: what its user section computed, and
// what its tiles read.
struct ScorerUser {
  std::vector<tensorflow::Tensor> tensors;
  NativeScorer::Memory native;
  NativeScorer::ForUser bound;
};

// Makes `user` from one user's tensors, given without batch dimension: runs the user function, and the user
// section of a scorer program. Calls `done` once, from any thread; `ctx`, `scorer` and `user` must live until
// then.
void BindUser(tensorflow::OpKernelContext* ctx, const TileScorer::Ready& scorer,
              std::vector<tensorflow::Tensor> tensors, ScorerUser* user, TileScorer::Done done);

// Scores `positions` for one user and calls `done` once, from any thread. The tiles are spread over as many
// lanes as the device has intra-op threads that no other search of this process uses; no thread is ever
// blocked. `cancellation` is looked at before every tile. All arguments must live until `done`; `scores`
// holds one a position.
void ScoreTiles(tensorflow::OpKernelContext* ctx, const StepCancellation& cancellation,
                const TileScorer::Ready& scorer, const ScorerUser& user, absl::Span<const int32_t> positions,
                absl::Span<float> scores, TileScorer::Done done);

// Row `row` of every [batch, ...] tensor in `batch`, aligned as TensorFlow's kernels expect.
std::vector<tensorflow::Tensor> UserOfRow(const tensorflow::OpInputList& batch, int64_t row);

// The batch size that all tensors of `user` share. InvalidArgument when there is none.
absl::StatusOr<int64_t> BatchOf(const tensorflow::OpInputList& user);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_SCORER_TILE_SCORER_H_
