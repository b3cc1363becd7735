#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>EnterPoints")
    .Input("index: resource")
    .Output("positions: int32")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      c->set_output(0, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The entry points of the index, which every walk scores first.

index: resource[]. The handle of an initialized index.
positions: int32[P]. Positions, each once; P >= 1.
)doc");

REGISTER_OP("Nann>GatherNeighbors")
    .Input("index: resource")
    .Input("positions: int32")
    .Output("neighbors: int32")
    .Attr("level: int >= 0")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &unused));
      c->set_output(0, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The neighbours of nodes on one level, list after list. A node that is in several lists is repeated.

index: resource[]. The handle of an initialized index.
positions: int32[n]. Positions, 0 to N - 1; any other is InvalidArgument.
neighbors: int32[edges]. Positions. A node without neighbours on the level adds none.
level: 0, the level of all nodes, to S - 1.
)doc");

REGISTER_OP("Nann>GatherTableRows")
    .Input("index: resource")
    .Input("rows: Trow")
    .Output("values: float")
    .Attr("table: string")
    .Attr("Trow: {int32, int64}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused, values;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      TF_RETURN_IF_ERROR(c->Concatenate(c->input(1), c->Vector(c->UnknownDim()), &values));
      c->set_output(0, values);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Rows of a mapped table, converted to float32.

index: resource[]. The handle of an initialized index.
rows: <Trow>[...]. Rows, 0 to the table's rows - 1; any other is InvalidArgument. A row for missing ids is a
  row of the table itself, by custom row 0.
values: float32[..., width].
table: the name of a floating-point item or user table of the index.
Trow: the type of the rows.
)doc");

}  // namespace
}  // namespace nann
