"""Loading the model that run.json names: found, or refused with the reason."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from nann.errors import InvalidFileError, InvalidInputError
from nann.export import RetrievalModel, constants, load_model, read_run
from nann.export._inputs import named_model
from nann.export._operations import check_operations

_SOURCE = """
class Model:
    user_features = {}
    user_state = {}
    embedding_dim = 8

    def __init__(self, run_dir):
        self.run_dir = run_dir

    @classmethod
    def from_run(cls, run_dir):
        return cls(run_dir)

    def embed_user(self, features): ...
    def embed_item(self, features): ...
    def score(self, user_state, item_embs): ...

class Half:
    @classmethod
    def from_run(cls, run_dir):
        return cls()
    embedding_dim = 8

class Bare: ...
"""


def _run(folder: Path, content: Any) -> Path:
    (folder / "my_own_model.py").write_text(_SOURCE)
    (folder / "run.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_a_class_beside_run_json_is_found(tmp_path: Path) -> None:
    model = load_model(_run(tmp_path, {"format": 1, "model": "my_own_model:Model"}))
    assert isinstance(model, RetrievalModel)
    assert model.embedding_dim == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"run\.json: expected a JSON object"),
        ([], r"run\.json: expected a JSON object, found list"),
        ({"format": 2}, r"run\.json: expected format 1, found 2"),
        ({"format": 1}, r'model: expected "module:Class", found None'),
        ({"format": 1, "model": "my_own_model.Model"}, r'model: expected "module:Class"'),
        (
            {"format": 1, "model": "no_such_module:Model"},
            "expected an importable module, found 'no_such_module'",
        ),
        ({"format": 1, "model": "my_own_model:Nope"}, r"expected a class with from_run.* Nope = None"),
        ({"format": 1, "model": "my_own_model:Bare"}, r"expected a class with from_run"),
        (
            {"format": 1, "model": "my_own_model:Half"},
            r"Half: expected a retrieval model, found no user_features",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InvalidFileError, match=message):
        load_model(_run(tmp_path, content))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidFileError, match=r"run\.json: expected the description of a run, found no such"
    ) as error:
        read_run(tmp_path)
    assert "or write the file: docs/your-model.md" in str(error.value)


def test_a_process_without_eager_execution_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInputError, match="eager execution, found it disabled"),
        tf.Graph().as_default(),
    ):
        named_model(_run(tmp_path, {"format": 1, "model": "my_own_model:Model"}), None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("spectral_norm", "a change of a variable's state"),
        ("batch_normalization", "batch normalization in training mode"),
    ],
)
def test_what_changes_state_is_named(name: str, kind: str) -> None:
    kernel = tf.Variable([1.0])

    def score(x: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(name):
            return x * kernel.assign(kernel / tf.norm(kernel))

    function = tf.function(score).get_concrete_function(tf.TensorSpec([1], tf.float32))
    with pytest.raises(InvalidInputError, match=f"found {kind} \\({name}/AssignVariableOp"):
        check_operations(function, what="score")


def test_a_graph_whose_variables_stay_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a SavedModel of TensorFlow 1, of whose tables TensorFlow loses track."""

    def fail(*_: Any) -> None:
        raise ValueError("input resource[0] expected type resource != float, the type of embeddings[0]")

    weight = tf.Variable([2.0])
    function = tf.function(lambda x: x * weight).get_concrete_function(tf.TensorSpec([1], tf.float32))
    monkeypatch.setattr(constants.convert_to_constants, "_construct_concrete_function", fail)
    with pytest.raises(InvalidInputError, match=r"score: .*type of embeddings\[0\]\). Save the model"):
        constants.freeze(function, what="score")


def _run_of_its_own(run: Path, answer: str) -> Path:
    """A run with a module and one beside it, of the same names in every run."""
    run.mkdir()
    (run / "own_model.py").write_text(
        "from own_answer import ANSWER\n"
        "class Model:\n"
        "    user_features, user_state, embedding_dim = {}, {}, 1\n"
        "    embed_user = embed_item = None\n"
        "    @classmethod\n"
        "    def from_run(cls, run_dir):\n"
        "        import own_late_answer\n"
        "        return cls()\n"
        "    def score(self, user_state, item_embs):\n"
        "        from own_late_answer import ANSWER as LATE\n"
        "        return ANSWER, LATE\n"
    )
    for module in ("own_answer", "own_late_answer"):
        (run / f"{module}.py").write_text(f"ANSWER = {answer!r}\n")
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "own_model:Model"}))
    return run


def test_runs_whose_modules_have_the_same_names_keep_their_own(tmp_path: Path) -> None:
    known = set(sys.modules)
    first = load_model(_run_of_its_own(tmp_path / "a", "first"))
    second = load_model(_run_of_its_own(tmp_path / "b", "second"))
    assert first.score({}, None) == ("first", "first")
    assert second.score({}, None) == ("second", "second")
    assert not {name for name in set(sys.modules) - known if name.startswith("own_")}
    assert not {str(tmp_path / name) for name in "ab"} & set(sys.path)


def test_a_module_of_the_run_counts_before_one_that_python_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = _run_of_its_own(tmp_path / "elsewhere", "elsewhere")
    monkeypatch.syspath_prepend(str(elsewhere))
    importlib.import_module("own_model")
    assert load_model(_run_of_its_own(tmp_path / "run", "run")).score({}, None) == ("run", "run")
    assert Path(sys.modules["own_model"].__file__ or "").parent == elsewhere
