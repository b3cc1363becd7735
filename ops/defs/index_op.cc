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

The first run makes an empty index; `Nann>IndexInitialize` fills it. The index lives as long as the node's kernel or
a copy of the handle. In eager mode use `Nann>AnonymousIndex`.

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

For eager mode. In a graph the handle would be another one on every run: use `Nann>IndexHandle` there. The index lives
as long as a copy of the handle.

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
    .Attr("hops_per_level: list(int) >= 1")
    .Attr("item_table_names: list(string)")
    .Attr("item_table_types: list({float, half, bfloat16})")
    .Attr("user_table_names: list(string)")
    .Attr("user_table_types: list({float, half, bfloat16, int64})")
    .Attr("prefault: bool = false")
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
Maps the files of an index read-only, checks them to the last offset and puts them behind the handle.

An index that is already there is replaced; searches under way keep the one they began with. Errors name the
file, what was expected and what was found, and leave the handle as it was.

index: resource[]. From `Nann>IndexHandle`.
item_ids_path: string[]. .npy, int64[N], each id once.
id_order_path: string[]. .npy, int32[N], positions sorted by id; an empty path: worked out at load.
enter_points_path: string[]. .npy, int32[P], P >= 1 positions, each once.
neighbors_paths: string[S]. .npy, int32[edges of the level], level 0 first.
row_splits_paths: string[S]. .npy, int64[N + 1] offsets into the neighbours, level 0 first.
item_table_paths: string[T]. .npy, [N, width] each.
user_table_paths: string[U]. .npy, [rows, width] each, or int64[rows] for a vocabulary.
hops_per_level: hops of each level, level 0 first.
item_table_names: T names.
item_table_types: T types; bfloat16 is stored as uint16.
user_table_names: U names.
user_table_types: U types.
prefault: read every page once, so that no request waits for the disk.
)doc");

}  // namespace
}  // namespace nann
