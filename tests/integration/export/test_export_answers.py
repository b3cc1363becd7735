"""What an export answers: the reference search, from anywhere, without Python of ours."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from nann.export import ExportOptions, Tuning, export_model, read_index
from nann.export.index.oracle import beam_search
from nann.export.loaded import loaded
from nann.ops import library_path
from support.tiny_model import D, E, L, TinyModel, TwoStatesModel

BEAMS = [10, 30, 40, 40, 40, 25]
# What these tests compare with is the fixed walk of the oracle.
FIXED = ExportOptions(table_bytes=0, tuning=Tuning(walk="fixed"))


def _oracle(run: Path, model: Any, state: dict[str, Any], beams: list[int], excluded: Any = ()) -> Any:
    embs = np.load(run / "embeddings/item_embs.npy").astype(np.float32)
    ids = np.load(run / "embeddings/item_ids.npy")
    scored = {name: tf.constant(value) for name, value in state.items()}
    return beam_search(
        read_index(run / "index"),
        ids,
        lambda at: model.score(scored, tf.constant(embs[at])).numpy(),
        beams,
        excluded,
    )


def _state(users: int, seed: int = 0) -> npt.NDArray[np.float32]:
    state = np.random.default_rng(seed).normal(size=(users, L, E)).astype(np.float16).astype(np.float32)
    state[:, 0] = 0  # a missing event
    return state


def _assert_agree(ids: Any, scores: Any, expected: Any) -> None:
    np.testing.assert_array_equal(np.sort(ids), np.sort(expected[0]))
    np.testing.assert_allclose(scores, expected[1], rtol=2e-5, atol=1e-5)


def test_serving_default_answers_as_the_oracle(shared_run: Path, shared_export: Path) -> None:
    state = _state(3)
    with loaded(shared_export) as model:
        found = model.run(
            "serving_default",
            {"comm_seq": state.reshape(3, -1).astype(np.float16), "level_topn": np.array(BEAMS, np.int32)},
        )
    assert (found["top_k"].dtype, found["scores"].dtype) == (np.int64, np.float32)
    assert set(found) == {"top_k", "scores"}
    for user in range(3):
        expected = _oracle(shared_run, TinyModel(), {"comm_seq": state[user]}, BEAMS)
        _assert_agree(found["top_k"][user], found["scores"][user], expected)


def test_retrieve_takes_beams_and_exclusions_of_each_row(shared_run: Path, shared_export: Path) -> None:
    state = _state(2, seed=1)
    beams = [BEAMS, [5, 10, 10, 10, 10, 12]]
    first = _oracle(shared_run, TinyModel(), {"comm_seq": state[0]}, BEAMS)[0]
    excluded = np.array([[first[0], first[3], -1], [-1, 999_999, -1]], np.int64)
    with loaded(shared_export) as model:
        found = model.run(
            "retrieve",
            {
                "comm_seq": state.reshape(2, -1),
                "level_topn": np.array(beams, np.int32),
                "exclude_ids": excluded,
            },
        )
    assert found["top_k"].shape == (2, 25)
    assert not set(excluded[0]) & set(found["top_k"][0])
    assert found["top_k"][1, 12:].tolist() == [-1] * 13
    assert np.isneginf(found["scores"][1, 12:]).all()
    for user, k in enumerate([25, 12]):
        expected = _oracle(shared_run, TinyModel(), {"comm_seq": state[user]}, beams[user], excluded[user])
        _assert_agree(found["top_k"][user, :k], found["scores"][user, :k], expected)
        assert found["items_scored"][user] == expected[2]


def test_retrieve_by_ids_takes_ids_as_the_caller_knows_them(shared_run: Path, shared_export: Path) -> None:
    item_ids = np.array([[0, 1, 3, 119, 777_777]], np.int64)  # vocabulary: 1, 3, ..., 119
    cate_ids = np.array([[0, 100, 106, 103, 100]], np.int64)  # vocabulary: 100 .. 106
    rows = {"item_ids": tf.constant([[0, 1, 2, 60, 0]]), "cate_ids": tf.constant([[0, 1, 7, 4, 1]])}
    state = TinyModel().embed_user(rows)["comm_seq"].numpy()[0]
    beams = np.array([BEAMS], np.int32)
    with loaded(shared_export) as model:
        inputs = {"level_topn": beams, "exclude_ids": np.zeros((1, 0), np.int64)}
        by_ids = model.run("retrieve_by_ids", {**inputs, "item_ids": item_ids, "cate_ids": cate_ids})
        by_state = model.run("retrieve", {**inputs, "comm_seq": state.reshape(1, -1)})
    _assert_agree(
        by_ids["top_k"][0], by_ids["scores"][0], _oracle(shared_run, TinyModel(), {"comm_seq": state}, BEAMS)
    )
    np.testing.assert_array_equal(by_ids["top_k"], by_state["top_k"])


def test_score_scores_given_items(shared_run: Path, shared_export: Path) -> None:
    state = _state(2, seed=2)
    ids = np.load(shared_run / "embeddings/item_ids.npy")
    embs = np.load(shared_run / "embeddings/item_embs.npy")
    asked = np.stack([[ids[0], -1, ids[499]], [1, ids[7], ids[7]]])
    with loaded(shared_export) as model:
        found = model.run("score", {"comm_seq": state.reshape(2, -1), "item_ids": asked})["scores"]
    for user, rows in enumerate([[0, None, 499], [None, 7, 7]]):
        for column, row in enumerate(rows):
            if row is None:
                assert found[user, column] == -np.inf
            else:
                expected = TinyModel().score(
                    {"comm_seq": tf.constant(state[user])}, tf.constant(embs[row : row + 1])
                )
                np.testing.assert_allclose(found[user, column], expected[0], rtol=1e-5, atol=1e-6)


_CHILD = """
import json, sys
import numpy as np
import tensorflow as tf
tf.load_op_library(sys.argv[1])
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], sys.argv[2])
    signature = graph.signature_def["serving_default"]
    outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
    found = session.run(outputs, {
        signature.inputs["comm_seq"].name: np.load(sys.argv[3]),
        signature.inputs["level_topn"].name: json.loads(sys.argv[4]),
    })
ours = sorted(name for name in sys.modules if name.split(".")[0] == "nann")
print(json.dumps({"ids": found["top_k"].tolist(), "scores": found["scores"].tolist(), "ours": ours}))
"""


def test_a_moved_export_answers_without_our_python_and_its_sources(
    run: Path, tmp_path: Path, subprocess_env: dict[str, str]
) -> None:
    export_model(run, tmp_path / "models/nann/1", FIXED)
    state = _state(1)
    expected = _oracle(run, TinyModel(), {"comm_seq": state[0]}, BEAMS)
    shutil.rmtree(run)
    shutil.move(tmp_path / "models", tmp_path / "elsewhere")
    np.save(tmp_path / "state.npy", state.reshape(1, -1).astype(np.float16))
    arguments = [
        str(library_path()),
        str(tmp_path / "elsewhere/nann/1"),
        str(tmp_path / "state.npy"),
        json.dumps(BEAMS),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments],
        env=subprocess_env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ours"] == []
    _assert_agree(found["ids"][0], found["scores"][0], expected)


class _SiluModel(TinyModel):
    """Keras and TensorFlow give silu a gradient of its own, which a SavedModel cannot hold once frozen."""

    def score(self, user_state: dict[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        return tf.nn.silu(super().score(user_state, item_embs))


def test_a_scorer_with_a_custom_gradient_is_exported(run: Path, tmp_path: Path) -> None:
    """The export verifies its answers itself."""
    result = export_model(run, tmp_path / "models" / "1", model=_SiluModel())
    assert "serving_default" in result["verified"]["signatures"]


def test_one_input_for_each_state_tensor(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models/1"
    export_model(run, out, FIXED, model=TwoStatesModel())
    random = np.random.default_rng(5)
    state = {"taste": random.normal(size=(2, D)).astype(np.float32), "mood": np.arange(D, dtype=np.int32)}
    with loaded(out) as model:
        assert model.names == ["retrieve", "score", "serving_default"]
        found = model.run(
            "retrieve",
            {
                "taste": state["taste"].reshape(1, -1),
                "mood": state["mood"].reshape(1, -1),
                "level_topn": np.array([BEAMS], np.int32),
                "exclude_ids": np.zeros((1, 0), np.int64),
            },
        )
    expected = _oracle(run, TwoStatesModel(), state, BEAMS)
    _assert_agree(found["top_k"][0], found["scores"][0], expected)


@pytest.fixture(scope="module")
def unchecked(shared_export: Path) -> Any:
    """Run a signature as a C++ session does: shapes are not held against the signature's."""
    graph = tf.Graph()
    with contextlib.closing(tf.compat.v1.Session(graph=graph)) as session:
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(shared_export))
        signatures = meta_graph.signature_def
        calls: dict[str, Any] = {}

        def run(signature: str, inputs: dict[str, Any]) -> Any:
            names = sorted(inputs)
            if signature not in calls:
                options = config_pb2.CallableOptions()
                options.feed.extend(signatures[signature].inputs[name].name for name in names)
                options.fetch.append(signatures[signature].outputs["scores"].name)
                calls[signature] = session._make_callable_from_options(options)
            return calls[signature](*[inputs[name] for name in names])

        yield run


_DEFAULT = {"comm_seq": np.zeros((1, L * E), np.float16), "level_topn": np.array(BEAMS, np.int32)}
_FULL = np.zeros((1, L * E), np.float32)
_RETRIEVE = {
    "comm_seq": _FULL,
    "level_topn": np.array([BEAMS], np.int32),
    "exclude_ids": np.zeros((1, 0), np.int64),
}
_BY_IDS = {
    "item_ids": np.zeros((1, L), np.int64),
    "cate_ids": np.zeros((1, L), np.int64),
    "level_topn": np.array([BEAMS], np.int32),
    "exclude_ids": np.zeros((1, 0), np.int64),
}
_SCORE = {"comm_seq": _FULL, "item_ids": np.array([[3]], np.int64)}


def _beams(*beams: int, dtype: type = np.int32) -> npt.NDArray[Any]:
    return np.array(beams, dtype)


_BAD = [
    (
        "serving_default",
        _DEFAULT,
        "comm_seq",
        np.zeros((1, 39), np.float16),
        r"comm_seq.*\[1,39\].*\[\?,40\]",
    ),
    ("serving_default", _DEFAULT, "comm_seq", np.zeros(40, np.float16), r"comm_seq.*\[40\].*\[\?,40\]"),
    ("serving_default", _DEFAULT, "comm_seq", np.zeros((1, L, E), np.float16), r"comm_seq.*\[1,5,8\]"),
    ("serving_default", _DEFAULT, "comm_seq", np.zeros((1, 40), np.float32), "half.*float|float.*half"),
    ("serving_default", _DEFAULT, "level_topn", _beams(*BEAMS[:-1]), "level_topn.*6.*5"),
    ("serving_default", _DEFAULT, "level_topn", _beams(*BEAMS, 5), "level_topn.*6.*7"),
    ("serving_default", _DEFAULT, "level_topn", np.array([BEAMS], np.int32), r"level_topn.*\[1,6\].*\[\?\]"),
    ("serving_default", _DEFAULT, "level_topn", _beams(10, 0, 40, 40, 40, 25), "level_topn.* 0"),
    ("serving_default", _DEFAULT, "level_topn", _beams(10, 30, 40, 40, 40, -1), "level_topn.*-1"),
    ("serving_default", _DEFAULT, "level_topn", _beams(10, 65_537, 40, 40, 40, 25), "level_topn.*65,?537"),
    ("serving_default", _DEFAULT, "level_topn", _beams(*BEAMS, dtype=np.int64), "int32.*int64|int64.*int32"),
    ("retrieve", _RETRIEVE, "comm_seq", np.zeros((1, 41), np.float32), r"comm_seq.*\[1,41\].*\[\?,40\]"),
    ("retrieve", _RETRIEVE, "level_topn", np.array(BEAMS, np.int32), r"level_topn.*\[6\].*\[\?,\?\]"),
    ("retrieve", _RETRIEVE, "level_topn", np.array([BEAMS, BEAMS], np.int32), "level_topn.*2"),
    ("retrieve", _RETRIEVE, "exclude_ids", np.zeros((2, 1), np.int64), "exclude_ids.*2"),
    ("retrieve", _RETRIEVE, "exclude_ids", np.zeros(1, np.int64), r"exclude_ids.*\[1\].*\[\?,\?\]"),
    ("retrieve_by_ids", _BY_IDS, "item_ids", np.zeros((1, 4), np.int64), r"item_ids.*\[1,4\].*\[\?,5\]"),
    ("retrieve_by_ids", _BY_IDS, "cate_ids", np.zeros((1, 6), np.int64), r"cate_ids.*\[1,6\].*\[\?,5\]"),
    (
        "retrieve_by_ids",
        _BY_IDS,
        "cate_ids",
        np.zeros((2, 5), np.int64),
        r"item_ids, cate_ids: expected as many rows in each, found.*\[1 2\]",
    ),
    ("score", _SCORE, "item_ids", np.zeros(3, np.int64), r"item_ids.*\[3\].*\[\?,\?\]"),
    (
        "score",
        _SCORE,
        "item_ids",
        np.zeros((2, 3), np.int64),
        r"comm_seq, item_ids: expected as many rows in each, found.*\[1 2\]",
    ),
]


@pytest.mark.parametrize(("signature", "good", "name", "value", "message"), _BAD)
def test_bad_inputs_are_refused(
    unchecked: Any, signature: str, good: dict[str, Any], name: str, value: Any, message: str
) -> None:
    assert unchecked(signature, good)[0].dtype == np.float32
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        unchecked(signature, {**good, name: value})


def test_the_work_of_a_request_is_capped(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models/1"
    assert export_model(run, out, ExportOptions(level_topn=[30] * 6, max_work=200))["verified"]["users"] == 1
    with loaded(out) as model:
        inputs = {"comm_seq": np.zeros((1, L * E), np.float16)}
        model.run("serving_default", {**inputs, "level_topn": _beams(*[20] * 6)})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"level_topn.*200"):
            model.run("serving_default", {**inputs, "level_topn": _beams(*[40] * 6)})
