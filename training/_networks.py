"""Keras networks of a function as a trained model: `--model module:function`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from nann.errors import InvalidInputError
from nann.run import KerasModel
from nann.run.guard import own_code
from nann.training.trained import TrainedModel


class Networks(TrainedModel):
    """What a function of the user returns from `nann.export.from_keras`, trained.

    The function takes the rows of each feature's embedding table, optionally `columns`, and sizes:
    `def networks(rows, *, width=32): return from_keras(user=..., item=..., scorer=...)`. Initial weights are
    those of Keras' seed, which is set before.
    """

    @classmethod
    def create(
        cls, rows: Mapping[str, int], *, seed: int = 0, function: str = "", **sizes: Any
    ) -> KerasModel:
        """The networks of `function`, `module:name`, with random weights. Raises InvalidInputError."""
        keras.utils.set_random_seed(seed)
        module_name, _, name = function.partition(":")
        with own_code(function, lambda: f"rows {dict(rows)} and {sizes}"):
            made = getattr(importlib.import_module(module_name), name)(rows, **sizes)
        if not isinstance(made, KerasModel):
            raise InvalidInputError(
                f"model {function}: expected a function that returns nann.export.from_keras(...), found one "
                f"that returns {type(made).__name__}. Return that, or derive a class from "
                f"nann.training.TrainedModel."
            )
        return made


def sizes_of(function: Callable[..., Any]) -> list[str]:
    """Names of the options of a function that makes networks."""
    return [name for name in inspect.signature(function).parameters if name != "rows"]
