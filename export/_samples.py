"""Sample users, with whom an export is measured, verified and warmed up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidInputError
from nann.export._model_specs import length_of, open_features
from nann.run import RetrievalModel

Arrays = dict[str, npt.NDArray[Any]]
EmbedUser = Callable[[Mapping[str, Any]], Any]
_OPEN_LENGTH = 5  # values that are sent of a feature of any length
_WORDS = (b"", b"a", b"some words", b"7", "\u00fc".encode())
_OF_MADE_UP_USERS = (
    "Users are made up where none are given (RUN/requests.npz, --requests): their strings are any words."
)
_FEW_USERS = 16  # that take less time than a trace of the model
_MISSING = 0.2  # share of missing events, so that masks are tried too


@dataclass(frozen=True)
class Sample:
    """B users.

    features: inputs of `retrieve_by_ids`, [B, ...] each; None for a model without user features.
    state:    user state, [B, ...] each: `embed_user` of the features, or random numbers.
    """

    features: Arrays | None
    state: Arrays

    @property
    def users(self) -> int:
        """B."""
        return int(next(iter(self.state.values())).shape[0])

    def part(self, rows: slice | npt.NDArray[np.int64]) -> Sample:
        """Some of the users."""
        features = None if self.features is None else {n: v[rows] for n, v in self.features.items()}
        return Sample(features, {name: value[rows] for name, value in self.state.items()})

    def flat_state(self, floating: type = np.float32) -> Arrays:
        """State tensors as the signatures take them, [B, values of one user] each."""
        return {
            name: value.reshape(self.users, -1).astype(floating if value.dtype.kind == "f" else value.dtype)
            for name, value in self.state.items()
        }

    def rounded(self) -> Sample:
        """The sample with its state rounded to float16, as `serving_default` receives it."""
        return Sample(
            self.features,
            {
                n: v.astype(np.float16).astype(v.dtype) if v.dtype.kind == "f" else v
                for n, v in self.state.items()
            },
        )


def sample_from_model(
    model: RetrievalModel, vocabularies: Mapping[str, npt.NDArray[np.int64]], *, users: int = 2
) -> Sample:
    """Random features, events out of the vocabularies, embedded by the model."""
    if not model.user_features:
        shapes = {name: (spec.shape.as_list(), spec.dtype.name) for name, spec in model.user_state.items()}
        return random_sample(shapes, users=users)
    try:
        return _embedded_sample(model, vocabularies, users, least=0)
    except InvalidInputError as error:
        # Of a length of 0 there may be no last event.
        with contextlib.suppress(InvalidInputError):
            return _embedded_sample(model, vocabularies, users, least=1)
        raise InvalidInputError(f"{error} {_OF_MADE_UP_USERS}") from error.__cause__


def _embedded_sample(
    model: RetrievalModel, vocabularies: Mapping[str, npt.NDArray[np.int64]], users: int, *, least: int
) -> Sample:
    """least: the smallest integer of features without a vocabulary."""
    generator = np.random.default_rng(0)
    features: Arrays = {}
    rows: Arrays = {}
    missing: dict[int, npt.NDArray[np.bool_]] = {}
    for name, spec in model.user_features.items():
        shape = (users, *(_OPEN_LENGTH if size is None else size for size in spec.shape.as_list()))
        dtype = spec.dtype.as_numpy_dtype
        if name in vocabularies:
            drawn = generator.integers(0, len(vocabularies[name]), shape)
            # An event is missing in all features or in none.
            absent = missing.setdefault(len(drawn.flat), generator.random(drawn.size) < _MISSING).reshape(
                shape
            )
            features[name] = np.where(absent, 0, vocabularies[name][drawn]).astype(dtype)
            rows[name] = np.where(absent, 0, drawn + 1).astype(dtype)
        else:
            features[name] = rows[name] = _plain_values(generator, spec.dtype, shape, least)
    # One user has all of the values that are sent, the next has fewer.
    lengths = {name: _OPEN_LENGTH - np.arange(users, dtype=np.int32) % 3 for name in open_features(model)}
    features.update({length_of(name): length for name, length in lengths.items()})
    return Sample(features, embedded(model, rows, lengths))


def without_some(features: Arrays, vocabularies: Mapping[str, npt.NDArray[np.int64]]) -> Arrays:
    """The features of users [B, ...], of whom every second lacks some events."""
    generator = np.random.default_rng(0)
    absent: dict[int, npt.NDArray[np.bool_]] = {}
    found = dict(features)
    for name in sorted(set(features) & set(vocabularies)):
        value = features[name]
        drawn = absent.setdefault(value[0].size, generator.random(value[0].size) < _MISSING)
        found[name] = value.copy()
        found[name][1::2] = np.where(drawn.reshape(value.shape[1:]), 0, value[1::2])
    return found


def vocabulary_ends(vocabularies: Mapping[str, npt.NDArray[np.int64]]) -> list[tuple[str, int]]:
    """Feature and row of the first and the last id of each vocabulary, where a table that is short breaks.

    Row 0 is a missing id: the id of a row is `ids[row - 1]`.
    """
    return [(name, row) for name, ids in vocabularies.items() for row in (1, len(ids))]


def _plain_values(
    generator: np.random.Generator, dtype: Any, shape: tuple[int, ...], least: int
) -> npt.NDArray[Any]:
    """Values of a feature without a vocabulary, such as every model takes.

    0 and 1 are integers that every table has a row for. Prices, durations and counts are not negative, and
    models take logarithms and roots of them.
    """
    if dtype.name == "string":
        return generator.choice(np.array(_WORDS, object), shape)
    if dtype.is_integer or dtype.is_bool:
        return generator.integers(0 if dtype.is_bool else least, 2, shape).astype(dtype.as_numpy_dtype)
    return np.abs(generator.normal(size=shape)).astype(dtype.as_numpy_dtype)


def embedded(model: RetrievalModel, rows: Arrays, lengths: Arrays) -> Arrays:
    """The state of users, whose ids are `rows` of the vocabularies already.

    Users of an open length are embedded one at a time, trimmed to their `lengths`.
    """
    import tensorflow as tf

    def embed(embed_user: EmbedUser, users: Arrays) -> Arrays:
        state = embed_user({name: tf.constant(value) for name, value in users.items()})
        return {name: tf.cast(state[name], spec.dtype).numpy() for name, spec in model.user_state.items()}

    if not lengths:
        return embed(model.embed_user, rows)

    def of_user(user: int) -> Arrays:
        one = {name: value[user : user + 1] for name, value in rows.items()}
        return {**one, **{name: one[name][:, : length[user]] for name, length in lengths.items()}}

    users = [of_user(user) for user in range(len(next(iter(lengths.values()))))]
    embed_user = _traced(model) if len(users) > _FEW_USERS else model.embed_user
    each = [embed(embed_user, user) for user in users]
    return {name: np.concatenate([state[name] for state in each]) for name in model.user_state}


def _traced(model: RetrievalModel) -> EmbedUser:
    """`embed_user` of one user as a graph, which runs 20 times as fast as Keras' operations one by one.

    What the graph does not take, the model itself is asked: it says what is wrong, or answers.
    """
    import tensorflow as tf

    names = list(model.user_features)
    specs = [tf.TensorSpec([1, *spec.shape.as_list()], spec.dtype) for spec in model.user_features.values()]

    def graph(*tensors: tf.Tensor) -> Any:
        return model.embed_user(dict(zip(names, tensors, strict=True)))

    try:
        traced = tf.function(graph, input_signature=specs, autograph=False).get_concrete_function()
    except InvalidInputError:
        return model.embed_user

    def embed_user(features: Mapping[str, Any]) -> Any:
        try:
            return traced(*(features[name] for name in names))
        except tf.errors.OpError:
            return model.embed_user(features)

    return embed_user


def empty_sample(model: RetrievalModel, *, users: int) -> Sample:
    """Users whose state is zeros, without features."""
    state: Arrays = {
        name: np.zeros((users, *spec.shape.as_list()), spec.dtype.as_numpy_dtype)
        for name, spec in model.user_state.items()
    }
    return Sample(None, state)


def random_sample(user_state: Mapping[str, tuple[list[int], str]], *, users: int = 2) -> Sample:
    """Users with a random state; `user_state` gives (shape, dtype) by name."""
    generator = np.random.default_rng(0)
    state: Arrays = {
        name: generator.normal(size=(users, *shape)).astype(dtype)
        for name, (shape, dtype) in user_state.items()
    }
    return Sample(None, state)
