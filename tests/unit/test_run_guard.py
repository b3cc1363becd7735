"""Errors of a model's own code: a sentence with the function, the line and the next step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from nann.cli import main
from nann.errors import InvalidFileError, InvalidInputError
from nann.run import class_name, load_model
from nann.run.guard import guarded, own_code, said

_MODEL = """
import tensorflow as tf

class Model:
    user_features = {}
    user_state = {"user": tf.TensorSpec([4], tf.float32)}
    embedding_dim = 4

    @classmethod
    def from_run(cls, run_dir):
        return cls()

    def embed_user(self, features):
        raise NotImplementedError

    def embed_item(self, features):
        raise NotImplementedError

    def score(self, user_state, item_embs):
        return tf.linalg.matvec(item_embs, user_state["usr"])
"""


class Scorer:
    """A model of one function."""

    user_state = {"user": tf.TensorSpec([4], tf.float32)}  # noqa: RUF012

    def __init__(self, score: Callable[..., Any]) -> None:
        self.score = score


def _error(score: Callable[..., Any]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as raised:
        guarded(Scorer(score)).score({"user": tf.zeros([4])}, tf.zeros([3, 4]))
    return raised.value


def test_the_sentence_names_function_line_shapes_and_next_step() -> None:
    error = _error(lambda state, items: state["usr"])
    assert str(error).startswith(
        "score: expected code that runs, found KeyError: 'usr' (test_run_guard.py, line "
    )
    assert "It was called with {user: float32 [4]} and float32 [3, 4]." in str(error)
    assert str(error).endswith("Use the names that user_features and user_state declare.")
    assert isinstance(error.__cause__, KeyError)


def test_the_line_is_the_users_and_not_kerass() -> None:
    network = keras.Sequential([keras.Input([8]), keras.layers.Dense(1)])
    error = _error(lambda state, items: network(items))
    assert "(test_run_guard.py, line " in str(error)
    assert "\x1b" not in str(error)


def test_a_file_that_is_missing_is_put_there_and_not_the_code_corrected(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input([8]), keras.layers.Dense(1)])
    with pytest.raises(InvalidInputError) as raised, own_code("from_run"):
        network.load_weights(tmp_path / "none.weights.h5")
    assert "none.weights.h5" in str(raised.value)
    assert "(test_run_guard.py, line " in str(raised.value)
    assert str(raised.value).endswith("Put the file where the code looks for it, or correct the path.")


def test_a_score_without_the_item_state_is_told_where_it_is_passed() -> None:
    model: Any = guarded(Scorer(lambda state, items: items[:, 0]))
    with pytest.raises(InvalidInputError, match=r"takes 2 positional .* item_state as a third argument"):
        model.score({"user": tf.zeros([4])}, tf.zeros([3, 4]), {"price": tf.zeros([3])})


@pytest.mark.parametrize("batch_score", [False, True])
@pytest.mark.parametrize(
    "score",
    [
        lambda state, items: tf.einsum("be,be->b", state["user"], items),
        lambda state, items: tf.concat([state["user"], items], -1),
        lambda state, items: keras.layers.Dense(1)(state["user"]),
    ],
)
def test_a_dimension_too_few_may_be_a_score_of_pairs(score: Callable[..., Any], batch_score: bool) -> None:
    """It is the first slip of who brings a ranking network. A model that says batch_score knows of it."""
    model = Scorer(score)
    model.batch_score = batch_score  # type: ignore[attr-defined]
    traced = tf.function(guarded(model).score, autograph=False)
    with pytest.raises(InvalidInputError) as raised:
        traced.get_concrete_function(
            {"user": tf.TensorSpec([4], tf.float32)}, tf.TensorSpec([3, 4], tf.float32)
        )
    assert str(raised.value).endswith("of pairs says so by batch_score = True.") is not batch_score


def _traced(score: Callable[..., Any]) -> Any:
    return tf.function(guarded(Scorer(score)).score, autograph=False).get_concrete_function(
        {"user": tf.TensorSpec([4], tf.float32), "rounds": tf.TensorSpec([], tf.int32)},
        tf.TensorSpec([3, 4], tf.float32),
    )


def test_python_s_control_flow_over_tensors_is_converted() -> None:
    def score(state: Any, items: Any) -> Any:
        for _ in tf.range(state["rounds"]):
            items = tf.tanh(items + state["user"])
        if state["rounds"] > 2:
            return items[:, 0]
        return items[:, 1]

    traced, items = _traced(score), tf.reshape(tf.range(12.0), [3, 4])
    for rounds in (0, 1, 5):
        state = {"user": tf.constant([0.1, -0.2, 0.3, 0.4]), "rounds": tf.constant(rounds)}
        np.testing.assert_allclose(traced(state, items), score(state, items), rtol=1e-6)


def test_what_is_converted_runs_once_where_it_need_not_be() -> None:
    calls = []

    def score(state: Any, items: Any) -> Any:
        calls.append(state)
        return items[:, 0]

    _traced(score)
    assert len(calls) == 1


def _inner(items: tf.Tensor) -> tf.Tensor:
    return tf.matmul(items, tf.ones([3, 1]))[:, 0]


def _keras_inside(state: Any, items: tf.Tensor) -> Any:
    network = keras.Sequential([keras.Input([8]), keras.layers.Dense(1)])
    return network(items)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (lambda state, items: _inner(items), r"Dimensions must be equal.*: return tf\.matmul\("),
        (lambda state, items: state["usr"], r"KeyError: 'usr' .*Use the names"),
        (_keras_inside, r"line \d+: return network\(items\)\).*that it was built for"),
    ],
)
def test_the_line_is_named_in_converted_code_too(score: Callable[..., Any], expected: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^score: .*\(?test_run_guard\.py, line ") as raised:
        _traced(tf.function(score))
    assert re.search(expected, str(raised.value))
    assert "in user code" not in str(raised.value)


def test_features_declared_with_a_batch_are_named() -> None:
    class Batched:
        user_features = {"clicks": tf.TensorSpec([None, 5], tf.int64), "hour": tf.TensorSpec([], tf.int64)}  # noqa: RUF012
        user_state = {"history": tf.TensorSpec([5, 4], tf.float32)}  # noqa: RUF012

        def embed_user(self, features: Any) -> Any:
            return {"history": tf.zeros([*features["clicks"].shape, 4])}

    model = guarded(Batched(), check_results=True)
    with pytest.raises(InvalidInputError, match=r"no batch dimension: the None of clicks is any number"):
        model.embed_user({"clicks": tf.zeros([2, 3, 5], tf.int64)})


def test_errors_of_ours_pass() -> None:
    def score(state: Any, items: Any) -> Any:
        raise InvalidFileError("prices.npy: expected prices, found none. Write them.")

    with pytest.raises(InvalidFileError, match=r"^prices\.npy"):
        guarded(Scorer(score)).score({}, None)


def test_a_long_message_is_cut_at_its_sentence() -> None:
    shapes = "with input shapes: [128,8], [9,1]"
    assert said(
        ValueError(f"Equal are 8 for '{{{{node MatMul}}}} = MatMul[T=DT_FLOAT](a, b)' {shapes}.")
    ) == (f"ValueError: Equal are 8 {shapes}")
    assert said(ValueError(f"Bad shape. {'You may try this. ' * 50}")) == "ValueError: Bad shape"
    assert len(said(ValueError("x" * 1000))) < 250


def test_keyboard_interrupts_pass() -> None:
    with pytest.raises(KeyboardInterrupt), own_code("score"):
        raise KeyboardInterrupt


def test_a_guarded_model_is_guarded_once_and_keeps_its_name() -> None:
    model = guarded(guarded(Scorer(lambda state, items: items)))
    assert isinstance(model.unguarded, Scorer)
    assert class_name(model) == f"{__name__}:Scorer"
    assert model.user_state == Scorer.user_state


def test_the_command_line_prints_the_sentence_and_the_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "embeddings").mkdir(parents=True)
    (run / "guarded_model.py").write_text(_MODEL)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "guarded_model:Model"}))
    np.save(run / "embeddings/item_ids.npy", np.arange(50))
    np.save(run / "embeddings/item_embs.npy", np.eye(50, 4, dtype=np.float32))
    runner = CliRunner()
    assert runner.invoke(main, ["index", "--run", str(run), "--m", "4"]).exit_code == 0
    done = runner.invoke(main, ["export", "--run", str(run), "--out", str(tmp_path / "models/1")])
    assert done.exit_code == 1
    text = " ".join(done.output.split())
    assert (
        "Error: score: expected code that runs, found KeyError: 'usr' (guarded_model.py, line 20: return"
        in text
    )
    assert "Traceback" not in text


def test_functions_of_a_loaded_run_are_guarded(tmp_path: Path) -> None:
    (tmp_path / "loaded_model.py").write_text(_MODEL)
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "model": "loaded_model:Model"}))
    model = load_model(tmp_path)
    assert class_name(model) == "loaded_model:Model"
    with pytest.raises(InvalidInputError, match=r"^score: .*KeyError"):
        model.score({"user": tf.zeros([4])}, tf.zeros([3, 4]))
