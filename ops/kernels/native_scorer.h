// A scorer run by the native executor.
#ifndef NANN_OPS_KERNELS_NATIVE_SCORER_H_
#define NANN_OPS_KERNELS_NATIVE_SCORER_H_

#include <memory>
#include <string>
#include <vector>

#include "../core/object_pool.h"
#include "../core/tile_program.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "tensorflow/core/framework/function.pb.h"
#include "tensorflow/core/framework/tensor.h"

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

#endif  // NANN_OPS_KERNELS_NATIVE_SCORER_H_
