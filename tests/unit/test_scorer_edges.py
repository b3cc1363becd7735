"""Sparse matrices that are constant, as edges between fields or events: products of them run natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, weighted

L, D = 6, 8
EVENTS = np.random.default_rng(4).normal(size=(2, L, D)).astype(np.float32)
# One of the edges is there twice.
EDGES = tf.SparseTensor([[0, 1], [1, 2], [1, 5], [3, 0], [3, 0]], [1.0, -0.5, 2.0, 3.0, 1.5], [4, L])

# Of similarities [n, L].
PRODUCTS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "of columns": lambda s: tf.sparse.sparse_dense_matmul(EDGES, tf.transpose(s)),
    "of rows": lambda s: tf.sparse.sparse_dense_matmul(EDGES, s, adjoint_b=True),
    "against the edges": lambda s: tf.sparse.sparse_dense_matmul(
        EDGES, tf.transpose(s[:, :4]), adjoint_a=True
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_sparse_products(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        similar = tf.matmul(item, user["events"], transpose_b=True)
        return weighted(tf.transpose(tf.nn.relu(PRODUCTS[name](similar))))

    compare(score, events=EVENTS)
