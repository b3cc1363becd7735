// From the user's part of a scorer as TensorFlow knows it to a program over matrices.
#ifndef NANN_OPS_KERNELS_SCORER_USER_COMPILER_H_
#define NANN_OPS_KERNELS_SCORER_USER_COMPILER_H_

#include <vector>

#include "../../core/scorer/matrix_program.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tensorflow/core/framework/function.pb.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace nann {

struct UserProgram {
  MatrixProgram program;
  std::vector<tensorflow::TensorShape> output_shapes;
};

// Translates `function`: a float32 tensor of rank 2 at most an input shape -> float32 tensors likewise.
// InvalidArgument says what it does not know: such a function is left to TensorFlow.
absl::StatusOr<UserProgram> CompileUser(const tensorflow::FunctionDef& function,
                                        absl::Span<const tensorflow::TensorShape> input_shapes);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_SCORER_USER_COMPILER_H_
