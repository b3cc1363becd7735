"""Features of open length that belong together, as clicks and their weights do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, product

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._model_specs import open_features
from nann.export._samples import Arrays
from nann.run import RetrievalModel

# Values of a feature: of 1 there is a sum with any number of others.
_SOME, _FEWER = 3, 2
# Of more features there are too many ways to have some or fewer values.
_MOST = 6


def equal_lengths(model: RetrievalModel, known_values: Callable[[], Arrays]) -> list[tuple[str, str]]:
    """Pairs of open features that the model takes in equal numbers only.

    known_values: returns the features of a user whom the model takes: what is not of open length is as this
                  user has it. Called only for models with such features, for a user is embedded for it.
    """
    names = open_features(model)
    if not 2 <= len(names) <= _MOST:
        return []
    known = known_values()
    if not _is_taken(model, known, dict.fromkeys(names, _SOME)):
        return []
    every = (
        dict(zip(names, numbers, strict=True)) for numbers in product((_SOME, _FEWER), repeat=len(names))
    )
    # Equal numbers of all features tell no two apart.
    tried = (lengths for lengths in every if len(set(lengths.values())) > 1)
    taken = [lengths for lengths in tried if _is_taken(model, known, lengths)]
    return [
        (first, other)
        for first, other in combinations(names, 2)
        if all(lengths[first] == lengths[other] for lengths in taken)
    ]


def _is_taken(model: RetrievalModel, known: Arrays, lengths: Mapping[str, int]) -> bool:
    """Whether a user with as many values of the open features can be embedded."""
    try:
        model.embed_user(
            {
                name: _ones(spec, lengths[name]) if name in lengths else tf.constant(known[name])
                for name, spec in model.user_features.items()
            }
        )
    except (InvalidInputError, ValueError, tf.errors.OpError):
        return False
    return True


def _ones(spec: tf.TensorSpec, length: int) -> tf.Tensor:
    shape = [1, *(length if size is None else size for size in spec.shape.as_list())]
    if spec.dtype == tf.string:
        return tf.fill(shape, "")
    return tf.constant(np.ones(shape, spec.dtype.as_numpy_dtype))
