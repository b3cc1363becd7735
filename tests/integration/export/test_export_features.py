"""Features of any type, length and name, end to end: as callers send them, and as the model takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export import ExportOptions, export_model
from nann.export._model_specs import check_model_specs, plain_names
from nann.export.loaded import LoadedModel
from nann.ops import load_library
from support.tiny_model import D
from support.tiny_run import N, write_run

BEAMS = [20, 40, 40, 40, 40, 10]


class _Model:
    """A user is the sum of what `embed` makes of the features."""

    embedding_dim = D

    def __init__(self, features: Mapping[str, Any], embed: Any, state: str = "user") -> None:
        self.user_features = dict(features)
        self.user_state = {state: tf.TensorSpec([D], tf.float32)}
        self._embed, self._state = embed, state
        self.table = tf.Variable(np.random.default_rng(1).normal(size=(N, D)).astype(np.float32))

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        return {self._state: self._embed(self, features)}

    def embed_item(self, features: Any) -> tf.Tensor:
        raise NotImplementedError

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(item_embs, user_state[self._state])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without vocabularies."""
    run = write_run(tmp_path_factory.mktemp("features") / "run")
    for file in (run / "vocabulary").iterdir():
        file.unlink()
    return run


def _exported(run: Path, folder: Path, model: _Model) -> Path:
    export_model(run, folder / "nann/1", ExportOptions(level_topn=BEAMS), model=model)
    return folder / "nann/1"


def _found(exported: LoadedModel, features: Mapping[str, Any]) -> tuple[Any, Any]:
    features = {name: np.asarray(values) for name, values in features.items()}
    users = len(next(iter(features.values())))
    beams = np.tile(np.asarray(BEAMS, np.int32), (users, 1))
    inputs = {**features, "level_topn": beams, "exclude_ids": np.zeros((users, 0), np.int64)}
    found = exported.run("retrieve_by_ids", inputs)
    return found["top_k"], found["scores"]


def _scores(exported: LoadedModel, model: _Model, features: Mapping[str, Any], ids: Any) -> Any:
    """By `score`, of the state that the model makes of the features."""
    state = model.embed_user({name: tf.constant(values) for name, values in features.items()})
    inputs = {name: value.numpy() for name, value in state.items()}
    return exported.run("score", {**inputs, "item_ids": ids})["scores"]


def test_integers_without_a_vocabulary_and_strings_pass_as_they_are(run: Path, tmp_path: Path) -> None:
    words = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["de", "fr"], tf.constant([3, 4], tf.int64)), 0
    )

    def embed(self: _Model, features: Any) -> tf.Tensor:
        days = tf.cast(features["now"] // 86_400 % 7, tf.int32)
        rows = [
            tf.cast(features["hour"], tf.int32),
            days,
            tf.cast(words.lookup(features["country"]), tf.int32),
        ]
        known = tf.cast(features["known"], tf.float32)[:, tf.newaxis]
        return tf.add_n([tf.gather(self.table, each) for each in rows]) + known

    model = _Model(
        {
            "hour": tf.TensorSpec([], tf.int32),
            "now": tf.TensorSpec([], tf.int64),
            "country": tf.TensorSpec([], tf.string),
            "known": tf.TensorSpec([], tf.bool),
        },
        embed,
    )
    features = {
        "hour": np.array([0, 23], np.int32),
        "now": np.array([1_790_000_001, -5]),
        "country": np.array([b"fr", b""], object),
        "known": np.array([True, False]),
    }
    with LoadedModel(_exported(run, tmp_path, model)) as exported:
        ids, scores = _found(exported, features)
        np.testing.assert_allclose(scores, _scores(exported, model, features, ids), rtol=1e-5)


def _mean(self: _Model, features: Any) -> tf.Tensor:
    """Of all that arrives: padding would change it."""
    rows = tf.gather(self.table, features["clicks"])
    last = tf.cast(tf.strings.length(features["words"])[:, -1], tf.float32)
    return tf.reduce_mean(rows, axis=1) + last[:, tf.newaxis]


OPEN = {"clicks": tf.TensorSpec([None], tf.int64), "words": tf.TensorSpec([None], tf.string)}


def test_what_lies_beyond_a_length_is_ignored(run: Path, tmp_path: Path) -> None:
    model = _Model(OPEN, _mean)
    with LoadedModel(_exported(run, tmp_path, model)) as exported:
        histories = [([5, 6, 7, 8], [b"a", b"long"]), ([9], [b""]), ([], [])]
        alone = {
            "clicks": [np.array([clicks or [0]], np.int64) for clicks, _ in histories],
            "words": [np.array([words or [b""]], object) for _, words in histories],
        }
        batch = {
            "clicks": np.array([[5, 6, 7, 8], [9, N - 1, 3, 3], [N - 1, 1, 2, 3]]),
            "clicks_length": np.array([4, 1, 0], np.int32),
            "words": np.array([[b"a", b"long", b"xx"], [b"", b"yyyyyyy", b""], [b"z"] * 3], object),
            "words_length": np.array([2, 1, 0], np.int32),
        }
        ids, scores = _found(exported, batch)
        for user in range(3):
            features = {name: values[user] for name, values in alone.items()}
            expected = _scores(exported, model, features, ids[user : user + 1])
            np.testing.assert_allclose(scores[user], expected[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ([3, 9], r"clicks_length: expected 0 to the width of clicks,\] \[2\] \[found\] \[3 9\]"),
        ([-1, 3], r"clicks_length: expected 0 to the width of clicks"),
        ([1], r"clicks_length: expected a value for each row of clicks, found\] \[1\]"),
    ],
)
def test_wrong_lengths_are_refused(run: Path, tmp_path: Path, length: list[int], message: str) -> None:
    model = _Model({"clicks": OPEN["clicks"]}, lambda self, x: tf.gather(self.table, x["clicks"])[:, 0])
    features = {"clicks": np.ones([2, 2], np.int64), "clicks_length": np.array(length, np.int32)}
    with (
        LoadedModel(_exported(run, tmp_path, model)) as exported,
        pytest.raises(tf.errors.InvalidArgumentError, match=message),
    ):
        _found(exported, features)


def test_a_wrong_length_is_that_row_s_alone(run: Path, tmp_path: Path) -> None:
    model = _Model({"clicks": OPEN["clicks"]}, lambda self, x: tf.gather(self.table, x["clicks"])[:, 0])
    inputs = {
        "clicks": np.array([[1, 2], [3, 4], [5, 6]]),
        "clicks_length": np.array([2, 3, 1], np.int32),
        "level_topn": np.array([BEAMS] * 3, np.int32),
        "exclude_ids": np.full((3, 1), -1, np.int64),
    }
    with LoadedModel(_exported(run, tmp_path, model)) as exported:
        found = exported.run("retrieve_by_ids", inputs)
        fixed = exported.run("retrieve_by_ids", {**inputs, "clicks_length": np.array([2, 0, 1], np.int32)})
        assert found["row_status"].tolist() == [0, 3, 0]
        assert fixed["row_status"].tolist() == [0, 0, 0]
        np.testing.assert_array_equal(found["top_k"][[0, 2]], fixed["top_k"][[0, 2]])
        assert (found["top_k"][1] == -1).all()
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"1 vs. 3|batch"):
            exported.run("retrieve_by_ids", {**inputs, "level_topn": np.array([BEAMS], np.int32)})


def _weighted(self: _Model, features: Any) -> tf.Tensor:
    """A weight for each click; the words are as many as they are."""
    rows = tf.gather(self.table, features["clicks"]) * features["weights"][..., tf.newaxis]
    words = tf.cast(tf.shape(features["words"])[1], tf.float32)
    return tf.reduce_sum(rows, axis=1) + words


def test_features_that_belong_together_have_as_many_values(run: Path, tmp_path: Path) -> None:
    model = _Model({**OPEN, "weights": tf.TensorSpec([None], tf.float32)}, _weighted)
    inputs = {
        "clicks": np.array([[1, 2], [3, 4], [5, 6]]),
        "clicks_length": np.array([2, 2, 3], np.int32),
        "weights": np.ones([3, 2], np.float32),
        "weights_length": np.array([2, 1, 2], np.int32),
        "words": np.full([3, 1], b"a", object),
        "words_length": np.array([1, 1, 0], np.int32),
        "level_topn": np.array([BEAMS] * 3, np.int32),
        "exclude_ids": np.full((3, 1), -1, np.int64),
    }
    with LoadedModel(_exported(run, tmp_path, model)) as exported:
        found = exported.run("retrieve_by_ids", inputs)
        assert found["row_status"].tolist() == [0, 3, 3]
        assert (found["top_k"][0] >= 0).all()
        one = {name: value[1:2] for name, value in inputs.items()}
        message = r"clicks_length, weights_length: expected as many values of clicks as of weights.*2.*and.*1"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            exported.run("retrieve_by_ids", one)


def _sum(self: _Model, features: Any) -> tf.Tensor:
    return tf.gather(self.table, features["first"]) + tf.gather(self.table, features["second"])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_features_have_a_row_for_each_user(run: Path, tmp_path: Path, rows: int) -> None:
    model = _Model({"first": tf.TensorSpec([], tf.int64), "second": tf.TensorSpec([], tf.int64)}, _sum)
    with LoadedModel(_exported(run, tmp_path, model)) as exported:
        message = rf"first, second: expected as many rows in each, found.*\[2 {rows}\]"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            _found(exported, {"first": np.array([3, 4]), "second": np.zeros(rows, np.int64)})


def _beside(self: _Model, features: Any) -> tf.Tensor:
    return tf.reduce_mean(tf.gather(self.table, features["clicks"]), axis=1) + tf.gather(
        self.table, features["first"]
    )


def test_no_user_beside_a_feature_of_any_length_is_ignored(run: Path, tmp_path: Path) -> None:
    model = _Model({"clicks": OPEN["clicks"], "first": tf.TensorSpec([], tf.int64)}, _beside)
    features = {
        "clicks": np.array([[5], [6]]),
        "clicks_length": np.array([1, 1], np.int32),
        "first": np.array([3, 4, 5]),
    }
    with LoadedModel(_exported(run, tmp_path, model)) as exported:
        message = r"clicks, first: expected as many rows in each, found.*\[2 3\]"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            _found(exported, features)


class _TwoStates(_Model):
    """A state of two tensors."""

    def __init__(self) -> None:
        super().__init__({"first": tf.TensorSpec([], tf.int64)}, None)
        self.user_state = {name: tf.TensorSpec([D], tf.float32) for name in ("left", "right")}

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        return dict.fromkeys(self.user_state, tf.gather(self.table, features["first"]))

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(item_embs, user_state["left"] + user_state["right"])


def test_states_have_a_row_for_each_user(run: Path, tmp_path: Path) -> None:
    states = {"left": np.zeros((2, D), np.float32), "right": np.zeros((1, D), np.float32)}
    beams = {"level_topn": np.array([BEAMS] * 2, np.int32), "exclude_ids": np.zeros((2, 0), np.int64)}
    with LoadedModel(_exported(run, tmp_path, _TwoStates())) as exported:
        for signature, others, found in (
            ("retrieve", beams, r"left, right: expected as many rows in each, found.*\[2 1\]"),
            ("score", {"item_ids": np.zeros((2, 1), np.int64)}, r"left, right, item_ids: .*\[2 1 2\]"),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match=found):
                exported.run(signature, {**states, **others})


NAMES = ["two words", "a-b", "a:b", "a.b", "1st", "_a", "class", "点击", "A", "a"]
# Python's own call of a signature takes these, `self` as `self_`, but none that differ in punctuation alone.
IN_PYTHON = ["two words", "a-b", "1st", "class", "点击"]


@pytest.mark.parametrize("names", [NAMES, ["self", "selfish"], IN_PYTHON])
def test_names_that_are_no_identifiers_work_end_to_end(run: Path, tmp_path: Path, names: list[str]) -> None:
    def embed(self: _Model, features: Any) -> tf.Tensor:
        return tf.add_n([tf.gather(self.table, features[name]) * 2.0**-i for i, name in enumerate(names)])

    model = _Model({name: tf.TensorSpec([], tf.int64) for name in names}, embed, state="user/vector now")
    folder = _exported(run, tmp_path, model)
    features = {name: np.array([i + 1]) for i, name in enumerate(names)}
    with LoadedModel(folder) as exported:
        assert set(exported.signatures["retrieve_by_ids"].inputs) == {*names, "level_topn", "exclude_ids"}
        ids, scores = _found(exported, features)
        np.testing.assert_allclose(scores, _scores(exported, model, features, ids), rtol=1e-5)
    if names == NAMES:
        return
    load_library()
    saved = tf.saved_model.load(str(folder))
    inputs = {{"self": "self_"}.get(name, name): tf.constant(values) for name, values in features.items()}
    found = saved.signatures["retrieve_by_ids"](
        **inputs, level_topn=tf.constant([BEAMS]), exclude_ids=tf.zeros([1, 0], tf.int64)
    )
    np.testing.assert_array_equal(found["top_k"], ids)


def test_a_vocabulary_belongs_to_the_feature_of_its_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for number, name in enumerate(("a b", "a-b")):
        np.save(run / f"vocabulary/{name}.npy", np.array([10, 20, 30]) + number)

    def embed(self: _Model, features: Any) -> tf.Tensor:
        return tf.gather(self.table, features["a b"] + 4 * features["a-b"])

    model = _Model({name: tf.TensorSpec([], tf.int64) for name in ("a b", "a-b")}, embed)
    with LoadedModel(_exported(run, tmp_path, model)) as exported:
        ids, scores = _found(exported, {"a b": np.array([20, 20]), "a-b": np.array([31, 30])})
        rows = {"a b": np.array([2, 2]), "a-b": np.array([3, 0])}
        np.testing.assert_allclose(scores, _scores(exported, model, rows, ids), rtol=1e-5)


def test_an_assertion_that_fails_for_a_row_is_named(tmp_path: Path) -> None:
    """The table has all rows; the model's author wants smaller ones."""
    run = write_run(tmp_path / "run")
    np.save(run / "vocabulary/item.npy", np.arange(1, N))

    def embed(self: _Model, features: Any) -> tf.Tensor:
        row = features["item"]
        with tf.control_dependencies([tf.debugging.assert_less(row, np.int64(N - 1), "no such item")]):
            return tf.gather(self.table, row)

    with pytest.raises(InvalidInputError, match=rf"found for row {N - 1} .*no such item.*Correct the model"):
        _exported(run, tmp_path, _Model({"item": tf.TensorSpec([], tf.int64)}, embed))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"a/b": tf.TensorSpec([], tf.int64)}, "user_features: expected names without '/'"),
        ({"a\n": tf.TensorSpec([], tf.int64)}, "user_features: expected names of printable characters"),
        ({"": tf.TensorSpec([], tf.int64)}, "user_features: expected names of printable characters"),
        ({"a": tf.TensorSpec([2, None], tf.int64)}, "user_features a: expected fixed sizes after the first"),
        (
            {"a": tf.TensorSpec([None], tf.int64), "a_length": tf.TensorSpec([], tf.int32)},
            r"the lengths of open features .* found \['a_length'\]",
        ),
    ],
)
def test_other_names_and_shapes_are_refused(features: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_model_specs(_Model(features, None))


def test_a_state_without_numbers_is_refused() -> None:
    model = _Model({"a": tf.TensorSpec([2], tf.int64)}, None)
    model.user_state = {**model.user_state, "none": tf.TensorSpec([0, 8], tf.float32)}
    with pytest.raises(InvalidInputError, match="user_state none: expected sizes of at least 1, found"):
        check_model_specs(model)


def test_plain_names_are_identifiers_each_once() -> None:
    plain = plain_names(["a", "A", "a-", "a_", "def", "9", "点", "_"])
    assert plain["a"] == "a"
    assert len({name.lower() for name in plain.values()}) == len(plain)
    assert all(name.isidentifier() and name[0].isalpha() for name in plain.values())
