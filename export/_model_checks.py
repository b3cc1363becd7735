"""What a model must be before anything is written: its descriptions, its rows, its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._samples import Sample
from nann.export.items import Items
from nann.export.scorer import Scorer
from nann.run import RetrievalModel
from nann.run.guard import said

# By how much the last bits may move a score when its item lies elsewhere in a tile, relative to the largest.
_TOLERANCE = 1e-4
# The same where a part of the scorer computes in float16 or bfloat16.
_NARROW_TOLERANCE = 0.05
_NARROW = (tf.float16, tf.bfloat16)
# Items that are scored in a tile of their own.
_ALONE = 4


def check_specs(model: RetrievalModel) -> None:
    """Raise InvalidInputError when the model's descriptions of its inputs are none that can be served."""
    for member in ("user_features", "user_state"):
        specs = getattr(model, member)
        if not isinstance(specs, Mapping):
            raise InvalidInputError(
                f"{member}: expected a dict of names and tf.TensorSpec, found {type(specs).__name__}. "
                f"Give each tensor its name."
            )
        for name, spec in specs.items():
            _check_spec(f"{member} {name}", spec)
    if not model.user_state:
        raise InvalidInputError(
            "user_state: expected at least one tensor, found none. Name what the scorer reads of the user."
        )
    for name, spec in model.user_state.items():
        if spec.dtype in (tf.string, tf.resource, tf.variant) or spec.dtype.is_complex:
            raise InvalidInputError(
                f"user_state {name}: expected numbers, found {spec.dtype.name}. Turn it into numbers in "
                f"embed_user."
            )
        if spec.shape.num_elements() is None:
            raise InvalidInputError(
                f"user_state {name}: expected a fixed shape of one user, without a batch dimension, found "
                f"{spec.shape}. Name its sizes."
            )
    width = model.embedding_dim
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
        raise InvalidInputError(
            f"embedding_dim: expected an int of at least 1, the width of an item embedding, found {width!r}. "
            f"Correct the model."
        )


def _check_spec(what: str, spec: Any) -> None:
    if not isinstance(spec, tf.TensorSpec):
        kind = {tf.RaggedTensorSpec: "ragged", tf.SparseTensorSpec: "sparse"}.get(type(spec))
        found = type(spec).__name__ if kind is None else f"{type(spec).__name__}, which is {kind}"
        raise InvalidInputError(
            f"{what}: expected a tf.TensorSpec of one user, found {found}. Declare a dense tensor: callers "
            f"send padded rows."
        )
    if spec.shape.rank is None:
        raise InvalidInputError(
            f"{what}: expected a shape of known rank, found {spec.shape}. Name its sizes."
        )


def check_user_side(
    model: RetrievalModel,
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    sample_users: Callable[[int], Sample],
) -> None:
    """Raise InvalidInputError when `embed_user` is random, or has no row for an id of a vocabulary.

    The first and the last id of each vocabulary are tried. sample_users: draws the same users each time.
    """
    sample = sample_users(1)
    if sample.features is None:
        return
    again = sample_users(1)
    for name, value in sample.state.items():
        _check_same("embed_user", value, again.state[name])
    # Values of a feature with a vocabulary are ids; rows are what `embed_user` gets.
    features = {
        name: np.zeros_like(value) if name in vocabularies else value
        for name, value in sample.features.items()
    }
    for name, ids in vocabularies.items():
        for row in (1, len(ids)):
            rows = {each: tf.constant(value) for each, value in features.items()}
            rows[name] = tf.constant(np.full_like(features[name], row))
            try:
                state = model.embed_user(rows)
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"embed_user: expected a vector for each row of vocabulary/{name}.npy, 0 (missing) to "
                    f"{len(ids)} (the last id), found none for row {row} ({said(error.__cause__ or error)}). "
                    f"Make the table {len(ids) + 1} rows long."
                ) from error
            _check_finite(name, row, state)


def _check_finite(feature: str, row: int, state: Mapping[str, Any]) -> None:
    # A GPU's gather, and Keras', may answer a row that is not there with NaN in place of an error.
    for name, value in state.items():
        if value.dtype.is_floating and bool(tf.reduce_any(tf.math.is_nan(tf.cast(value, tf.float32)))):
            raise InvalidInputError(
                f"embed_user: expected numbers for row {row} of vocabulary/{feature}.npy, found NaN in "
                f"{name}. Correct the model."
            )


def check_scores(scorer: Scorer, sample: Sample, items: Items, tables: Mapping[str, Any]) -> None:
    """Raise InvalidInputError where scores are all NaN, or depend on the other items of the tile.

    scorer: as the model has it. tables: its item tables by name.

    The same items are scored among others, in another order, and each alone in a tile full of copies.
    """
    random = np.random.default_rng(0)
    among = random.choice(items.num_items, scorer.tile_rows, replace=items.num_items < scorer.tile_rows)
    order = random.permutation(scorer.tile_rows)
    alone = order[:_ALONE]
    tolerance = _NARROW_TOLERANCE if _is_narrow(scorer) else _TOLERANCE
    numbers = 0
    for user in range(sample.users):
        state = [tf.constant(value[user]) for value in sample.state.values()]

        def score(positions: npt.NDArray[Any], state: Any = state) -> npt.NDArray[np.float32]:
            tiles = [tf.constant(np.asarray(tables[name][positions])) for name in scorer.item_tables]
            tiles = [tf.cast(tile, tf.float32) if tile.dtype == tf.float16 else tile for tile in tiles]
            return np.asarray(scorer.function(*state, *tiles)).reshape(-1)

        expected = score(among)
        _check_same("score", expected, score(among))
        numbers += np.isfinite(expected).sum()
        found = np.empty_like(expected)
        found[order] = score(among[order])
        for index in range(scorer.tile_rows):
            _compare(expected[index], found[index], expected, tolerance)
        for index in alone:
            found_alone = score(np.full(scorer.tile_rows, among[index]))
            _compare(expected[index], found_alone[0], expected, tolerance)
    if not numbers:
        raise InvalidInputError(
            f"score: expected numbers, found NaN or infinity for all of {scorer.tile_rows} items and "
            f"{sample.users} sample users. Look for a logarithm, a square root or a division that has none."
        )


def _check_same(function: str, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> None:
    largest = np.abs(first[np.isfinite(first)]).max(initial=0)
    if not np.allclose(first, second, rtol=0, atol=_TOLERANCE * largest, equal_nan=True):
        raise InvalidInputError(
            f"{function}: expected the same result for the same inputs, found another one: it draws random "
            f"numbers, as dropout or noise in training mode does. Call the layers with training=False."
        )


def _compare(expected: Any, found: Any, scores: npt.NDArray[np.float32], tolerance: float) -> None:
    if expected == found or (np.isnan(expected) and np.isnan(found)):
        return
    largest = np.abs(scores[np.isfinite(scores)]).max(initial=0.0)
    if not abs(float(expected) - float(found)) <= tolerance * largest:
        raise InvalidInputError(
            f"score: expected a score that depends on the user and on its own item, found one that mixes the "
            f"items of a tile: {float(expected):.6g} among some items, {float(found):.6g} among others. "
            f"Remove what goes over all items: softmax, normalization, sorting, ranks or means over axis 0."
        )


def _is_narrow(scorer: Scorer) -> bool:
    graph = scorer.function.graph
    return any(tensor.dtype in _NARROW for node in graph.get_operations() for tensor in node.outputs)
