#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>EvaluateFilter")
    .Input("attribute_paths: string")
    .Input("num_rows: int64")
    .Input("filter: string")
    .Output("passes: bool")
    .Output("passing: int64")
    .Output("seconds: double")
    .Attr("attribute_names: list(string)")
    .Attr("attribute_types: list(string)")
    .Attr("many_passing: int >= 1 = 50000")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 0, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 0, &unused));
      c->set_output(0, c->Vector(c->UnknownDim()));
      c->set_output(1, c->Scalar());
      c->set_output(2, c->Vector(2));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Which rows of some attributes a filter lets pass: those for which it is TRUE.

The files are mapped and checked on every run; an error names the file. A filter that is not valid is
InvalidArgument with the column of its text.

attribute_paths: string[A, 6]. The .npy files of each attribute: values, valid, offsets, element_valid,
  dictionary, dictionary_offsets; an empty path where there is no such array. docs/filters.md has them.
num_rows: int64[]. N, the rows of every attribute.
filter: string[]. In the language of docs/filters.md; an empty filter lets all rows pass.
passes: bool[N].
passing: int64[]. How many pass, or -1 where a sample shows that they are many.
seconds: double[2]. What the first use of the filter took, and a further one.
attribute_names: A names, which differ by more than the case of ASCII letters.
attribute_types: A types: int64, float32, bool, string or list<...> of these.
many_passing: where a sample shows that at least so many rows pass, there is no bitmap.
)doc");

}  // namespace
}  // namespace nann
