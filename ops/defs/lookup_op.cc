#include "shapes.h"

namespace nann {
namespace {

absl::Status SameShapeAsSecondInput(InferenceContext* c) {
  ShapeHandle unused;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
  c->set_output(0, c->input(1));
  return absl::OkStatus();
}

REGISTER_OP("Nann>IdsToPositions")
    .Input("index: resource")
    .Input("ids: int64")
    .Output("positions: int32")
    .SetShapeFn(SameShapeAsSecondInput)
    .Doc(R"doc(
The position of each item id.

index: resource[]. The handle of an initialized index.
ids: int64[...]. Item ids as the caller knows them.
positions: int32[...]. -1 where the index has no such item.
)doc");

REGISTER_OP("Nann>PositionsToIds")
    .Input("index: resource")
    .Input("positions: int32")
    .Output("ids: int64")
    .SetShapeFn(SameShapeAsSecondInput)
    .Doc(R"doc(
The item id at each position.

index: resource[]. The handle of an initialized index.
positions: int32[...]. Positions, 0 to N - 1, or -1 for a missing item; any other is InvalidArgument.
ids: int64[...]. -1 where the position is -1.
)doc");

REGISTER_OP("Nann>LookupRows")
    .Input("index: resource")
    .Input("ids: int64")
    .Output("rows: int64")
    .Attr("table: string")
    .SetShapeFn(SameShapeAsSecondInput)
    .Doc(R"doc(
The row of each id in an embedding table: 1 + the id's index in a vocabulary. Row 0 stands for missing ids.

index: resource[]. The handle of an initialized index.
ids: int64[...]. Ids as the caller knows them.
rows: int64[...]. 0 where the vocabulary lacks the id.
table: the name of the vocabulary, an int64 user table of the index in ascending order.
)doc");

}  // namespace
}  // namespace nann
