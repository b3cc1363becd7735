"""A trained model as it is served: columns of strings arrive as strings, which training saw as rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.files import load_array
from nann.run import VOCABULARY, features_of, item_features_of

_NEXT_STEP = "Train again into another folder."


class ServedModel:
    """A `RetrievalModel` whose features of strings are looked up before the trained model gets them as rows.

    trained:      the model; everything else of it is passed through.
    vocabularies: of each feature of strings, str [V]: row r > 0 stands for element r - 1. Any other string
                  is row 0, "missing".
    """

    def __init__(self, trained: Any, vocabularies: Mapping[str, npt.NDArray[np.str_]]) -> None:
        self.wrapped_model = trained
        self.user_features = _with_strings(trained.user_features, vocabularies)
        self.item_features = _with_strings(item_features_of(trained), vocabularies)
        self._tables = {name: _table(words) for name, words in vocabularies.items()}

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Any:
        """Strings in place of rows, otherwise as the model's."""
        return self.wrapped_model.embed_user(self._rows(features))

    def embed_item(self, features: Mapping[str, tf.Tensor]) -> Any:
        """Strings in place of rows, otherwise as the model's."""
        return self.wrapped_model.embed_item(self._rows(features))

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped_model":  # while this object is being made or copied
            raise AttributeError(name)
        return getattr(self.wrapped_model, name)

    def _rows(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            name: self._tables[name].lookup(values)
            if values.dtype == tf.string and name in self._tables
            else values
            for name, values in features.items()
        }


def served(trained: Any, run_dir: Path) -> Any:
    """`trained`, or a `ServedModel` of it where the run has vocabularies of strings for its features."""
    found = {}
    for name, spec in features_of(trained).items():
        path = run_dir / VOCABULARY / f"{name}.npy"
        if spec.dtype.is_integer and path.exists():
            words = load_array(path, next_step=_NEXT_STEP)
            if words.dtype.kind == "U":
                found[name] = np.asarray(words)
    return ServedModel(trained, found) if found else trained


def _with_strings(specs: Mapping[str, tf.TensorSpec], names: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(spec.shape, tf.string, spec.name) if name in names else spec
        for name, spec in specs.items()
    }


def _table(words: npt.NDArray[np.str_]) -> tf.lookup.StaticHashTable:
    rows = tf.range(1, len(words) + 1, dtype=tf.int64)
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(words.astype(object)), rows), default_value=0
    )
