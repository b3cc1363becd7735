"""The signatures of an exported model (docs/signatures.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._user_side import UserSide
from nann.export.scorer import Scorer
from nann.ops import DEFAULT_MAX_WORK, IndexResource, beam_search, ids_to_positions, lookup_rows, score_items
from nann.run import RetrievalModel

Tensors = dict[str, tf.Tensor]
_LEVEL_TOPN = "level_topn"
_EXCLUDE_IDS = "exclude_ids"
_ITEM_IDS = "item_ids"


def state_widths(model: RetrievalModel) -> dict[str, int]:
    """Number of values of each state tensor of one user; InvalidInputError when a size is not fixed."""
    widths = {}
    for name, spec in model.user_state.items():
        if spec.shape.num_elements() is None:
            raise InvalidInputError(
                f"user_state {name}: expected a fixed shape, found {spec.shape}. Give every size in its "
                f"TensorSpec."
            )
        widths[name] = math.prod(spec.shape.as_list())
    return widths


def check_names(model: RetrievalModel) -> None:
    """Raise InvalidInputError when a tensor of the model has the name of another input of its signature."""
    clashes = {_LEVEL_TOPN, _EXCLUDE_IDS} & {*model.user_state, *model.user_features}
    clashes |= {_ITEM_IDS} & set(model.user_state)
    if clashes:
        raise InvalidInputError(
            f"user_state, user_features: expected names other than {_LEVEL_TOPN}, {_EXCLUDE_IDS}, found "
            f"{sorted(clashes)}. Rename them in the model."
        )


class SignatureBuilder:
    """Traces the signatures' functions, which hold the index resource.

    Each state tensor of the model is an input [B, values of one user].
    """

    def __init__(
        self,
        model: RetrievalModel,
        scorer: Scorer,
        user_side: UserSide | None,
        index: IndexResource,
        vocabularies: Mapping[str, str],
        *,
        max_work: int = DEFAULT_MAX_WORK,
    ) -> None:
        self._index = index
        self._state = {name: (spec.shape.as_list(), spec.dtype) for name, spec in model.user_state.items()}
        self._widths = state_widths(model)
        self._features = {
            name: (spec.shape.as_list(), spec.dtype) for name, spec in model.user_features.items()
        }
        self._scorer = scorer
        self._user_side = user_side
        self._vocabularies = dict(vocabularies)
        self._max_work = max_work

    def signatures(self) -> dict[str, Any]:
        """The ConcreteFunction of each signature by name."""
        beams = tf.TensorSpec([None], tf.int32, _LEVEL_TOPN)
        beams_of_row = tf.TensorSpec([None, None], tf.int32, _LEVEL_TOPN)
        ids = [None, None]
        search = {_LEVEL_TOPN: beams_of_row, _EXCLUDE_IDS: tf.TensorSpec(ids, tf.int64, _EXCLUDE_IDS)}
        half, full = self._state_specs(tf.float16), self._state_specs(tf.float32)
        signatures = {
            "serving_default": _trace(self._serving_default, {**half, _LEVEL_TOPN: beams}),
            "retrieve": _trace(self._retrieve, {**full, **search}),
            "score": _trace(self._score, {**full, _ITEM_IDS: tf.TensorSpec(ids, tf.int64, _ITEM_IDS)}),
        }
        if self._user_side is not None:
            features = {name: tf.TensorSpec([None, *s], t, name) for name, (s, t) in self._features.items()}
            signatures["retrieve_by_ids"] = _trace(self._retrieve_by_ids, {**features, **search})
        return signatures

    def _serving_default(self, **inputs: tf.Tensor) -> Tensors:
        level_topn = tf.ensure_shape(inputs[_LEVEL_TOPN], [None])
        found = self._search(self._state_of(inputs), level_topn, None)
        return {"top_k": found["top_k"], "scores": found["scores"]}

    def _retrieve(self, **inputs: tf.Tensor) -> Tensors:
        return self._search(self._state_of(inputs), *_search_inputs(inputs))

    def _retrieve_by_ids(self, **inputs: tf.Tensor) -> Tensors:
        assert self._user_side is not None
        rows = []
        for name, (shape, _) in self._features.items():
            feature = tf.ensure_shape(inputs[name], [None, *shape])
            if name in self._vocabularies:
                dtype = feature.dtype
                feature = lookup_rows(self._index, tf.cast(feature, tf.int64), table=self._vocabularies[name])
                feature = tf.cast(feature, dtype)
            rows.append(feature)
        state = self._user_side.function(*rows, self._index.resource_handle)
        return self._search(list(tf.nest.flatten(state)), *_search_inputs(inputs))

    def _score(self, **inputs: tf.Tensor) -> Tensors:
        state = self._state_of(inputs)
        item_ids = tf.ensure_shape(inputs[_ITEM_IDS], [None, None])
        same_batch = tf.debugging.assert_equal(
            tf.shape(item_ids)[0],
            tf.shape(state[0])[0],
            message=f"{_ITEM_IDS}: expected a row for each row of {next(iter(self._state))}",
        )
        with tf.control_dependencies([same_batch]):
            positions = ids_to_positions(self._index, item_ids)
        scores = score_items(
            self._index,
            state,
            positions,
            **self._scorer.scoring_options(),
        )
        return {"scores": scores}

    def _search(
        self, state: list[tf.Tensor], level_topn: tf.Tensor, exclude_ids: tf.Tensor | None
    ) -> Tensors:
        found = beam_search(
            self._index,
            state,
            level_topn,
            exclude_ids,
            max_work=self._max_work,
            **self._scorer.search_options(),
        )
        return {"top_k": found.ids, "scores": found.scores, "items_scored": found.items_scored}

    def _state_specs(self, floating: tf.DType) -> dict[str, tf.TensorSpec]:
        """Inputs for the state: floating-point tensors as `floating`, others in their own type."""
        return {
            name: tf.TensorSpec([None, self._widths[name]], floating if dtype.is_floating else dtype, name)
            for name, (_, dtype) in self._state.items()
        }

    def _state_of(self, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """The state tensors [B, ...] from the flat inputs [B, values of one user]."""
        state = []
        for name, (shape, dtype) in self._state.items():
            flat = tf.ensure_shape(inputs[name], [None, self._widths[name]])
            state.append(tf.reshape(tf.cast(flat, dtype), [-1, *shape]))
        return state


def _search_inputs(inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    # A session does not check a request against the shapes of the signature.
    level_topn = tf.ensure_shape(inputs[_LEVEL_TOPN], [None, None])
    return level_topn, tf.ensure_shape(inputs[_EXCLUDE_IDS], [None, None])


def _trace(function: Any, specs: Mapping[str, tf.TensorSpec]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(**specs)
