"""Small graphs of the scorer split, and what they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import function_pb2

from nann.export.scorer import Scorer, SplitScorer, freeze_scorer, split_function
from nann.export.scorer._emit import to_function
from nann.export.scorer._ir import Needs, Spec, Tensor, constant, make, source, topological
from nann.export.scorer._read import ScorerGraph, read_scorer

TILE = 6
_NO_FUNCTIONS = function_pb2.FunctionDefLibrary()


def item(*shape: int) -> Tensor:
    """An item-dependent input [TILE, ...]."""
    return source("item", Spec(tf.float32, (TILE, *shape)), Needs.ITEM)


def user(*shape: int, name: str = "user", dtype: tf.DType = tf.float32) -> Tensor:
    """A user-dependent input."""
    return source(name, Spec(dtype, shape), Needs.USER)


def operation(function: Callable[..., tf.Tensor], *operands: Tensor, **options: Any) -> Tensor:
    """TensorFlow's operation, as the reader leaves it."""
    with tf.Graph().as_default():
        given = [tf.compat.v1.placeholder(each.dtype, each.shape) for each in operands]
        made = function(*given, **options).op
        known = dict(zip((each.name for each in given), operands, strict=True))
        inputs = [
            known[each.name] if each.name in known else constant(tf.get_static_value(each))
            for each in made.inputs
        ]
        attrs = {
            name: value.SerializeToString(deterministic=True) for name, value in made.node_def.attr.items()
        }
        specs = [Spec(each.dtype, tuple(each.shape)) for each in made.outputs]
    return Tensor(make(made.type, inputs, specs, attrs))


def weights(*shape: int, seed: int = 0) -> Tensor:
    """Constant random numbers."""
    return constant(np.random.default_rng(seed).normal(size=shape), np.float32)


def value_of(tensor: Tensor) -> npt.NDArray[Any]:
    """What a tensor is for random inputs: the same for the same names and shapes."""
    sources = [Tensor(node) for node in topological([tensor]) if node.op == "source"]
    function = to_function(
        "value",
        [(each.node.name, tf.TensorSpec(each.shape, each.dtype)) for each in sources],
        [tensor],
        {each: each.node.name for each in sources},
        library=_NO_FUNCTIONS,
    )
    inputs = [tf.constant(_random(each)) for each in sources]
    return np.asarray(function(*inputs)[0])


def _random(tensor: Tensor) -> npt.NDArray[Any]:
    values = np.random.default_rng(len(tensor.node.name)).normal(size=tensor.shape)
    if tensor.dtype.is_integer:  # An index.
        values = np.abs(4 * values) % 5
    return values > 0 if tensor.dtype == tf.bool else values.astype(tensor.dtype.as_numpy_dtype)


def ops_of(*outputs: Tensor) -> list[str]:
    """Operations that compute, inputs first."""
    return [node.op for node in topological(outputs) if node.op not in ("const", "source")]


class FunctionModel:
    """A model of `score` alone, for a corpus of embeddings of width 8."""

    user_features: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, score: Any, *, dim: int = 8, **state: Any) -> None:
        self._score = score
        self.embedding_dim = dim
        self.user_state = {
            name: spec if isinstance(spec, tf.TensorSpec) else tf.TensorSpec(spec)
            for name, spec in state.items()
        }

    def embed_user(self, features: Any) -> Any:
        raise NotImplementedError("users are drawn")

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError("items are drawn")

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return self._score(user_state, item_embs)


def frozen(score: Any, *, dim: int = 8, tile_rows: int = TILE, **state: Any) -> Scorer:
    """A scorer function, frozen. state: name -> shape or spec of the user's tensors."""
    return freeze_scorer(FunctionModel(score, dim=dim, **state), tile_rows=tile_rows)


def graph_of(score: Any, **state: Any) -> ScorerGraph:
    return read_scorer(frozen(score, **state).function)


def split(score: Any, *, max_width: int = 4096, **state: Any) -> SplitScorer:
    """A scorer, split, after its scores were compared with the unsplit one's."""
    scorer = frozen(score, **state)
    result = split_function(scorer.function, max_table_width=max_width)
    assert largest_difference(scorer.function, result) <= 1e-5
    return result


def scores_of(result: SplitScorer, state: Sequence[Any], items: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Of a tile of items, by the tables, the user's part and the tile's part of a split scorer."""
    tiles = [_table(result, name, items) for name in result.item_tables]
    given = state if result.user_function is None else result.user_function(*state)
    return np.asarray(result.function(*given, *tiles))


def largest_difference(function: Any, result: SplitScorer, states: Sequence[Any] = ()) -> float:
    """Of scores of random users and items, relative to the largest, and over the order of the items.

    Scores that are small differences of large numbers are a matter of the last bits, which differ from
    processor to processor. They count relative to what the last bit of the inputs makes of them: 1e-5 is ten
    times that.
    """
    random = np.random.default_rng(3)
    *state_specs, item_spec = (tensor.shape for tensor in function.inputs)
    dtypes = [tensor.dtype for tensor in function.inputs]
    worst = 0.0
    for number in range(2):
        state = list(states) or [
            tf.cast(random.normal(size=shape) * (1 + number), dtype)
            for shape, dtype in zip(state_specs, dtypes[:-1], strict=True)
        ]
        items = random.normal(size=item_spec).astype(np.float32)
        expected = np.asarray(function(*state, tf.constant(items))).reshape(-1)
        found = scores_of(result, state, items)
        assert np.isfinite(expected).all()
        assert np.isfinite(found).all()
        rounding = np.asarray(function(*map(_last_bits_changed, state), _last_bits_changed(items)))
        scale = max(
            float(np.abs(expected).max()), 1e6 * float(np.abs(rounding.reshape(-1) - expected).max()), 1e-30
        )
        worst = max(worst, float(np.abs(found - expected).max()) / scale)
    return worst


def _last_bits_changed(tensor: Any) -> tf.Tensor:
    """Every float32 moved to a neighbour, up or down at random."""
    values = np.asarray(tensor)
    if values.dtype != np.float32:
        return tensor
    up_or_down = np.random.default_rng(5).choice([-np.inf, np.inf], values.shape)
    return tf.constant(np.nextafter(values, up_or_down.astype(np.float32)))


def _table(result: SplitScorer, name: str, items: npt.NDArray[np.float32]) -> tf.Tensor:
    """A tile of an item table, whose rows were computed in other tiles, in another order."""
    if name == "item_embs":
        return tf.constant(items)
    order = np.random.default_rng(4).permutation(len(items))
    shuffled = np.asarray(result.item_function(tf.constant(items[order])))
    return tf.constant(shuffled[np.argsort(order)])
