#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>Metrics")
    .Output("names: string")
    .Output("values: int64")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      const ShapeHandle vector = c->Vector(c->UnknownDim());
      c->set_output(0, vector);
      c->set_output(1, vector);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The counters of this process. TensorFlow Serving shows them on its Prometheus page as well.

names: string[n]. For example "/nann/searches".
values: int64[n]. In the order of `names`; 0 for what was not counted yet.
)doc");

}  // namespace
}  // namespace nann
