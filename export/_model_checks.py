"""What a model must do before anything is written.

It has rows for all ids, states that depend on their own user, and scores that depend on their own item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._model_specs import length_of, open_features
from nann.export._samples import Arrays, Sample, embedded, vocabulary_ends
from nann.export._users import as_embedded
from nann.export.index.oracle import ScoreFn
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
# What TensorFlow says where a table has no such row.
_NO_SUCH_ROW = re.compile(r"is not in \[0|does not index into|out of bounds")
_OF_MADE_UP_USERS = (
    "Users are made up where none are given (RUN/requests.npz, --requests): they ask at the time 0 or 1."
)


def check_user_side(
    model: RetrievalModel, vocabularies: Mapping[str, npt.NDArray[np.int64]], sample: Sample
) -> None:
    """Raise InvalidInputError when `embed_user` is random, mixes users, or has no row for an id.

    The first and the last id of each vocabulary are tried.
    """
    if sample.features is None:
        return
    rows = as_embedded(model, vocabularies, sample.features)
    lengths = {name: sample.features[length_of(name)] for name in open_features(model)}
    for name, again in embedded(model, rows, lengths).items():
        _check_same("embed_user", sample.state[name], again)
    if not lengths:  # Users of an open length are embedded one at a time.
        for user in range(sample.users):
            one = slice(user, user + 1)
            _check_alone(model, {name: value[one] for name, value in rows.items()}, sample.part(one))
    without_ids = {
        name: np.zeros_like(value[:1]) if name in vocabularies else value[:1] for name, value in rows.items()
    }
    _check_rows(model, vocabularies, without_ids)


def _check_alone(model: RetrievalModel, rows: Arrays, among: Sample) -> None:
    """Compare the state of a user that is embedded alone with that `among` others."""
    for name, state in embedded(model, rows, {}).items():
        alone, beside = state.astype(np.float64).ravel(), among.state[name].astype(np.float64).ravel()
        largest = np.abs(beside[np.isfinite(beside)]).max(initial=0)
        differs = ~np.isclose(alone, beside, rtol=0, atol=_NARROW_TOLERANCE * largest, equal_nan=True)
        if not differs.any():
            continue
        place = int(differs.argmax())
        raise InvalidInputError(
            f"embed_user: expected a state that depends on the user alone, found one that mixes the users of "
            f"a request: in {name} {alone[place]:.6g} alone, {beside[place]:.6g} beside another user. Remove "
            f"what goes over all users: normalization, softmax or means over axis 0; or what takes one of "
            f"several equal numbers by their last bits (top_k, argmax)."
        )


def _check_rows(
    model: RetrievalModel, vocabularies: Mapping[str, npt.NDArray[np.int64]], features: Arrays
) -> None:
    """Try the first and the last row of each vocabulary; `features` are those of users without any id."""
    without_ids = _numbers_of(model, features)
    for name, row in vocabulary_ends(vocabularies):
        last = len(vocabularies[name])
        try:
            are_numbers = _numbers_of(model, {**features, name: np.full_like(features[name], row)})
        except InvalidInputError as error:
            cause = error.__cause__ or error
            if _NO_SUCH_ROW.search(str(cause)):
                found = f"none for row {row} ({said(cause)})"
                next_step = f"Make the table {last + 1} rows long."
            else:  # Such as an assertion of the model's author.
                found = f"for row {row} {said(cause)}"
                next_step = "Correct the model's code."
            raise InvalidInputError(
                f"embed_user: expected a vector for each row of vocabulary/{name}.npy, 0 (missing) to {last} "
                f"(the last id), found {found}. {next_step}"
            ) from error
        _check_numbers(are_numbers, without_ids, f"row {row} of vocabulary/{name}.npy")


def _check_numbers(found: Mapping[str, bool], without_ids: Mapping[str, bool], what: str) -> None:
    # A GPU's gather, and Keras', may answer a row that is not there with NaN in place of an error.
    for state, is_number in found.items():
        if not is_number and without_ids[state]:
            raise InvalidInputError(
                f"embed_user: expected numbers for {what}, found NaN in {state}. Correct the model."
            )


def _numbers_of(model: RetrievalModel, features: Arrays) -> dict[str, bool]:
    """Whether each tensor of the state of these users is free of NaN."""
    state = model.embed_user({name: tf.constant(value) for name, value in features.items()})
    return {
        name: not value.dtype.is_floating
        or not bool(tf.reduce_any(tf.math.is_nan(tf.cast(value, tf.float32))))
        for name, value in state.items()
    }


def check_scores(scorer: Scorer, sample: Sample, items: Items) -> None:
    """Raise InvalidInputError where scores are all NaN, or depend on the other items of the tile.

    scorer: as the model has it, before it is split.

    The same items are scored among others, in another order, and each alone in a tile full of copies.
    """
    random = np.random.default_rng(0)
    among = random.choice(items.num_items, scorer.tile_rows, replace=items.num_items < scorer.tile_rows)
    order = random.permutation(scorer.tile_rows)
    numbers = 0
    for user in range(sample.users):
        state = [tf.constant(value[user]) for value in sample.state.values()]

        def score(positions: npt.NDArray[Any], state: Any = state) -> npt.NDArray[np.float32]:
            tile = tf.constant(np.asarray(items.rows[positions], np.float32))
            try:
                return np.asarray(scorer.function(*state, tile)).reshape(-1)
            except tf.errors.OpError as error:
                raise InvalidInputError(
                    f"score: expected scores for sample users, found {said(error)}. Correct the model's "
                    f"code. {_OF_MADE_UP_USERS}"
                ) from error

        scores = _checked_scores(score, among, order, _NARROW_TOLERANCE if _is_narrow(scorer) else _TOLERANCE)
        numbers += np.isfinite(scores).sum()
    if not numbers:
        raise InvalidInputError(
            f"score: expected numbers, found NaN or infinity for all of {scorer.tile_rows} items and "
            f"{sample.users} sample users. Look for a logarithm, a square root or a division that has none, "
            f"and for NaN in the item state, if the model has one. {_OF_MADE_UP_USERS}"
        )


def _checked_scores(
    score: ScoreFn, among: npt.NDArray[Any], order: npt.NDArray[Any], tolerance: float
) -> npt.NDArray[np.float32]:
    """The scores of the items `among`, which must not depend on the place or the others in the tile."""
    expected = score(among)
    _check_same("score", expected, score(among))
    found = np.empty_like(expected)
    found[order] = score(among[order])
    for index in range(len(among)):
        _compare(expected[index], found[index], expected, tolerance)
    for index in order[:_ALONE]:
        found_alone = score(np.full_like(among, among[index]))
        _compare(expected[index], found_alone[0], expected, tolerance)
    return expected


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
            f"Remove what goes over all items: softmax, normalization, sorting, ranks or means over axis 0; "
            f"or what takes one of several equal numbers by their last bits (top_k, argmax)."
        )


def _is_narrow(scorer: Scorer) -> bool:
    graph = scorer.function.graph
    return any(tensor.dtype in _NARROW for node in graph.get_operations() for tensor in node.outputs)
