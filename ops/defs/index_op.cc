#include "shapes.h"

namespace nann {
namespace {

REGISTER_OP("Nann>IndexHandle")
    .Output("index: resource")
    .Attr("container: string = ''")
    .Attr("shared_name: string = ''")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
The handle of an index in a graph, the same on every run.

The first run makes an empty index; `Nann>IndexInitialize` fills it. The index lives as long as the node's
kernel or a copy of the handle. In eager mode use `Nann>AnonymousIndex`.

index: resource[]. The handle.
container: where `shared_name` is looked up; empty: the default container of the resource manager.
shared_name: nodes of the same name share one index; empty: the node has an index of its own.
)doc");

REGISTER_OP("Nann>AnonymousIndex")
    .Output("index: resource")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
The handle of a new, empty index on every run; `Nann>IndexInitialize` fills it.

For eager mode. In a graph the handle would be another one on every run: use `Nann>IndexHandle` there. The
index lives as long as a copy of the handle.

index: resource[]. The handle.
)doc");

REGISTER_OP("Nann>IndexInitialize")
    .Input("index: resource")
    .Input("item_ids_path: string")
    .Input("id_order_path: string")
    .Input("enter_points_path: string")
    .Input("neighbors_paths: string")
    .Input("row_splits_paths: string")
    .Input("item_table_paths: string")
    .Input("user_table_paths: string")
    .Input("attribute_paths: num_attribute_inputs * string")
    .Attr("hops_per_level: list(int) >= 1")
    .Attr("item_table_names: list(string)")
    .Attr("item_table_types: list({float, half, bfloat16, int8})")
    .Attr("user_table_names: list(string)")
    .Attr("user_table_types: list({float, half, bfloat16, int8, int64})")
    .Attr("num_attribute_inputs: int >= 0 = 0")
    .Attr("attribute_names: list(string) = []")
    .Attr("attribute_types: list(string) = []")
    .Attr("prefault: bool = false")
    .Attr("overlay_capacity: int >= 0 = 0")
    .Attr("export_id: string = ''")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      int32_t levels = 0;
      std::vector<int32_t> hops;
      TF_RETURN_IF_ERROR(c->GetAttr("hops_per_level", &hops));
      levels = static_cast<int32_t>(hops.size());
      ShapeHandle unused;
      for (int i = 0; i < 4; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &unused));
      for (int i = 4; i < 6; ++i) TF_RETURN_IF_ERROR(VectorOf(c, i, levels));
      for (int i = 6; i < 8; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Maps the files of an index read-only, checks them to the last offset, and sets the index of the handle.

An index that the handle has already is replaced; searches that run keep the one that they began with. An
error names the file, what was expected and what was found, and the handle keeps the index that it has. All
files are .npy.

index: resource[]. From `Nann>IndexHandle` or `Nann>AnonymousIndex`.
item_ids_path: string[]. File of int64[N]: the item id at each position, each id once.
id_order_path: string[]. File of int32[N]: all positions in ascending order of their id. An empty path means
  that the order is computed.
enter_points_path: string[]. File of int32[P]: the positions of the entry points, each once; P >= 1.
neighbors_paths: string[S]. Files of int32[edges of the level]: positions; level 0 first.
row_splits_paths: string[S]. Files of int64[N + 1]: the neighbours of position p are
  neighbors[splits[p]:splits[p + 1]]; level 0 first.
item_table_paths: string[T]. Files of <item_table_types>[N, width].
user_table_paths: string[U]. Files of <user_table_types>[rows, width], or int64[rows] for a vocabulary, in
  ascending order.
attribute_paths: none, or one string[A, 6]: the files of each attribute, as `Nann>EvaluateFilter` takes them.
hops_per_level: hops of each level, 1 to 1000; level 0 first.
item_table_names: T names, each once.
item_table_types: T types; a bfloat16 file is of uint16. An int8 file is of uint8[N, bytes of a row]: the float32
  scales of each 64 columns, then the numbers of the columns, int8, which stand for themselves times their scale.
user_table_names: U names, each once.
user_table_types: U types; as above.
num_attribute_inputs: 0 or 1.
attribute_names: A names, which differ by more than the case of ASCII letters.
attribute_types: A types: int64, float32, bool, string or list<...> of these.
prefault: read every page once, so that no request waits for the disk.
overlay_capacity: how many new items segments may add (docs/live.md); 0: no segments are read. More than 0: those
  beside the export are applied before the op returns, and a thread applies later ones until the handle's index
  is replaced or gone.
export_id: of the segments, 32 hexadecimal digits.
)doc");

}  // namespace
}  // namespace nann
