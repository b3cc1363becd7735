"""Item state: tensors of an item beside its embedding, which the scorer reads and the graph ignores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nann.errors import InvalidFileError, InvalidInputError
from nann.export import ExportOptions, Tuning, export_model, export_shards, verify_model
from nann.export.item_rows import ItemRows
from nann.export.item_state import check_item_state, state_from_columns, width_of
from nann.export.loaded import LoadedModel
from support.tiny_model import D
from support.tiny_run import N, write_run

BRANDS = 2**60 + np.arange(7, dtype=np.int64)  # float64 would take these for one
SPECS = {
    "price": tf.TensorSpec([], tf.float32),
    "brand": tf.TensorSpec([], tf.int64),
    "on sale": tf.TensorSpec([], tf.bool),
    "topics": tf.TensorSpec([2], tf.int32),
    "seen": tf.TensorSpec([3], tf.float16),
}


class StateModel:
    """A product, a bonus for the user's own brand, and numbers of the item."""

    user_features: dict[str, Any] = {}  # noqa: RUF012
    user_state = {"taste": tf.TensorSpec([D], tf.float32), "brand": tf.TensorSpec([], tf.int64)}  # noqa: RUF012
    item_state = SPECS
    embedding_dim = D

    def __init__(self) -> None:
        self.topics = tf.Variable(np.random.default_rng(2).normal(size=(11, 4)).astype(np.float32))

    @classmethod
    def from_run(cls, run_dir: Path) -> StateModel:
        return cls()

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        raise NotImplementedError

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError

    def score(self, user_state: Any, item_embs: tf.Tensor, item_state: Any) -> tf.Tensor:
        topics = tf.reduce_sum(tf.gather(self.topics, item_state["topics"]), axis=1)
        numbers = tf.math.log1p(item_state["price"]) + tf.cast(item_state["seen"][:, 1], tf.float32)
        scores = tf.linalg.matvec(item_embs, user_state["taste"]) + numbers
        scores += tf.linalg.matvec(tf.tanh(topics), user_state["taste"][:4])
        own = item_state["brand"] == user_state["brand"]
        return scores + tf.where(own & item_state["on sale"], 3.0, 0.0)


class SplitModel(StateModel):
    """Its scorer becomes a table: what it reads of the brand is of the item alone."""

    def score(self, user_state: Any, item_embs: tf.Tensor, item_state: Any) -> tf.Tensor:
        row = tf.cast(item_state["brand"] - 2**60, tf.int32)
        bias = tf.gather(tf.range(7.0), row)
        return tf.linalg.matvec(item_embs, user_state["taste"]) + bias * tf.math.log1p(item_state["price"])


def _state() -> dict[str, Any]:
    random = np.random.default_rng(8)
    return {
        "price": random.gamma(2.0, 3.0, N).astype(np.float32),
        "brand": random.choice(BRANDS, N),
        "on sale": random.random(N) < 0.5,
        "topics": random.integers(0, 11, (N, 2)).astype(np.int32),
        "seen": random.normal(size=(N, 3)).astype(np.float16),
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "run")
    for name, values in _state().items():
        np.save(run / f"embeddings/item_state_{name}.npy", values)
    named = f"{__name__}:StateModel"
    (run / "run.json").write_text(json.dumps({"format": 1, "model": named}))
    return run


def _expected(run: Path, model: Any, ids: Any, user: dict[str, Any]) -> Any:
    order = {int(item): row for row, item in enumerate(np.load(run / "embeddings/item_ids.npy"))}
    rows = [order[int(item)] for item in ids]
    embs = np.load(run / "embeddings/item_embs.npy")[rows]
    state = {name: tf.constant(values[rows]) for name, values in _state().items()}
    return model.score({name: tf.constant(value) for name, value in user.items()}, tf.constant(embs), state)


USER = {"taste": np.linspace(-1, 1, D).astype(np.float32), "brand": BRANDS[3]}


def _check(run: Path, model: Any, folder: Path) -> None:
    """`score` and `retrieve` of an export, called as ever."""
    user = {name: np.reshape(value, [1, -1]) for name, value in USER.items()}
    with LoadedModel(folder) as exported:
        assert set(exported.signatures["score"].inputs) == {"taste", "brand", "item_ids"}
        ids = np.load(folder / "assets/item_ids.npy")[::3]
        found = exported.run("score", {**user, "item_ids": ids[np.newaxis]})["scores"][0]
        np.testing.assert_allclose(found, _expected(run, model, ids, USER), rtol=1e-5, atol=1e-5)
        search = {"level_topn": np.array([[20, 40, 40, 40, 40, 10]], np.int32)}
        top = exported.run("retrieve", {**user, **search, "exclude_ids": np.zeros((1, 0), np.int64)})
        expected = _expected(run, model, top["top_k"][0], USER)
        np.testing.assert_allclose(top["scores"][0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", [StateModel, SplitModel])
@pytest.mark.parametrize("options", [{}, {"split": False}, {"item_table_bytes": 0}, {"reorder": True}])
def test_scores_are_those_of_the_model(run: Path, tmp_path: Path, model: Any, options: Any) -> None:
    folder = tmp_path / "models/1"
    result = export_model(run, folder, ExportOptions(**options), model=model())
    _check(run, model(), folder)
    tables = json.loads((folder / "assets.extra/nann_manifest.json").read_text())["scorer"]["item_tables"]
    if model is SplitModel and options in ({}, {"reorder": True}):
        assert result["split"]["reason"] is None
        assert tables == ["scorer"]
    if options == {"split": False}:
        assert tables == ["item_rows"]


def test_verify_reads_the_state_of_the_export(run: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "models/1", ExportOptions(reorder=True))
    verify_model(tmp_path / "models/1", run_dir=run)


def test_shards_carry_their_part(run: Path, tmp_path: Path) -> None:
    export_shards(run, tmp_path / "models/nann/1", shards=2, threads=1)
    for shard in range(2):
        _check(run, StateModel(), tmp_path / f"models/nann-{shard}-of-2/1")


def test_state_that_is_not_folded_is_not_narrowed(run: Path, tmp_path: Path) -> None:
    options = ExportOptions(split=False, tuning=Tuning(precision="bfloat16"))
    with pytest.raises(InvalidInputError, match="precision: expected item state that became part of"):
        export_model(run, tmp_path / "1", options)
    options = ExportOptions(split=False, tuning=Tuning(precision="auto"))
    assert export_model(run, tmp_path / "1", options)["precision"]["precision"] == "float32"


def test_what_is_missing_or_of_another_type_is_refused(run: Path, tmp_path: Path) -> None:
    path = run / "embeddings/item_state_price.npy"
    np.save(path, np.zeros(N))
    with pytest.raises(InvalidFileError, match=r"price\.npy: expected float32 \[500\], .* found float64"):
        export_model(run, tmp_path / "1")
    np.save(path, np.zeros(N - 1, np.float32))
    with pytest.raises(InvalidFileError, match=r"price\.npy: expected 500 rows"):
        export_model(run, tmp_path / "1")
    path.unlink()
    with pytest.raises(InvalidFileError, match=r"price\.npy: expected float32 \[500\].* found no file"):
        export_model(run, tmp_path / "1")


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([1], "item_state: expected a mapping"),
        ({"a": [3]}, "item_state a: expected tf.TensorSpec of one item"),
        ({"a": tf.TensorSpec([None], tf.float32)}, "item_state a: expected .* fixed shape"),
        ({"a": tf.TensorSpec([], tf.string)}, "item_state a: expected one of bool.*, found string"),
    ],
)
def test_state_that_no_table_holds_is_refused(specs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_item_state(specs)


TYPES = [
    np.bool_,
    np.float16,
    np.float32,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
]


@given(st.data(), st.sampled_from(TYPES), st.sampled_from([(4,), (4, 3), (4, 2, 2)]))
def test_columns_lose_no_bit(data: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    values = data.draw(arrays(dtype, shape))
    specs = {"first": tf.TensorSpec([], tf.int64), "x": tf.TensorSpec(shape[1:], dtype)}
    rows = ItemRows(np.ones([4, 2], np.float32), {"first": BRANDS[:4], "x": values})
    assert rows.shape == (4, 2 + width_of(specs))
    found = state_from_columns(tf.constant(rows[:])[:, 2:], specs)
    np.testing.assert_array_equal(found["first"], BRANDS[:4])
    np.testing.assert_array_equal(found["x"], values)
