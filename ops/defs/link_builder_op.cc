#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>LinkBuilder")
    .Input("index: resource")
    .Output("builder: resource")
    .Attr("table: string")
    .Attr("m: int >= 1")
    .Attr("ef_construction: int >= 1")
    .Attr("inner_product: bool = false")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
A graph that items can be inserted into: that of an index, which itself does not change.

index: resource[]. The handle of an initialized index.
builder: resource[]. A new one on each run; it keeps the index.
table: the item table of the embeddings [N, D].
m: links of an item at each level above 0; twice as many at level 0.
ef_construction: candidates that are looked at for the links of an item.
inner_product: half of the links lead to large inner products, half to near items. Else all lead to near items.
)doc");

REGISTER_OP("Nann>ChooseLinks")
    .Input("builder: resource")
    .Input("vectors: float")
    .Input("levels: int32")
    .Output("nodes: num_levels * int32")
    .Output("row_splits: num_levels * int64")
    .Output("neighbors: num_levels * int32")
    .Attr("num_levels: int >= 1")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle vectors, levels;
      DimensionHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &vectors));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &levels));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(vectors, 0), c->Dim(levels, 0), &unused));
      for (int i = 0; i < c->num_outputs(); ++i) c->set_output(i, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Inserts items and links them as HNSW does, one after the other (docs/live.md).

builder: resource[]. Of `Nann>LinkBuilder`; the items stay in it.
vectors: float[n, D]. Finite. Item i gets the position P + i, where P is the number of positions before the call.
levels: int32[n]. The highest level that each item lives on, at least 0; levels of the graph are the most.
nodes: int32[m] for each level, level 0 first. The positions whose lists have changed, ascending.
row_splits: int64[m + 1]. The whole list of nodes[i] is neighbors[row_splits[i]:row_splits[i + 1]].
neighbors: int32[edges]. Positions.
num_levels: levels of the graph.
)doc");

REGISTER_OP("Nann>ApplyLinks")
    .Input("builder: resource")
    .Input("vectors: float")
    .Input("nodes: num_levels * int32")
    .Input("row_splits: num_levels * int64")
    .Input("neighbors: num_levels * int32")
    .Attr("num_levels: int >= 1")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &unused));
      for (int i = 2; i < c->num_inputs(); ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Inserts items with the links that `Nann>ChooseLinks` has chosen for them in another process.

builder: resource[]. Of `Nann>LinkBuilder`. After an error it is not to be used.
vectors: float[n, D].
nodes: int32[m] for each level, level 0 first. As `Nann>ChooseLinks` returns them; others are InvalidArgument.
row_splits: int64[m + 1].
neighbors: int32[edges].
num_levels: levels of the graph.
)doc");

REGISTER_OP("Nann>DeleteLinked")
    .Input("builder: resource")
    .Input("positions: int32")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      return c->WithRank(c->input(1), 1, &unused);
    })
    .Doc(R"doc(
Deletes items: searches for links go through them, and no link is chosen that leads to them.

builder: resource[]. Of `Nann>LinkBuilder`.
positions: int32[n]. Positions of the builder; any other is InvalidArgument.
)doc");

}  // namespace
}  // namespace nann
