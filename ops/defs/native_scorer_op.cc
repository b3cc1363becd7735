#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>NativeScorerProblem")
    .Output("problem: string")
    .Attr("native_scorer: string")
    .Attr("user_shapes: list(shape)")
    .Attr("table_widths: list(int)")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Why the native executor cannot run a scorer: what an export asks before it chooses who runs it.

problem: string[]. Empty when it can; else the node and what of it is not computed.
native_scorer: the serialized FunctionDef of the scorer.
user_shapes: of the scorer's user tensors.
table_widths: of its item tables.
)doc");

}  // namespace
}  // namespace nann
