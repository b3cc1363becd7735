"""Which tensors may become columns of an item table: only what is proven to depend on its own item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from nann.export.scorer._emit import to_function
from nann.export.scorer._ir import Tensor, topological
from nann.export.scorer._read import ScorerGraph
from nann.export.scorer._rows import RowAnalysis, Rows
from support.random_scorer import RandomModel
from support.splitting import TILE, graph_of

TABLE = tf.constant(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32))
POSITIONS = tf.range(float(TILE))[:, tf.newaxis]

TABLES = np.random.default_rng(4).normal(size=(2, 3, 4)).astype(np.float32)


def _indices(x: tf.Tensor) -> tf.Tensor:
    """Two for each item."""
    return tf.cast(tf.abs(x[:, :2]), tf.int32) % [2, 3]


OF_EACH_ITEM: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "product": lambda x: tf.matmul(x, TABLE),
    "product from the left": lambda x: tf.transpose(tf.matmul(TABLE, x, transpose_b=True)),
    "batched products": lambda x: tf.matmul(tf.reshape(x, [-1, 2, 4]), tf.reshape(x, [-1, 4, 2]))[:, 0],
    "elementwise": lambda x: tf.exp(x) * x - tf.sigmoid(x) / 3.0 + tf.ones_like(x),
    "broadcast": lambda x: x[:, :1] * TABLE[0],
    "concat": lambda x: tf.concat([x, x * 2, tf.ones([TILE, 1])], -1),
    "split": lambda x: tf.split(x, 2, -1)[1],
    "softmax": lambda x: tf.nn.softmax(x) + tf.nn.log_softmax(x),
    "softmax over another axis": lambda x: tf.nn.softmax(tf.reshape(x, [-1, 2, 4]), axis=1)[:, 1],
    "layer norm": lambda x: (
        (x - tf.reduce_mean(x, -1, keepdims=True)) / tf.math.reduce_std(x, -1, keepdims=True)
    ),
    "reshape": lambda x: tf.reshape(tf.nn.relu(tf.reshape(x, [-1, 2])), [TILE, -1]),
    "where": lambda x: tf.where(x > 0, x, tf.sin(x)),
    "reduce": lambda x: (
        tf.reduce_max(x, -1, keepdims=True) * tf.cast(tf.argmax(x, -1), tf.float32)[:, tf.newaxis]
    ),
    "any": lambda x: tf.cast(tf.reduce_any(x > 1, -1, keepdims=True), tf.float32) * x,
    "cosine": lambda x: tf.nn.l2_normalize(x, -1),
    "transposed twice": lambda x: tf.transpose(tf.tanh(tf.transpose(x))),
    "stack": lambda x: tf.reshape(tf.stack([x, x + 1], axis=1), [TILE, -1]),
    "rows of a table": lambda x: tf.gather(TABLE, tf.cast(tf.abs(x[:, 0]), tf.int32) % 8),
    "rows of a table for each field": lambda x: tf.reshape(
        tf.transpose(tf.gather(TABLES, tf.transpose(_indices(x)), batch_dims=1), [1, 0, 2]), [TILE, -1]
    ),
    "numbers at several indices": lambda x: tf.gather_nd(TABLES, _indices(x)),
    "sums so far": lambda x: tf.cast(tf.cumsum(tf.cast(x, tf.int32), axis=-1), tf.float32),
    "special functions": lambda x: (
        tf.math.betainc(tf.exp(x), 2 * tf.exp(x), tf.sigmoid(x))
        + tf.math.bessel_i0e(x)
        + tf.math.igamma(tf.exp(x), 1.5)
    ),
    "inverse": lambda x: tf.reshape(tf.linalg.inv(tf.reshape(x, [-1, 2, 2]) + 9 * tf.eye(2)), [TILE, -1]),
    "strings": lambda x: tf.cast(
        tf.strings.to_hash_bucket_fast(tf.strings.join([tf.as_string(x), "of", tf.as_string(2 * x)]), 9),
        tf.float32,
    ),
    "one hot": lambda x: tf.one_hot(tf.cast(tf.abs(x[:, 0]), tf.int32), 8) * x,
    "tile": lambda x: tf.reduce_sum(tf.tile(x[:, tf.newaxis], [1, 3, 1]), 1),
}

MIXING: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "sum over items": lambda x: x - tf.reduce_mean(x, 0, keepdims=True),
    "softmax over items": lambda x: tf.nn.softmax(x, axis=0),
    "all pairs": lambda x: tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x),
    "products with the tile": lambda x: tf.matmul(tf.eye(TILE) + 0.1, x),
    "cumulative": lambda x: tf.cumsum(x, 0),
    "reversed": lambda x: x[::-1],
    "other rows": lambda x: tf.concat([x[1:], x[:1]], 0),
    "gathered": lambda x: tf.gather(x, [1, 0, 2, 3, 4, 5]),
    "rows of the tile": lambda x: tf.gather(x, tf.cast(tf.abs(x[:, 0]), tf.int32) % TILE),
    "rows of a table for each place of the tile": lambda x: tf.gather(
        tf.stack([TABLES[0, :, 0]] * (TILE - 1) + [TABLES[1, :, 0]]), _indices(x), batch_dims=1
    ),
    "one hot along another axis": lambda x: (
        tf.transpose(tf.one_hot(tf.cast(tf.abs(x[:, 0]), tf.int32), 8, axis=0)) * x[::-1]
    ),
    "positions in the tile": lambda x: x * POSITIONS,
    "positions beside": lambda x: tf.concat([x, POSITIONS], -1),
    "positions chosen": lambda x: tf.where(POSITIONS > 2, x, 0.0),
    "rows mixed by a reshape": lambda x: (
        tf.reduce_sum(tf.reshape(x, [2, TILE // 2, 8]), 0, keepdims=True)[0, :1] + tf.zeros([TILE, 8])
    ),
    "sorted": lambda x: tf.sort(x, 0),
    "sums so far over the tile": lambda x: tf.cast(tf.cumsum(tf.cast(x, tf.int32), axis=0), tf.float32),
    "inverse over the tile": lambda x: tf.linalg.inv(tf.matmul(x, x, transpose_b=True) + tf.eye(TILE)),
    "unknown operation": lambda x: tf.linalg.qr(tf.reshape(x, [TILE, 2, 4]))[1][:, 0],
    "control flow": lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -x),
    "unique": lambda x: x * tf.cast(tf.size(tf.unique(x[:, 0])[0]), tf.float32),
}


def rows_of(function: Callable[[tf.Tensor], tf.Tensor]) -> tuple[Tensor, Rows | None]:
    """The last item-only tensor of a scorer that reads function(item), and where its items are."""
    graph = graph_of(
        lambda state, x: tf.linalg.matvec(function(x) * 1.5, state["u"][: function(x).shape[-1]]), u=[64]
    )
    nodes = [node for node in topological([graph.output]) if Tensor(node).is_item_only]
    return Tensor(nodes[-1]), RowAnalysis(graph.item).rows(Tensor(nodes[-1]))


@pytest.mark.parametrize("name", OF_EACH_ITEM)
def test_what_depends_on_its_own_item_is_found(name: str) -> None:
    tensor, rows = rows_of(OF_EACH_ITEM[name])
    assert rows is not None
    assert tensor.shape[rows.axis] == TILE * rows.block


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_items_is_not(name: str) -> None:
    assert rows_of(MIXING[name])[1] is None


def test_a_tile_of_one_row_broadcasts_and_is_no_item() -> None:
    """[1, 8] + [5, 8] is no tile: its axis 0 is the five."""
    graph = graph_of(lambda state, x: tf.linalg.matvec(x + TABLE[:5], state["u"])[:1], u=[8], tile_rows=1)
    analysis = RowAnalysis(graph.item)
    wide = [
        Tensor(node)
        for node in topological([graph.output])
        if node.needs == graph.item.needs and node.op == "add"
    ]
    assert [each.shape for each in wide] == [(5, 8)]
    assert analysis.rows(wide[0]) is None
    assert analysis.width(graph.item) == 8


def test_only_float32_with_the_items_first_becomes_a_column() -> None:
    graph = graph_of(lambda state, x: tf.linalg.matvec(tf.cast(x > 0, tf.float32), state["u"]), u=[8])
    analysis = RowAnalysis(graph.item)
    by_type = {Tensor(node).dtype: analysis.width(Tensor(node)) for node in topological([graph.output])}
    assert by_type[tf.bool] is None
    assert analysis.width(graph.item) == 8


@settings(max_examples=15)
@given(st.data())
def test_items_in_another_order_give_rows_in_another_order(data: Any) -> None:
    """For every tensor of a random scorer that is said to have a part for each item."""
    model = RandomModel(lambda n: data.draw(st.integers(0, n - 1)), operations=25)
    graph = graph_of(model.score, **model.user_state)
    analysis = RowAnalysis(graph.item)
    order = np.random.default_rng(0).permutation(TILE)
    found = [
        (Tensor(node), rows)
        for node in topological([graph.output])
        if Tensor(node).is_item_only and len(node.outputs) == 1
        if (rows := analysis.rows(Tensor(node))) is not None and Tensor(node).dtype == tf.float32
    ]
    assert found
    for (tensor, rows), one, other in zip(found, *_values(graph, [t for t, _ in found], order), strict=True):
        blocks = (order[:, np.newaxis] * rows.block + np.arange(rows.block)).reshape(-1)
        assert tensor.shape[rows.axis] == blocks.size
        np.testing.assert_allclose(other, one.take(blocks, rows.axis), rtol=1e-4, atol=1e-4)


def _values(graph: ScorerGraph, tensors: list[Tensor], order: Any) -> tuple[list[Any], list[Any]]:
    """The tensors for random items, and for the same in another order."""
    spec = tf.TensorSpec(graph.item.shape, tf.float32)
    function = to_function("value", [("item", spec)], tensors, {graph.item: "item"}, library=graph.library)
    items = np.random.default_rng(1).normal(size=graph.item.shape).astype(np.float32)
    one, other = function(tf.constant(items)), function(tf.constant(items[order]))
    return [each.numpy() for each in one], [each.numpy() for each in other]
