"""Scorers of a file that does not belong to this zoo, as members of it: `PATH/scorers.py:DIN`.

The file's classes have the model protocol, `save`, an Embedding `items`, and the networks `user_net` and
`pair_net`. They are exported as they are; only their weights and the corpus are this zoo's.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.base import N, Ranker, randomize


def is_handed(name: str) -> bool:
    """Whether a name is `PATH.py:Class`."""
    return ".py:" in name


def class_of(name: str) -> type[Any]:
    """The class that `PATH.py:Class` names, with what the zoo asks of a member besides the protocol."""
    path, _, class_name = name.rpartition(":")
    module_name = f"handed_{Path(path).stem}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module_name])
    handed = getattr(sys.modules[module_name], class_name)
    return type(class_name, (_Guest, handed), {"__doc__": handed.__doc__})


class _Guest:
    """Random weights, and what a data set would bring."""

    user_features: dict[str, tf.TensorSpec]
    items: Any
    user_net: Any
    pair_net: Any
    embed_user: Any
    item_state: dict[str, tf.TensorSpec] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        randomize([self.user_net, self.pair_net], seed=0)
        ids = [name for name, spec in self.user_features.items() if spec.dtype.is_integer]
        self.vocabularies = {name: N if name == "item_ids" else self._rows(name) for name in ids}

    draw = Ranker.draw
    item_features = Ranker.item_features
    rows = Ranker.rows

    def _rows(self, feature: str) -> int:
        """How many ids the vocabulary of a scalar has: as many as the model has rows for."""
        nothing = {name: tf.zeros([1, *spec.shape], spec.dtype) for name, spec in self.user_features.items()}
        for row in itertools.count(1):
            try:
                self.embed_user({**nothing, feature: tf.constant([row], self.user_features[feature].dtype)})
            except tf.errors.InvalidArgumentError:
                return row - 1
        raise AssertionError
