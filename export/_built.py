"""Layers that are built by their first call are built before a model is traced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from nann.export.scorer.scorer import scores_of
from nann.run import RetrievalModel, item_state_of

_ITEMS = 2
# Objects in objects that are looked at: a model of a class holds its layers, or what holds them.
_MOST_LEVELS = 4


def build_by_calls(model: RetrievalModel) -> None:
    """Call `embed_user` and `score` once outside of a graph, of zeros, where a layer of Keras is not built.

    A `FeatureSpace` of Keras that was loaded cannot be built in a graph, and a `Normalization` with given
    mean and variance keeps tensors of the graph that it was built in. What the calls raise is left to the
    trace. Other models are not called: one may count its calls, or the operations of a graph.
    """
    if not any(_is_unbuilt(each) for each in _layers_in(getattr(model, "unguarded", model), _MOST_LEVELS)):
        return
    with contextlib.suppress(Exception):
        if model.user_features:
            model.embed_user({name: _zeros(spec, 1) for name, spec in model.user_features.items()})
    with contextlib.suppress(Exception):
        state = {name: _zeros(spec) for name, spec in model.user_state.items()}
        items = {name: _zeros(spec, _ITEMS) for name, spec in item_state_of(model).items()}
        scores_of(model, state, tf.zeros([_ITEMS, model.embedding_dim]), items)


def _layers_in(value: Any, levels: int) -> Iterator[Any]:
    """The layers of Keras that an object holds, in lists, dicts and other objects too."""
    if hasattr(value, "_flatten_layers"):  # Keras 2 and 3 have it of layers and networks.
        yield from value._flatten_layers()
    elif levels > 0:
        inside: Any = ()
        if isinstance(value, Mapping):
            inside = value.values()
        elif isinstance(value, list | tuple):
            inside = value
        elif not isinstance(value, type) and hasattr(value, "__dict__"):
            inside = vars(value).values()
        for each in list(inside):
            yield from _layers_in(each, levels - 1)


def _is_unbuilt(layer: Any) -> bool:
    # A FeatureSpace that was loaded is built, and what it consists of is not.
    return not (getattr(layer, "built", True) and getattr(layer, "_sublayers_built", True))


def _zeros(spec: tf.TensorSpec, *batch: int) -> tf.Tensor:
    """Of any number of values one."""
    return tf.zeros([*batch, *(size or 1 for size in spec.shape.as_list())], spec.dtype)
