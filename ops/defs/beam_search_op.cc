#include "shapes.h"

namespace nann {
namespace {

// What the outputs' batch dimension is: that of the first user tensor (input 1).
absl::Status BatchDim(InferenceContext* c, DimensionHandle* batch) {
  ShapeHandle user;
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(1), 1, &user));
  *batch = c->Dim(user, 0);
  return absl::OkStatus();
}

// Of the ops that score given items, the last input: output 0 has its shape.
absl::Status ScoreShape(InferenceContext* c) {
  ShapeHandle unused, items;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(c->num_inputs() - 1), 2, &items));
  DimensionHandle batch;
  TF_RETURN_IF_ERROR(BatchDim(c, &batch));
  TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(items, 0), &batch));
  c->set_output(0, c->Matrix(batch, c->Dim(items, 1)));
  return absl::OkStatus();
}

REGISTER_OP("Nann>BeamSearch")
    .Input("index: resource")
    .Input("user_state: user_types")
    .Input("level_topn: int32")
    .Input("exclude_ids: int64")
    .Input("filter: num_filters * string")
    .Output("ids: int64")
    .Output("scores: float")
    .Output("items_scored: int32")
    .Output("row_status: int32")
    .Output("applied_segment: int64")
    .Output("passing: int64")
    .Output("exact: bool")
    .Attr("user_types: list(type) >= 1")
    .Attr("num_filters: int >= 0 = 0")
    .Attr("scorer: func")
    .Attr("user_functions: list(func) = []")
    .Attr("scorer_program: string = ''")
    .Attr("native_scorer: string = ''")
    .Attr("precision: {'float32', 'bfloat16'} = 'float32'")
    .Attr("item_tables: list(string) >= 1")
    .Attr("rescore_tables: list(string) = []")
    .Attr("tile_rows: int >= 1 = 128")
    .Attr("max_work: int >= 1 = 4194304")
    .Attr("keep_valid_rows: bool = false")
    .Attr("expand: int >= 0 = 0")
    .Attr("score_all: bool = false")
    .Attr("proxy_features: string = ''")
    .Attr("proxy_samples: string = ''")
    .Attr("proxy_noise: float = 0.01")
    .Attr("proxy_survey: int >= 1 = 4")
    .Attr("proxy_slack: float = 1.0")
    .Attr("proxy_batch: int >= 1 = 48")
    .Attr("proxy_patience: int >= 1 = 2")
    .Attr("proxy_probes: bool = false")
    .Attr("proxy_only_filters: bool = false")
    .SetShapeFn([](InferenceContext* c) {
      int filters = 0;
      TF_RETURN_IF_ERROR(c->GetAttr("num_filters", &filters));
      const int inputs = c->num_inputs() - filters;
      ShapeHandle unused;
      for (int i = inputs; i < c->num_inputs(); ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(inputs - 2), 1, &unused));
      TF_RETURN_IF_ERROR(c->WithRankAtMost(c->input(inputs - 2), 2, &unused));
      ShapeHandle exclude;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(inputs - 1), 2, &exclude));
      DimensionHandle batch;
      TF_RETURN_IF_ERROR(BatchDim(c, &batch));
      TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(exclude, 0), &batch));
      const ShapeHandle top_k = c->Matrix(batch, c->UnknownDim());
      c->set_output(0, top_k);
      c->set_output(1, top_k);
      for (int i = 2; i < 7; ++i) c->set_output(i, c->Vector(batch));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Walks the index's graph from its entry points, guided by the scorer, and returns the best items found.

docs/design.md#the-search describes the walk. Ties go to the smaller item id, a NaN score drops the item, and
a row that found fewer than k items is padded with id -1 and score -infinity. The scorer runs on tiles of
`tile_rows` rows, so that an answer does not depend on load or threads; cancellation is looked at before every
tile. No thread is blocked.

index: resource[]. The handle of an initialized index.
user_state: <user_types>[batch, ...]. What the scorer knows of each user.
level_topn: int32[n] for all rows or int32[batch, n]: entry beam, one beam a hop from the top level down,
  final k; n = 2 + the hops of all levels, each value 1 to 65,536.
exclude_ids: int64[batch, ids]. Items that are not returned; ids that the index does not hold, such as -1, mean
  nothing.
filter: none, or one string[batch]: a filter over the attributes of the index for each row (docs/filters.md). Only
  items that pass it are returned. An empty one lets all items pass.
ids: int64[batch, k]. Best first; k is the largest of the rows'.
scores: float32[batch, k].
items_scored: int32[batch]. Items that the scorer was run on; one that two levels meet counts twice.
applied_segment: int64[batch]. The last segment of the state that was searched, in each row the same; 0: the base.
row_status: int32[batch]. 0, or with `keep_valid_rows` why a row is padding: 3 when its beams or its filter are
  not valid, 8 when it takes too much of `max_work`.
passing: int64[batch]. How many items the filter lets pass, excluded ones too; -1 where they were not counted.
exact: bool[batch]. Whether every item that passes and is not excluded was scored, so that there is no better one.
num_filters: 0 or 1.
scorer: a function without captures: (<user_types>[...] of one user, float32[tile_rows, width] an item table)
  -> float32[tile_rows].
user_functions: none, or one function without captures, run once a row of the batch: (<user_types>[...] of one
  user) -> the tensors that the scorer takes in their place.
scorer_program: empty, or a scorer program (docs/scorer-program.md) that computes what `scorer` does, after
  `user_functions` or in place of both; the native executor then runs it, and TensorFlow no function.
  InvalidArgument, when the op is made, for one that cannot be run.
native_scorer: not read; exports of nann 0.1.0 have it.
precision: of the native executor's matrix products; their sums are float32 always.
item_tables: the item tables whose rows the scorer takes, in this order.
rescore_tables: none, or tables as wide as `item_tables`: the native executor then scores the best k + k / 4 +
  16 results again in float32, over these tables, before the last top k. TensorFlow reads these alone.
tile_rows: rows a call of the scorer.
max_work: the cap on batch x sum of level_topn.
keep_valid_rows: answer a row of `level_topn` [batch, n] that is not valid with padding and a `row_status`, unless
  no row is valid. Rows of one batch may come from callers who do not know each other.
expand: 0 is the fixed walk, of `hops_per_level` hops. More is the adaptive walk: the widest beam of a level
  says how many of its best candidates are expanded, this many of them per hop, and the level ends when all of
  them were.
score_all: score every item in place of a walk; of `level_topn` only k counts, and `expand` does not.
proxy_features: not empty: the proxy walk, whose width is the widest beam of level 0. An item table, of a width
  that is a multiple of 16: column 0 is an item's mean standardized score, the others are its features. Where
  the anchors' scores are not finite, or all equal, the walk is that of `expand`.
proxy_samples: an int64 table, ascending, of group x N + position. Group 0 are the anchors, every other group is
  a cluster of items.
proxy_noise: variance of a standardized score that the features do not explain.
proxy_survey: width of the walk by guesses alone, as a multiple of the width.
proxy_slack: how many deviations the guess for a neighbour may lie below the k-th score.
proxy_batch: items that are scored at once.
proxy_patience: scoring by guesses alone ends where fewer than one of so many scores is a result.
proxy_probes: whether searches without a filter go on longer, and score items far from all that were scored, as
  those with a filter do. They find more where the features miss a part of a user's taste.
proxy_only_filters: whether the proxy walk is for searches with a filter, or with more than a few exclusions, alone.
)doc");

REGISTER_OP("Nann>ScoreItems")
    .Input("index: resource")
    .Input("user_state: user_types")
    .Input("positions: int32")
    .Output("scores: float")
    .Attr("user_types: list(type) >= 1")
    .Attr("scorer: func")
    .Attr("user_functions: list(func) = []")
    .Attr("scorer_program: string = ''")
    .Attr("native_scorer: string = ''")
    .Attr("precision: {'float32', 'bfloat16'} = 'float32'")
    .Attr("item_tables: list(string) >= 1")
    .Attr("tile_rows: int >= 1 = 128")
    .SetShapeFn(ScoreShape)
    .Doc(R"doc(
Scores given items for each user, in the same tiles as `Nann>BeamSearch`.

index: resource[]. The handle of an initialized index.
user_state: <user_types>[batch, ...]. What the scorer knows of each user.
positions: int32[batch, n]. Positions in the index; -1 means unknown.
scores: float32[batch, n]. -infinity where the position is -1.
scorer: as in `Nann>BeamSearch`.
user_functions: as in `Nann>BeamSearch`.
scorer_program: as in `Nann>BeamSearch`.
native_scorer: as in `Nann>BeamSearch`.
precision: as in `Nann>BeamSearch`.
item_tables: as in `Nann>BeamSearch`.
tile_rows: rows a call of the scorer.
)doc");

REGISTER_OP("Nann>ScoreIds")
    .Input("index: resource")
    .Input("user_state: user_types")
    .Input("item_ids: int64")
    .Output("scores: float")
    .Output("applied_segment: int64")
    .Attr("user_types: list(type) >= 1")
    .Attr("scorer: func")
    .Attr("user_functions: list(func) = []")
    .Attr("scorer_program: string = ''")
    .Attr("native_scorer: string = ''")
    .Attr("precision: {'float32', 'bfloat16'} = 'float32'")
    .Attr("item_tables: list(string) >= 1")
    .Attr("tile_rows: int >= 1 = 128")
    .SetShapeFn([](InferenceContext* c) {
      TF_RETURN_IF_ERROR(ScoreShape(c));
      c->set_output(1, c->Vector(c->Dim(c->output(0), 0)));
      return absl::OkStatus();
    })
    .Doc(R"doc(
`Nann>ScoreItems` by item ids: they are looked up and scored in one state of the index.

index: resource[]. The handle of an initialized index.
user_state: <user_types>[batch, ...]. What the scorer knows of each user.
item_ids: int64[batch, n].
scores: float32[batch, n]. -infinity where the index has no such item.
applied_segment: int64[batch]. As of `Nann>BeamSearch`.
scorer: as in `Nann>BeamSearch`.
user_functions: as in `Nann>BeamSearch`.
scorer_program: as in `Nann>BeamSearch`.
native_scorer: as in `Nann>BeamSearch`.
precision: as in `Nann>BeamSearch`.
item_tables: as in `Nann>BeamSearch`.
tile_rows: rows a call of the scorer.
)doc");

}  // namespace
}  // namespace nann
