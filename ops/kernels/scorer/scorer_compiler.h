// From a scorer as TensorFlow knows it to the native executor's graph.
#ifndef NANN_OPS_KERNELS_SCORER_SCORER_COMPILER_H_
#define NANN_OPS_KERNELS_SCORER_SCORER_COMPILER_H_

#include <cstdint>

#include "../../core/scorer/tile_graph.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tensorflow/core/framework/function.pb.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace nann {

// Translates `scorer`: (one tensor a user shape, float32[tile, width] a table width) -> float32[tile].
// InvalidArgument names the node, its operation, and what the native executor does not compute: such a scorer
// runs as a function of TensorFlow.
absl::StatusOr<TileGraph> CompileScorer(const tensorflow::FunctionDef& scorer,
                                        absl::Span<const tensorflow::TensorShape> user_shapes,
                                        absl::Span<const int64_t> table_widths);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_SCORER_SCORER_COMPILER_H_
