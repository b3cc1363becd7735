// What the shape functions of the ops share.
#ifndef NANN_OPS_DEFS_SHAPES_H_
#define NANN_OPS_DEFS_SHAPES_H_

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace nann {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// OK when input `input` may be a vector of `length` values.
inline absl::Status VectorOf(InferenceContext* c, int input, int64_t length) {
  ShapeHandle vector;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(input), 1, &vector));
  DimensionHandle unused;
  return c->WithValue(c->Dim(vector, 0), length, &unused);
}

}  // namespace nann

#endif  // NANN_OPS_DEFS_SHAPES_H_
