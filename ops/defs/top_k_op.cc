#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>TopK")
    .Input("index: resource")
    .Input("positions: int32")
    .Input("scores: float")
    .Input("k: int32")
    .Output("top_positions: int32")
    .Output("top_scores: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      ShapeHandle positions;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &positions));
      TF_RETURN_IF_ERROR(c->Merge(positions, c->input(2), &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 0, &unused));
      c->set_output(0, c->Vector(c->UnknownDim()));
      c->set_output(1, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The best items: the higher score first, of equal scores the smaller item id. Items with a NaN score are
dropped.

index: resource[]. The handle of an initialized index; its item ids break ties.
positions: int32[n]. Positions, 0 to N - 1; any other is InvalidArgument.
scores: float32[n]. NaN drops the item; -infinity does not.
k: int32[]. At least 0.
top_positions: int32[m]. Best first. m is k, or the number of scores that are not NaN where that is less:
  nothing is padded.
top_scores: float32[m].
)doc");

}  // namespace
}  // namespace nann
