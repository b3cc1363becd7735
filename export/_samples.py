"""Sample users, with whom an export is measured, verified and warmed up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.run import RetrievalModel

Arrays = dict[str, npt.NDArray[Any]]
# Share of missing events, so that the model's masks are tested too.
_MISSING = 0.2


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
    """Users with random events from the vocabularies, and their state as the model embeds them."""
    generator = np.random.default_rng(0)
    features: Arrays = {}
    rows: Arrays = {}
    missing: dict[int, npt.NDArray[np.bool_]] = {}
    for name, spec in model.user_features.items():
        shape = (users, *spec.shape.as_list())
        if name in vocabularies and len(vocabularies[name]):
            drawn = generator.integers(0, len(vocabularies[name]), shape)
            # An event is missing in all features of its length or in none.
            absent = missing.setdefault(drawn.size, generator.random(drawn.size) < _MISSING).reshape(shape)
            features[name] = np.where(absent, 0, vocabularies[name][drawn]).astype(spec.dtype.as_numpy_dtype)
            rows[name] = np.where(absent, 0, drawn + 1).astype(spec.dtype.as_numpy_dtype)
        else:
            features[name] = rows[name] = generator.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    if not features:
        shapes = {name: (spec.shape.as_list(), spec.dtype.name) for name, spec in model.user_state.items()}
        return random_sample(shapes, users=users)
    import tensorflow as tf

    state = model.embed_user({name: tf.constant(value) for name, value in rows.items()})
    return Sample(features, {name: np.asarray(state[name]) for name in model.user_state})


def random_sample(user_state: Mapping[str, tuple[list[int], str]], *, users: int = 2) -> Sample:
    """Users with a random state; `user_state` gives (shape, dtype) by name."""
    generator = np.random.default_rng(0)
    state: Arrays = {
        name: generator.normal(size=(users, *shape)).astype(dtype)
        for name, (shape, dtype) in user_state.items()
    }
    return Sample(None, state)
