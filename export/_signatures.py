"""The signatures of an exported model (docs/signatures.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._encoder import ByIds
from nann.export._model_specs import (
    EXCLUDE_IDS,
    FILTER,
    ITEM_IDS,
    LEVEL_TOPN,
    length_of,
    open_features,
    plain_names,
)
from nann.export.scorer import Scorer
from nann.ops import (
    DEFAULT_MAX_WORK,
    BeamSearchResult,
    IndexResource,
    beam_search,
    ids_to_positions,
    lookup_rows,
    score_ids,
    score_items,
)
from nann.run import RetrievalModel

Tensors = dict[str, tf.Tensor]
APPLIED_SEGMENT = "applied_segment"
_RESERVED = (LEVEL_TOPN, EXCLUDE_IDS, ITEM_IDS, FILTER)


def input_names(model: RetrievalModel) -> dict[str, str]:
    """Every input that follows the model -> what the signatures are traced with, see `plain_names`."""
    lengths = [length_of(name) for name in open_features(model)]
    return plain_names(dict.fromkeys([*_RESERVED, *model.user_state, *model.user_features, *lengths]))


class SignatureBuilder:
    """Traces the signatures' functions, which hold the index resource.

    Each state tensor of the model is an input [B, values of one user]. With `is_live` answers say which
    segment they are of (docs/live.md). `equal_lengths` are pairs of open features with equally
    many values.
    """

    def __init__(
        self,
        model: RetrievalModel,
        scorer: Scorer,
        by_ids: ByIds,
        index: IndexResource,
        vocabularies: Mapping[str, str],
        *,
        max_work: int = DEFAULT_MAX_WORK,
        is_live: bool = False,
        with_filters: bool = False,
        equal_lengths: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._index = index
        self._state = {name: (spec.shape.as_list(), spec.dtype) for name, spec in model.user_state.items()}
        self._widths = {name: math.prod(shape) for name, (shape, _) in self._state.items()}
        self._features = {
            name: (spec.shape.as_list(), spec.dtype) for name, spec in model.user_features.items()
        }
        self._open = open_features(model)
        self._equal_lengths = equal_lengths
        self._plain = input_names(model)
        self._scorer = scorer
        self._by_ids = by_ids
        self._vocabularies = dict(vocabularies)
        self._max_work = max_work
        self._is_live = is_live
        self._with_filters = with_filters
        if with_filters and FILTER in {*model.user_state, *model.user_features}:
            raise InvalidInputError(
                f"user_state, user_features: expected names other than {FILTER} where items have attributes, "
                f"found it. Rename it in the model, or export without RUN/attributes.parquet."
            )

    def signatures(self) -> dict[str, Any]:
        """Name of each signature -> ConcreteFunction."""
        beams = tf.TensorSpec([None], tf.int32, LEVEL_TOPN)
        beams_of_row = tf.TensorSpec([None, None], tf.int32, LEVEL_TOPN)
        ids = [None, None]
        search = {LEVEL_TOPN: beams_of_row, EXCLUDE_IDS: tf.TensorSpec(ids, tf.int64, EXCLUDE_IDS)}
        half, full = self._state_specs(tf.float16), self._state_specs(tf.float32)
        signatures = {
            "serving_default": self._trace(self._serving_default, {**half, LEVEL_TOPN: beams}),
            "retrieve": self._trace(self._retrieve, {**full, **search}),
            "score": self._trace(self._score, {**full, ITEM_IDS: tf.TensorSpec(ids, tf.int64, ITEM_IDS)}),
        }
        if self._by_ids.user_side is not None:
            features = {name: tf.TensorSpec([None, *s], t, name) for name, (s, t) in self._features.items()}
            lengths = map(length_of, self._open)
            features.update({name: tf.TensorSpec([None], tf.int32, name) for name in lengths})
            signatures["retrieve_by_ids"] = self._trace(self._retrieve_by_ids, {**features, **search})
        if self._with_filters:
            where = {**search, FILTER: tf.TensorSpec([None], tf.string, FILTER)}
            signatures["retrieve_where"] = self._trace(self._retrieve, {**full, **where})
            if self._by_ids.user_side is not None:
                by_ids = self._trace(self._retrieve_by_ids, {**features, **where})
                signatures["retrieve_by_ids_where"] = by_ids
        return signatures

    def _serving_default(self, inputs: Tensors) -> Tensors:
        level_topn = tf.ensure_shape(inputs[LEVEL_TOPN], [None])
        found = self._search(self._state_of(inputs), level_topn)
        return {"top_k": found.ids, "scores": found.scores}

    def _retrieve(self, inputs: Tensors) -> Tensors:
        return self._search_rows(self._state_of(inputs), inputs, *_search_inputs(inputs))

    def _retrieve_by_ids(self, inputs: Tensors) -> Tensors:
        shapes = {name: shape for name, (shape, _) in self._features.items()}
        features = _same_rows(
            {name: tf.ensure_shape(inputs[name], [None, *shape]) for name, shape in shapes.items()}
        )
        rows = [self._rows(name, values) for name, values in zip(shapes, features, strict=True)]
        level_topn, exclude_ids = _search_inputs(inputs)
        if not self._open:
            user = self._embed(*rows)
            return self._search_rows(user, inputs, level_topn, exclude_ids, scorer=self._by_ids.scorer)
        lengths, are_valid = _checked_lengths(self._open, self._equal_lengths, inputs)
        # The search refuses a row with beams of 0. `Select`, unlike `tf.where`, broadcasts no rows.
        beams = tf.raw_ops.Select(condition=are_valid, x=level_topn, y=tf.zeros_like(level_topn))
        return self._search_rows(self._embed_each(rows, lengths), inputs, beams, exclude_ids)

    def _rows(self, name: str, feature: tf.Tensor) -> tf.Tensor:
        """A feature as the model takes it: ids as rows of their vocabulary where there is one."""
        if name not in self._vocabularies:
            return feature
        rows = lookup_rows(self._index, tf.cast(feature, tf.int64), table=self._vocabularies[name])
        return tf.cast(rows, feature.dtype)

    def _embed(self, *features: tf.Tensor) -> list[tf.Tensor]:
        user_side = self._by_ids.user_side
        assert user_side is not None
        return list(tf.nest.flatten(user_side.function(*features, self._index.resource_handle)))

    def _embed_each(self, rows: list[tf.Tensor], lengths: Tensors) -> list[tf.Tensor]:
        """One user at a time, trimmed to their own length, so that no padding reaches the model."""

        def embed_one(user: tuple[list[tf.Tensor], Tensors]) -> list[tf.Tensor]:
            values, length = user
            trimmed = [
                _first(value, length[name]) if name in length else value
                for name, value in zip(self._features, values, strict=True)
            ]
            return [state[0] for state in self._embed(*(each[tf.newaxis] for each in trimmed))]

        specs = [tf.TensorSpec(shape, dtype) for shape, dtype in self._state.values()]
        return list(tf.map_fn(embed_one, (rows, lengths), fn_output_signature=specs))

    def _score(self, inputs: Tensors) -> Tensors:
        item_ids = tf.ensure_shape(inputs[ITEM_IDS], [None, None])
        *flat, item_ids = _same_rows({**self._flat_state(inputs), ITEM_IDS: item_ids})
        state = self._shaped(flat)
        options = self._scorer.scoring_options()
        if self._is_live:
            # One op, because positions of one state of the index need not be those of the next.
            scores, applied_segment = score_ids(self._index, state, item_ids, **options)
            return {"scores": scores, APPLIED_SEGMENT: applied_segment}
        positions = ids_to_positions(self._index, item_ids)
        return {"scores": score_items(self._index, state, positions, **options)}

    def _trace(self, function: Callable[[Tensors], Tensors], specs: Mapping[str, tf.TensorSpec]) -> Any:
        def traced(**inputs: tf.Tensor) -> Tensors:
            return function({name: inputs[self._plain[name]] for name in specs})

        traced.__name__ = function.__name__
        plain = {
            self._plain[name]: tf.TensorSpec(spec.shape, spec.dtype, self._plain[name])
            for name, spec in specs.items()
        }
        return tf.function(traced, autograph=False).get_concrete_function(**plain)

    def _search_rows(
        self,
        state: list[tf.Tensor],
        inputs: Tensors,
        level_topn: tf.Tensor,
        exclude_ids: tf.Tensor,
        *,
        scorer: Scorer | None = None,
    ) -> Tensors:
        """Search for rows that may come from several callers, of which each learns what became of its own.

        With a filter in `inputs` they learn how many items pass it, too.
        """
        filters = tf.ensure_shape(inputs[FILTER], [None]) if FILTER in inputs else None
        found = self._search(state, level_topn, exclude_ids, filters, scorer=scorer, keep_valid_rows=True)
        outputs = {
            "top_k": found.ids,
            "scores": found.scores,
            "items_scored": found.items_scored,
            "row_status": found.row_status,
        }
        if self._is_live:
            outputs[APPLIED_SEGMENT] = found.applied_segment
        return outputs if filters is None else {**outputs, "passing": found.passing, "exact": found.exact}

    def _search(
        self,
        state: list[tf.Tensor],
        level_topn: tf.Tensor,
        exclude_ids: tf.Tensor | None = None,
        filters: tf.Tensor | None = None,
        *,
        scorer: Scorer | None = None,
        keep_valid_rows: bool = False,
    ) -> BeamSearchResult:
        return beam_search(
            self._index,
            state,
            level_topn,
            exclude_ids,
            filters,
            max_work=self._max_work,
            keep_valid_rows=keep_valid_rows,
            **(scorer or self._scorer).search_options(),
        )

    def _state_specs(self, floating: tf.DType) -> dict[str, tf.TensorSpec]:
        """Inputs for the state: floating-point tensors as `floating`, others in their own type."""
        return {
            name: tf.TensorSpec([None, self._widths[name]], floating if dtype.is_floating else dtype, name)
            for name, (_, dtype) in self._state.items()
        }

    def _state_of(self, inputs: Tensors) -> list[tf.Tensor]:
        """The state tensors [B, ...] from the flat inputs."""
        return self._shaped(_same_rows(self._flat_state(inputs)))

    def _flat_state(self, inputs: Tensors) -> Tensors:
        """The inputs for the state, [B, values of one user] each."""
        return {name: tf.ensure_shape(inputs[name], [None, width]) for name, width in self._widths.items()}

    def _shaped(self, flat: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [
            tf.reshape(tf.cast(values, dtype), [-1, *shape])
            for values, (shape, dtype) in zip(flat, self._state.values(), strict=True)
        ]


def _same_rows(inputs: Tensors) -> list[tf.Tensor]:
    """Return the inputs. A request is refused unless all have as many rows.

    The model would spread a single row over all users, or ignore users that another input lacks.
    """
    if len(inputs) < 2:
        return list(inputs.values())
    counts = tf.stack([tf.shape(values)[0] for values in inputs.values()])
    are_same = tf.debugging.Assert(
        tf.reduce_all(counts == counts[0]),
        [f"{', '.join(inputs)}: expected as many rows in each, found", counts],
        summarize=len(inputs),
    )
    with tf.control_dependencies([are_same]):
        return [tf.identity(values) for values in inputs.values()]


def _search_inputs(inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    # A session does not hold a request to its signature's shapes.
    level_topn = tf.ensure_shape(inputs[LEVEL_TOPN], [None, None])
    return level_topn, tf.ensure_shape(inputs[EXCLUDE_IDS], [None, None])


def _checked_lengths(
    features: Sequence[str], equal: Sequence[tuple[str, str]], inputs: Tensors
) -> tuple[Tensors, tf.Tensor]:
    """The lengths of each feature, int32 [B], and which rows have valid ones, bool [B].

    Rows without valid lengths, 0 to the width of each feature, count as rows without values, and so do those
    that have not as many values of both features of a pair in `equal`. A request without a valid row is
    refused.
    """
    checked = {feature: _checked_length(feature, inputs) for feature in features}
    lengths = {feature: length for feature, (length, _) in checked.items()}
    are_valid = [is_valid for _, is_valid in checked.values()]
    are_valid += [_are_equal(first, other, lengths) for first, other in equal]
    is_valid = tf.reduce_all(tf.stack(are_valid), axis=0)
    return {name: tf.where(is_valid, length, 0) for name, length in lengths.items()}, is_valid


def _are_equal(first: str, other: str, lengths: Tensors) -> tf.Tensor:
    """Which rows have as many values of two features; one missing value stands for none."""
    x, y = (tf.maximum(lengths[name], 1) for name in (first, other))
    names = f"{length_of(first)}, {length_of(other)}"
    what = f"{names}: expected as many values of {first} as of {other}, found"
    return _with_any(tf.equal(x, y), [what, lengths[first], "and", lengths[other]])


def _with_any(are_valid: tf.Tensor, message: Sequence[Any]) -> tf.Tensor:
    """Return which rows are valid, bool [B]. A request that has rows, and no valid one, is refused."""
    any_valid = tf.debugging.Assert((tf.size(are_valid) == 0) | tf.reduce_any(are_valid), message)
    with tf.control_dependencies([any_valid]):
        return tf.identity(are_valid)


def _checked_length(feature: str, inputs: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
    name = length_of(feature)
    length = tf.ensure_shape(inputs[name], [None])
    users, width = tf.shape(inputs[feature])[0], tf.shape(inputs[feature])[1]
    same_batch = tf.debugging.Assert(
        tf.shape(length)[0] == users, [f"{name}: expected a value for each row of {feature}, found", length]
    )
    with tf.control_dependencies([same_batch]):
        is_valid = _with_any(
            (length >= 0) & (length <= width),
            [f"{name}: expected 0 to the width of {feature},", width, "found", length],
        )
    return tf.where(is_valid, length, 0), is_valid


def _first(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The first `length` of values [T, ...]; one missing value (0 or "") where there is none."""
    missing = tf.zeros([tf.maximum(1 - length, 0), *values.shape[1:]], values.dtype)
    return tf.concat([values[:length], missing], axis=0)
