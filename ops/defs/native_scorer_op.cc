#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>CheckNativeScorer")
    .Output("problem: string")
    .Output("in_place: bool")
    .Attr("native_scorer: string")
    .Attr("user_shapes: list(shape)")
    .Attr("table_widths: list(int)")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Scalar());
      c->set_output(1, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
How the native executor would run a scorer: what an export asks before it chooses who runs it.

problem: string[]. Empty when it can; else the node and what of it is not computed.
in_place: bool[]. Whether the scorer is an inner product or a distance, whose items are read where they lie if
  their table is float32: the walk then needs no tiles.
native_scorer: the serialized FunctionDef of the scorer.
user_shapes: of the scorer's user tensors.
table_widths: of its item tables.
)doc");

}  // namespace
}  // namespace nann
