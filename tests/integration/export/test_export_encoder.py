"""`retrieve_by_ids` with the user's encoder in the scorer program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from nann.errors import VerificationError
from nann.export import ExportOptions, Tuning, _encoder, export_model
from nann.export.loaded import loaded
from support.tiny_model import ITEMS, E, L, TinyModel

OPTIONS = ExportOptions(level_topn=[10, 30, 40, 40, 40, 25])
NATIVE = {"executor": "native", "executor_reason": None, "left_out": []}
# What reads rows, and what counts and moves them.
_TRANSFORMER = {"BatchMatMulV2", "Einsum", "MatMul", "Softmax"}


class Encoded(TinyModel):
    """Embeds the events and has each attend to all."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(5)
        self.keys = tf.Variable(generator.normal(size=(E, E)).astype(np.float32) * 0.3)
        self.values = tf.Variable(generator.normal(size=(E, E)).astype(np.float32) * 0.3)
        self.numbers = tf.Variable(tf.range(ITEMS + 1, dtype=tf.float32))

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        events = super().embed_user(features)["comm_seq"]
        logits = tf.matmul(events, events @ self.keys, transpose_b=True)
        return {"comm_seq": events + self.encode(tf.nn.softmax(logits) @ (events @ self.values), features)}

    def encode(self, attended: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return attended


class Bessel(Encoded):
    """The native executor does not know the first step after the rows."""

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        events = TinyModel.embed_user(self, features)["comm_seq"]
        return {"comm_seq": tf.nn.softmax(tf.math.bessel_i0e(events) @ self.values)}


class BesselLast(Encoded):
    """The native executor does not know the last step."""

    def encode(self, attended: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.math.bessel_i0e(attended)


class Asserting(Encoded):
    """Refuses users whose first events are the rows 2 and 3 of the vocabulary."""

    def encode(self, attended: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        refused = tf.reduce_all(features["item_ids"][:, :2] == tf.constant([2, 3], tf.int64), axis=1)
        check = tf.debugging.Assert(~tf.reduce_any(refused), ["two events that do not go together"])
        with tf.control_dependencies([check]):
            return tf.identity(attended)


class AssertingRows(Encoded):
    """The same of what they are looked up as; what an assertion says is computed only when it fails."""

    def encode(self, attended: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        rows = tf.gather(self.numbers, features["item_ids"][:, :2])
        wrong = tf.constant([2.0, 3.0])
        distances = tf.reduce_sum(tf.abs(rows - wrong), axis=1)
        tf.debugging.assert_positive(distances, "two events that do not go together")
        return attended


class CheckingNumbers(Encoded):
    """Refuses users whose state has a NaN, which their features can cause."""

    checks = "CheckNumerics"

    def encode(self, attended: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.raw_ops.CheckNumerics(tensor=attended, message="no number")


class CheckingStates(Encoded):
    """Refuses users whose state has large numbers."""

    checks = "Assert"

    def encode(self, attended: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        tf.debugging.assert_less(tf.abs(attended), 1e6)
        return attended


class Recurrent(Encoded):
    """A loop over the events."""

    def encode(self, attended: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        state = tf.zeros_like(attended[:, 0])
        for event in range(L):
            state = tf.tanh(attended[:, event] @ self.keys + state @ self.values)
        return attended + state[:, tf.newaxis]


class RecurrentOfRows(TinyModel):
    """A GRU straight over the rows of a table, in a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = layers.Embedding(ITEMS + 1, E)
        self.recurrent = layers.GRU(E, return_sequences=True)

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"comm_seq": self.encode(features["item_ids"])}

    def encode(self, ids: tf.Tensor) -> tf.Tensor:
        return self.recurrent(self.rows(ids))


class CalledRecurrentOfRows(RecurrentOfRows):
    encode = tf.function(RecurrentOfRows.encode)


def _exported(run: Path, out: Path, model: Any, options: ExportOptions = OPTIONS) -> Any:
    export_model(run, out, options, model=model, overwrite=True)
    return json.loads((out / "assets.extra/nann_manifest.json").read_text())["encoder"]


def _operations(model_dir: Path) -> set[str]:
    """What TensorFlow runs for `retrieve_by_ids`, without the functions that ops of this project call."""
    graph_def = tf.saved_model.load(str(model_dir)).signatures["retrieve_by_ids"].graph.as_graph_def()
    library = {each.signature.name: each.node_def for each in graph_def.library.function}
    operations, pending = set(), list(graph_def.node)
    while pending:
        node = pending.pop()
        operations.add(node.op)
        if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
            pending += library.pop(node.attr["f"].func.name, [])
    return operations


@pytest.mark.parametrize("model", [Encoded, Recurrent])
def test_the_program_encodes_the_user(shared_run: Path, tmp_path: Path, model: Any) -> None:
    # The export compares the answers with the model's own.
    assert _exported(shared_run, tmp_path / "1", model()) == NATIVE
    assert not _operations(tmp_path / "1") & _TRANSFORMER


@pytest.mark.parametrize("model", [RecurrentOfRows, CalledRecurrentOfRows])
@pytest.mark.parametrize("table_bytes", [0, 2**20])
def test_the_program_encodes_rows_of_a_file(
    shared_run: Path, tmp_path: Path, model: Any, table_bytes: int
) -> None:
    options = replace(OPTIONS, table_bytes=table_bytes)
    assert _exported(shared_run, tmp_path / "1", model(), options) == NATIVE
    assert not _operations(tmp_path / "1") & {"MatMul", "While", *_TRANSFORMER}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (replace(OPTIONS, encoder="tensorflow"), "it was asked for"),
        (
            replace(OPTIONS, tuning=Tuning(executor="tensorflow")),
            "TensorFlow runs the scorer or a part of it",
        ),
    ],
)
def test_tensorflow_encodes_the_user_where_it_is_to(
    shared_run: Path, tmp_path: Path, options: ExportOptions, reason: str
) -> None:
    encoder = _exported(shared_run, tmp_path / "1", Encoded(), options)
    assert encoder == {"executor": "tensorflow", "executor_reason": reason, "left_out": []}
    assert _operations(tmp_path / "1") & _TRANSFORMER


def test_tensorflow_computes_the_first_step_that_is_unknown(shared_run: Path, tmp_path: Path) -> None:
    encoder = _exported(shared_run, tmp_path / "1", Bessel())
    assert encoder["executor"] == "native"
    assert "BesselI0e" in encoder["executor_reason"]
    operations = _operations(tmp_path / "1")
    assert "BesselI0e" in operations
    assert not operations & _TRANSFORMER


def test_tensorflow_encodes_a_user_whose_last_step_is_unknown(shared_run: Path, tmp_path: Path) -> None:
    encoder = _exported(shared_run, tmp_path / "1", BesselLast())
    assert encoder["executor"] == "tensorflow"
    assert "BesselI0e" in encoder["executor_reason"]


@pytest.mark.parametrize("model", [CheckingNumbers, CheckingStates])
def test_what_is_checked_of_a_state_is_left_out_and_named(
    shared_run: Path, tmp_path: Path, model: Any
) -> None:
    encoder = _exported(shared_run, tmp_path / "1", model())
    assert encoder["executor"] == "native"
    (name,) = encoder["left_out"]
    assert model.checks in name
    assert not _operations(tmp_path / "1") & _TRANSFORMER
    options = replace(OPTIONS, encoder="tensorflow")
    assert _exported(shared_run, tmp_path / "1", model(), options)["left_out"] == []


@pytest.mark.parametrize("model", [Asserting, AssertingRows])
def test_assertions_are_checked(shared_run: Path, tmp_path: Path, model: Any) -> None:
    assert _exported(shared_run, tmp_path / "1", model()) == NATIVE
    manifest = json.loads((tmp_path / "1/assets.extra/nann_manifest.json").read_text())
    vocabulary = {
        name: np.load(tmp_path / "1" / manifest["tables"]["user"][table]["file"])
        for name, table in manifest["model"]["vocabularies"].items()
    }
    with loaded(tmp_path / "1") as export:
        inputs = {name: np.full((1, L), ids[2]) for name, ids in vocabulary.items()}
        search = {"level_topn": np.array([OPTIONS.level_topn], np.int32), "exclude_ids": np.full((1, 1), -1)}
        assert (export.run("retrieve_by_ids", {**inputs, **search})["top_k"] >= 0).all()
        inputs["item_ids"][0, :2] = vocabulary["item_ids"][1:3]
        with pytest.raises(tf.errors.InvalidArgumentError, match="do not go together"):
            export.run("retrieve_by_ids", {**inputs, **search})


def test_answers_of_the_program_that_differ_leave_the_encoder_to_tensorflow(
    shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = _encoder.with_encoder

    def wrong(scorer: Any, encoder: Any, **options: Any) -> Any:
        inputs = [tf.TensorSpec(each.shape, each.dtype) for each in encoder.inputs]
        negative = tf.function(lambda *x: [-each for each in encoder(*x)], input_signature=inputs)
        frozen = _encoder.freeze(negative.get_concrete_function(), what="embed_user")
        return right(scorer, frozen, **options)

    monkeypatch.setattr(_encoder, "with_encoder", wrong)
    encoder = _exported(shared_run, tmp_path / "1", Encoded())
    reason = "its answers differed from the model's"
    assert encoder == {"executor": "tensorflow", "executor_reason": reason, "left_out": []}
    assert _operations(tmp_path / "1") & _TRANSFORMER


def test_other_errors_of_verification_are_raised(
    shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nann.export._export_model.compare_with_model", _refuse)
    with pytest.raises(VerificationError, match="of something else"):
        _exported(shared_run, tmp_path / "1", Encoded())


def _refuse(*_: Any) -> Any:
    raise VerificationError("of something else")
