"""Layers that are built by their first call are built before a model is traced."""

from __future__ import annotations

import contextlib

import tensorflow as tf

from nann.export.scorer.scorer import scores_of
from nann.run import RetrievalModel, item_state_of

_ITEMS = 2


def build_by_calls(model: RetrievalModel) -> None:
    """Call `embed_user` and `score` once outside of a graph, of zeros; what they raise is left to the trace.

    A `FeatureSpace` of Keras that was loaded cannot be built in a graph, and a `Normalization` with given
    mean and variance keeps tensors of the graph that it was built in.
    """
    with contextlib.suppress(Exception):
        if model.user_features:
            model.embed_user({name: _zeros(spec, 1) for name, spec in model.user_features.items()})
    with contextlib.suppress(Exception):
        state = {name: _zeros(spec) for name, spec in model.user_state.items()}
        items = {name: _zeros(spec, _ITEMS) for name, spec in item_state_of(model).items()}
        scores_of(model, state, tf.zeros([_ITEMS, model.embedding_dim]), items)


def _zeros(spec: tf.TensorSpec, *batch: int) -> tf.Tensor:
    """Of any number of values one."""
    return tf.zeros([*batch, *(size or 1 for size in spec.shape.as_list())], spec.dtype)
