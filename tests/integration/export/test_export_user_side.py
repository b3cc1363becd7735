"""The user side of an export: big tables are mapped files, the rest is saved as it is, the answers stay."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._user_side import rewrite_user_side, table_chunks
from nann.export.constants import freeze
from nann.export.loaded import LoadedModel
from nann.ops import IndexResource

ROWS, WIDTH, L = 1000, 4, 3


class _Model:
    """A user side given as a function of rows [B, L]."""

    user_features = {"rows": tf.TensorSpec([L], tf.int64)}  # noqa: RUF012

    def __init__(
        self, embed: Callable[[tf.Tensor], tf.Tensor], width: int = WIDTH, dtype: Any = tf.float32
    ) -> None:
        self._embed = embed
        self.user_state = {"state": tf.TensorSpec([L, width], dtype)}

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        return {"state": self._embed(features["rows"])}


def _table(dtype: Any = tf.float32, rows: int = ROWS) -> tf.Variable:
    values = np.random.default_rng(0).normal(size=(rows, WIDTH)).astype(np.float32)
    return tf.Variable(tf.cast(values, dtype), name="table")


def _by_gather() -> Any:
    table = _table()
    return lambda rows: tf.gather(table, rows)


def _by_embedding_lookup() -> Any:
    table = _table()
    return lambda rows: tf.nn.embedding_lookup(table, rows)


def _by_keras_layer() -> Any:
    return keras.layers.Embedding(ROWS, WIDTH)


def _by_value() -> Any:
    table = _table()
    return lambda rows: tf.gather(tf.identity(table.read_value()), tf.cast(rows, tf.int32))


def _in_a_function() -> Any:
    table = _table()
    inner = tf.function(lambda rows: tf.gather(table, rows))
    return tf.function(lambda rows: 2.0 * inner(rows + 1))


def _half_precision() -> Any:
    table = _table(tf.float16)
    return lambda rows: tf.cast(tf.gather(table, rows), tf.float32)


def _brain_float() -> Any:
    table = _table(tf.bfloat16)
    return lambda rows: tf.cast(tf.gather(table, rows), tf.float32)


def _computed_in_half_precision() -> Any:
    table = _table()
    return lambda rows: tf.cast(tf.gather(tf.cast(table, tf.bfloat16), rows), tf.float32)


def _a_tensor() -> Any:
    table = tf.constant(_table())
    return lambda rows: tf.gather(table, rows)


def _twice() -> Any:
    table = _table()
    kernel = tf.Variable(tf.eye(WIDTH) * 3)
    return lambda rows: tf.matmul(tf.gather(table, rows) + tf.gather(table, rows // 2), kernel)


def _rewritten(model: Any, tmp_path: Path, table_bytes: int = ROWS * WIDTH * 2) -> tuple[list[str], Any]:
    """Names of the mapped tables, and the rewritten function over rows."""
    user_side = rewrite_user_side(model, table_bytes=table_bytes)
    if user_side.tables:  # what is mapped is not in the graph as well
        assert user_side.function.graph.as_graph_def().ByteSize() < 5_000
    assert len(user_side.function.captured_inputs) == len(user_side.resources)
    tables = {}
    for name, source in user_side.tables.items():
        tables[name] = tmp_path / f"{name}.npy"
        np.save(tables[name], np.concatenate(list(table_chunks(source, 7))))
    index = _index(tmp_path, tables)
    return list(tables), lambda rows: tf.nest.flatten(user_side.function(rows, index.resource_handle))[0]


def _index(tmp_path: Path, user_tables: dict[str, Path]) -> IndexResource:
    from nann.export import GraphIndex, Level, write_index
    from nann.ops import IndexMeta

    level = Level(np.zeros(0, np.int32), np.zeros(2, np.int64))
    meta = IndexMeta(1, 1, 1, "l2", 2, 40, 1, (1,))
    write_index(tmp_path / "index", GraphIndex(meta, np.zeros(1, np.int32), (level,)))
    np.save(tmp_path / "ids.npy", np.zeros(1, np.int64))
    np.save(tmp_path / "embs.npy", np.zeros((1, 1), np.float32))
    return IndexResource(
        index_dir=tmp_path / "index",
        item_ids=tmp_path / "ids.npy",
        item_tables={"item_embs": tmp_path / "embs.npy"},
        user_tables=user_tables,
    )


@pytest.mark.parametrize(
    "embed",
    [
        _by_gather,
        _by_embedding_lookup,
        _by_keras_layer,
        _by_value,
        _in_a_function,
        _half_precision,
        _brain_float,
        _computed_in_half_precision,
        _a_tensor,
        _twice,
    ],
)
def test_a_gathered_table_is_mapped_and_gives_the_same_rows(tmp_path: Path, embed: Callable[[], Any]) -> None:
    model = _Model(embed())
    rows = tf.constant([[0, 1, 2], [998, 5, 5]], tf.int64)
    expected = model.embed_user({"rows": rows})["state"]
    tables, function = _rewritten(model, tmp_path)
    assert len(tables) == 1
    np.testing.assert_array_equal(function(rows), expected)


def test_small_tables_stay_variables() -> None:
    table = _table()
    model = _Model(lambda rows: tf.gather(table, rows))
    user_side = rewrite_user_side(model, table_bytes=ROWS * WIDTH * 4 + 1)
    assert user_side.tables == {}
    assert [each is table for each in user_side.resources] == [True]


@pytest.mark.parametrize(
    "embed",
    [
        lambda table, rows: tf.gather(table, rows) + tf.reduce_sum(table),
        lambda table, rows: tf.matmul(tf.one_hot(rows, ROWS), table),
        lambda table, rows: tf.gather(tf.transpose(table), rows % WIDTH, axis=0)[..., :WIDTH],
        lambda table, rows: (
            tf.gather(table, rows[0] % WIDTH, axis=1)[tf.newaxis, :L, :1] * tf.ones([1, L, WIDTH])
        ),
    ],
)
def test_a_table_that_is_read_otherwise_stays_a_variable(tmp_path: Path, embed: Any) -> None:
    table = _table()
    model = _Model(lambda rows: embed(table, rows))
    rows = tf.constant([[0, 1, 2]], tf.int64)
    tables, function = _rewritten(model, tmp_path)
    assert tables == []
    np.testing.assert_allclose(function(rows), model.embed_user({"rows": rows})["state"], rtol=1e-6)


def test_two_tables_of_one_name_stay_apart(tmp_path: Path) -> None:
    first, second = _table(), _table()
    second.assign_add(tf.ones_like(second))
    model = _Model(lambda rows: tf.gather(first, rows) * tf.gather(second, rows))
    rows = tf.constant([[3, 4, 5]], tf.int64)
    tables, function = _rewritten(model, tmp_path)
    assert tables == ["table", "table_2"]
    np.testing.assert_allclose(function(rows), model.embed_user({"rows": rows})["state"], rtol=1e-6)


def test_nothing_big_becomes_a_constant() -> None:
    array = np.ones([WIDTH, 1000], np.float32)
    model = _Model(lambda rows: tf.tile(tf.cast(rows, tf.float32)[..., tf.newaxis], [1, 1, 4]) + array[:, 0])
    rewrite_user_side(model, max_constant_bytes=999)
    big = tf.constant(array)
    model = _Model(lambda rows: tf.gather(tf.gather(big, rows % WIDTH), tf.range(WIDTH), axis=2))
    with pytest.raises(InvalidInputError, match=r"embed_user: .* at most 999 bytes, .* of 16,000 bytes"):
        rewrite_user_side(model, table_bytes=10**6, max_constant_bytes=999)
    function = tf.function(lambda x: x + array[0], input_signature=[tf.TensorSpec([1000])])
    with pytest.raises(InvalidInputError, match=r"score: .* found .* of 4,000 bytes.*--max-constant-bytes"):
        freeze(function.get_concrete_function(), what="score", max_constant_bytes=999)


def test_big_variables_have_no_limit() -> None:
    table = _table()
    model = _Model(lambda rows: tf.gather(table, rows) + tf.reduce_sum(table))
    user_side = rewrite_user_side(model, table_bytes=1, max_constant_bytes=999)
    assert [each is table for each in user_side.resources] == [True]


def _by_lookup_table() -> Any:
    init = tf.lookup.KeyValueTensorInitializer(tf.constant([1], tf.int64), tf.constant([1.0]))
    lookup = tf.lookup.StaticHashTable(init, 0.0)
    return lambda rows: lookup.lookup(rows)[..., tf.newaxis] * tf.ones([WIDTH])


def _by_mutable_table() -> Any:
    lookup = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, -1.0)
    lookup.insert(tf.constant([1, 2], tf.int64), tf.constant([5.0, 6.0]))
    return lambda rows: lookup.lookup(rows)[..., tf.newaxis] * tf.ones([WIDTH])


def _by_file_of_words() -> Any:
    path = Path(tempfile.mkdtemp()) / "words.txt"
    path.write_text("one\ntwo\n0\n")
    layer = keras.layers.StringLookup(vocabulary=str(path))
    return lambda rows: (
        tf.cast(layer(tf.strings.as_string(rows)), tf.float32)[..., tf.newaxis] * tf.ones([WIDTH])
    )


def _recurrent_over_table() -> Any:
    table, recurrent = _table(), keras.layers.GRU(WIDTH, return_sequences=True)
    return lambda rows: recurrent(tf.gather(table, rows))


def _in_a_loop() -> Any:
    table, kernel = _table(), tf.Variable(tf.eye(WIDTH) * 3)
    return lambda rows: tf.map_fn(lambda x: tf.matmul(x, kernel), tf.gather(table, rows))


@pytest.mark.parametrize("table_bytes", [1, 10**6])
@pytest.mark.parametrize(
    "embed",
    [
        _by_gather,
        _by_lookup_table,
        _by_mutable_table,
        _by_file_of_words,
        _recurrent_over_table,
        _in_a_loop,
    ],
)
def test_resources_and_loops_are_saved_with_the_model(
    tmp_path: Path, embed: Callable[[], Any], table_bytes: int
) -> None:
    """In a session, as servers load it: tables are initialised, variables restored."""
    model = _Model(embed())
    rows = np.array([[0, 1, 2], [998, 5, 5]], np.int64)
    expected = model.embed_user({"rows": tf.constant(rows)})["state"]
    user_side = rewrite_user_side(model, table_bytes=table_bytes)
    tables = {}
    for name, source in user_side.tables.items():
        tables[name] = tmp_path / f"{name}.npy"
        np.save(tables[name], np.concatenate(list(table_chunks(source, 7))))
    module = tf.Module()
    module.index = _index(tmp_path, tables)
    module.resources = user_side.resources

    @tf.function(input_signature=[tf.TensorSpec([None, L], tf.int64, "rows")])
    def embed_user(given: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"state": tf.nest.flatten(user_side.function(given, module.index.resource_handle))[0]}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=embed_user)
    with LoadedModel(tmp_path / "saved") as saved:
        found = saved.run("serving_default", {"rows": rows})["state"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_resource_without_owner_is_refused() -> None:
    handle = tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.float32, shared_name="orphan")

    def embed(rows: tf.Tensor) -> tf.Tensor:
        found = tf.raw_ops.LookupTableFindV2(table_handle=handle, keys=rows, default_value=0.0)
        return found[..., tf.newaxis] * tf.ones([WIDTH])

    with pytest.raises(InvalidInputError, match="embed_user: expected variables, lookup tables"):
        rewrite_user_side(_Model(embed))


def test_the_state_must_be_the_declared_one() -> None:
    model = _Model(lambda rows: tf.zeros([1, L, WIDTH]))
    model.user_state = {"other": tf.TensorSpec([L, WIDTH], tf.float32)}
    with pytest.raises(InvalidInputError, match=r"expected the tensors \['other'\].* found \['state'\]"):
        rewrite_user_side(model)
