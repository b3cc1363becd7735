// A scorer run by the native executor.
#ifndef NANN_OPS_KERNELS_SCORER_NATIVE_SCORER_H_
#define NANN_OPS_KERNELS_SCORER_NATIVE_SCORER_H_

#include <memory>
#include <string>
#include <vector>

#include "../../core/base/object_pool.h"
#include "../../core/scorer/tile_program.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "tensorflow/core/framework/function.pb.h"
#include "tensorflow/core/framework/tensor.h"
#include "user_compiler.h"

namespace nann {

// A compiled scorer with the scratch memory of those who run it. Thread-safe.
struct CompiledScorer {
  CompiledScorer(TileProgram compiled, std::vector<tensorflow::TensorShape> shapes)
      : program(std::move(compiled)),
        user_shapes(std::move(shapes)),
        scratch(kIdleScratch, [this] { return std::make_unique<AlignedFloats>(program.MakeScratch()); }) {}

  static constexpr size_t kIdleScratch = 64;

  const TileProgram program;
  const std::vector<tensorflow::TensorShape> user_shapes;
  ObjectPool<AlignedFloats> scratch;
};

// A compiled user's part with the scratch memory of those who run it. Thread-safe.
struct CompiledUser {
  CompiledUser(UserProgram compiled, std::vector<tensorflow::TensorShape> shapes)
      : part(std::move(compiled)), input_shapes(std::move(shapes)), scratch(kIdleScratch, [this] {
          return std::make_unique<AlignedFloats>(part.program.MakeScratch());
        }) {}

  static constexpr size_t kIdleScratch = 64;

  const UserProgram part;
  const std::vector<tensorflow::TensorShape> input_shapes;
  ObjectPool<AlignedFloats> scratch;
};

// Compiles the user's part of a scorer for the shapes that requests have. Thread-safe: `compiled_` and
// `refused_` are guarded by `mu_`.
class NativeUser {
 public:
  explicit NativeUser(tensorflow::FunctionDef function) : function_(std::move(function)) {}

  // Null for a part that is not computed without TensorFlow.
  std::shared_ptr<CompiledUser> For(const std::vector<tensorflow::Tensor>& user);

 private:
  const tensorflow::FunctionDef function_;
  absl::Mutex mu_;
  std::shared_ptr<CompiledUser> compiled_ ABSL_GUARDED_BY(mu_);
  bool refused_ ABSL_GUARDED_BY(mu_) = false;
};

// Compiles a scorer once the shapes of its user tensors are known, which is when the first request has run
// the user's part. Thread-safe: `compiled_` is guarded by `mu_`.
class NativeScorer {
 public:
  NativeScorer(tensorflow::FunctionDef scorer, int64_t tile_rows, bool bfloat16)
      : scorer_(std::move(scorer)), tile_rows_(tile_rows), bfloat16_(bfloat16) {}

  // InvalidArgument says which node cannot be computed.
  absl::StatusOr<std::shared_ptr<CompiledScorer>> For(const std::vector<tensorflow::Tensor>& user,
                                                      const std::vector<const Table*>& tables);

 private:
  absl::StatusOr<std::shared_ptr<CompiledScorer>> Compile(std::vector<tensorflow::TensorShape> user_shapes,
                                                          const std::vector<const Table*>& tables) const;

  const tensorflow::FunctionDef scorer_;
  const int64_t tile_rows_;
  const bool bfloat16_;
  absl::Mutex mu_;
  std::shared_ptr<CompiledScorer> compiled_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_SCORER_NATIVE_SCORER_H_
