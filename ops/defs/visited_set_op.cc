#include "shapes.h"

namespace nann {
namespace {

// Stateful, so that TensorFlow neither merges two of them nor folds one into a constant.
REGISTER_OP("Nann>VisitedSetCreate")
    .Input("index: resource")
    .Output("visited: variant")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
An empty visited set over the items of the index.

index: resource[]. The handle of an initialized index.
visited: variant[]. One bit per item. A value, not a variable: `Nann>FilterVisited` returns a new one.
)doc");

REGISTER_OP("Nann>FilterVisited")
    .Input("visited: variant")
    .Input("positions: int32")
    .Output("fresh: int32")
    .Output("visited_after: variant")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &unused));
      c->set_output(0, c->Vector(c->UnknownDim()));
      c->set_output(1, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Drops positions that were visited before and repeated ones, and marks the others as visited.

The given set does not change. It is copied only when another op still holds it.

visited: variant[]. From `Nann>VisitedSetCreate` or `Nann>FilterVisited`.
positions: int32[n]. Positions, 0 to N - 1; any other is InvalidArgument.
fresh: int32[m]. The positions that were not visited before, each once, in their order.
visited_after: variant[]. The given set and the positions.
)doc");

}  // namespace
}  // namespace nann
