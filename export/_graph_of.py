"""Functions of a model as graphs, also where Keras objects build themselves when they are first called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from nann.errors import InvalidInputError


def graph_of(
    function: Callable[..., Any], specs: Sequence[tf.TensorSpec], called: Callable[..., object]
) -> Any:
    """`function(*tensors)` as a ConcreteFunction.

    called: calls the model's own code with the same tensors.

    Where tracing fails, the model is called once outside of a graph, and traced again: a `FeatureSpace` of
    Keras that was loaded is built by its first call, which a graph does not allow. Raises the
    InvalidInputError of the first failure where that call fails too.
    """
    try:
        return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()
    except InvalidInputError:
        if not _runs(called, specs):
            raise
    return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()


def _runs(called: Callable[..., object], specs: Sequence[tf.TensorSpec]) -> bool:
    try:
        called(*map(_zeros, specs))
    except Exception:  # Whatever the model's code raises: the failure of the trace says what is wrong.
        return False
    return True


def _zeros(spec: tf.TensorSpec) -> tf.Tensor:
    """Of one user or item, with one value where there may be any number."""
    return tf.zeros([size or 1 for size in spec.shape.as_list()], spec.dtype)
