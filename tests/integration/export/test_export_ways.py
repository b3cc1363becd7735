"""Exports without a class of one's own: Keras networks, a SavedModel, vectors, a faiss index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from click.testing import CliRunner
from keras import layers, ops

from nann.cli import main
from nann.errors import InvalidFileError, InvalidInputError
from nann.export import ExportOptions, build_index, export_faiss, export_model, export_vectors, from_keras
from nann.export.loaded import loaded
from nann.run import load_model

N, L, E = 300, 4, 8
IDS = 1_000 + 7 * np.arange(N, dtype=np.int64)
OPTIONS = ExportOptions(level_topn=(20, 40, 40, 40, 40, 10))
Floats = npt.NDArray[np.float32]


@pytest.fixture
def vectors() -> Floats:
    return np.random.default_rng(0).normal(size=(N, E)).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path, vectors: Floats) -> Path:
    """A run without run.json."""
    folder = tmp_path / "run"
    for name in ("embeddings", "vocabulary"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "embeddings/item_ids.npy", IDS)
    np.save(folder / "embeddings/item_embs.npy", vectors)
    np.save(folder / "vocabulary/item_ids.npy", IDS)
    build_index(folder, m=8, threads=1)
    return folder


def _networks() -> dict[str, keras.Model]:
    items = layers.Embedding(N + 1, E)
    ids = keras.Input([L], dtype="int64", name="item_ids")
    user = keras.Model(ids, {"hist": items(ids)})
    one = keras.Input([], dtype="int64", name="item_ids")
    hist, item = keras.Input([L, E], name="hist"), keras.Input([E], name="item")
    pooled = ops.mean(hist, axis=1)
    scorer = keras.Model([hist, item], layers.Dense(1)(layers.Dense(8, "gelu")(pooled * item) + pooled))
    return {"user": user, "item": keras.Model(one, items(one)), "scorer": scorer}


def _scores(folder: Path, state: dict[str, Floats]) -> Floats:
    with loaded(folder) as exported:
        found = exported.run("score", {**state, "item_ids": IDS[np.newaxis]})["scores"]
    return np.asarray(found[0])


def test_keras_networks_in_a_folder_and_as_objects_score_as_they_do(
    run: Path, tmp_path: Path, vectors: Floats
) -> None:
    networks = _networks()
    hist = np.random.default_rng(1).normal(size=(1, L, E)).astype(np.float32)
    expected = networks["scorer"].predict([np.repeat(hist, N, 0), vectors], verbose=0)[:, 0]
    result = export_model(run, tmp_path / "a/1", OPTIONS, model=from_keras(**networks))
    assert "retrieve_by_ids" in result["verified"]["signatures"]
    np.testing.assert_allclose(_scores(tmp_path / "a/1", {"hist": hist.reshape(1, -1)}), expected, atol=1e-5)

    (run / "keras").mkdir()
    for name, network in networks.items():
        network.save(run / f"keras/{name}.keras")
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "keras:keras"}))
    export_model(run, tmp_path / "b/1", OPTIONS)
    np.testing.assert_allclose(_scores(tmp_path / "b/1", {"hist": hist.reshape(1, -1)}), expected, atol=1e-5)


def test_keras_files_are_named_on_the_command_line(run: Path, tmp_path: Path, vectors: Floats) -> None:
    networks = _networks()
    for name, network in networks.items():
        network.save(tmp_path / f"{name}.keras")
    files = [part for name in networks for part in (f"--keras-{name}", tmp_path / f"{name}.keras")]
    result = _exported("--run", run, *files, "--out", tmp_path / "models/1")
    assert result["verified"]["signatures"] == ["retrieve", "retrieve_by_ids", "score", "serving_default"]
    hist = np.random.default_rng(1).normal(size=(1, L, E)).astype(np.float32)
    expected = networks["scorer"].predict([np.repeat(hist, N, 0), vectors], verbose=0)[:, 0]
    found = _scores(tmp_path / "models/1", {"hist": hist.reshape(1, -1)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "user.keras: expected"), (b"no archive", "user.keras: expected")],
)
def test_a_keras_file_that_is_none_is_named(
    run: Path, tmp_path: Path, content: bytes | None, text: str
) -> None:
    if content is not None:
        (tmp_path / "user.keras").write_bytes(content)
    arguments = ["--run", run, "--keras-user", tmp_path / "user.keras", "--out", tmp_path / "models/1"]
    done = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert done.exit_code == 1
    assert text in " ".join(done.output.split())
    assert not (tmp_path / "models").exists()


def _exported(*arguments: object) -> dict[str, Any]:
    """The result of a `nann export` that must succeed."""
    done = CliRunner().invoke(main, ["export", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_two_towers_need_no_scorer(run: Path, tmp_path: Path, vectors: Floats) -> None:
    ids = keras.Input([L], dtype="int64", name="item_ids")
    user = keras.Model(ids, layers.Dense(E)(ops.mean(layers.Embedding(N + 1, E)(ids), axis=1)))
    model = from_keras(user=user)
    assert list(model.user_state) == ["user"]
    export_model(run, tmp_path / "models/1", OPTIONS, model=model)
    query = vectors[:1]
    np.testing.assert_allclose(_scores(tmp_path / "models/1", {"user": query}), vectors @ query[0], atol=1e-5)


def test_a_sequential_network_has_a_named_input(run: Path, tmp_path: Path) -> None:
    network = keras.Sequential(
        [keras.Input([L], dtype="int64", name="item_ids"), layers.Embedding(N + 1, E), layers.Flatten()]
    )
    network.add(layers.Dense(E))
    model = from_keras(user=network)
    assert model.user_features == {"item_ids": tf.TensorSpec([L], tf.int64)}
    export_model(run, tmp_path / "models/1", OPTIONS, model=model)


def test_a_tower_that_was_only_called_gets_its_name(vectors: Floats) -> None:
    """As in the tutorials of TFRS: a Sequential network without keras.Input, which training has built."""
    tower = keras.Sequential(
        [layers.StringLookup(vocabulary=["a", "b"], mask_token=None), layers.Embedding(3, E)]
    )
    expected = tower(tf.constant(["b", "?"]))
    model = from_keras(user=tower, user_features={"user_id": tf.TensorSpec([], tf.string)})
    assert {name: spec.shape.as_list() for name, spec in model.user_state.items()} == {"user": [E]}
    found = model.embed_user({"user_id": tf.constant(["b", "?"])})
    np.testing.assert_array_equal(found["user"], expected)


def test_one_ranking_network_is_cut_at_its_layers(run: Path, tmp_path: Path) -> None:
    """docs/your-model.md: user, item and scorer are parts of a network that was trained as one."""
    clicked = keras.Input([None], dtype="int64", name="clicked_ids")
    country = keras.Input([], dtype="string", name="country")
    item_id, price = keras.Input([], dtype="int64", name="item_id"), keras.Input([], name="price")
    items = layers.Embedding(N + 1, E)
    words = layers.Embedding(3, 4)(layers.StringLookup(vocabulary=["de", "fr"])(country))
    clicks = ops.mean(items(clicked), axis=1)
    profile = layers.Dense(6, "relu", name="profile")(layers.Concatenate()([clicks, words]))
    item = layers.Concatenate(name="item_vector")([items(item_id), ops.log1p(price)[:, None]])
    hidden = layers.Dense(12, "relu")(layers.Concatenate()([profile, item]))
    ctr = keras.Model([clicked, country, item_id, price], layers.Dense(1, "sigmoid")(hidden))

    profile, item = ctr.get_layer("profile").output, ctr.get_layer("item_vector").output
    user_network = keras.Model(ctr.inputs[:2], {"profile": profile})
    item_network = keras.Model(ctr.inputs[2:], item)
    scorer = keras.Model({"profile": profile, "item": item}, ctr.output)

    prices = np.linspace(0, 50, N, dtype=np.float32)
    vectors = item_network.predict([np.arange(1, N + 1), prices], verbose=0)
    np.save(run / "embeddings/item_embs.npy", vectors)
    np.save(run / "vocabulary/clicked_ids.npy", IDS)
    build_index(run, m=8, threads=1)
    model = from_keras(user=user_network, item=item_network, scorer=scorer)
    export_model(run, tmp_path / "models/1", OPTIONS, model=model)
    features = {
        "clicked_ids": IDS[np.newaxis, [4, 7, 0]],
        "clicked_ids_length": np.array([2], np.int32),
        "country": np.array([b"fr"], object),
        "level_topn": np.array([OPTIONS.level_topn], np.int32),
        "exclude_ids": np.zeros((1, 0), np.int64),
    }
    with loaded(tmp_path / "models/1") as exported:
        found = exported.run("retrieve_by_ids", features)
    rows = (found["top_k"][0] - IDS[0]) // 7 + 1
    one_user = [tf.constant([[5, 8]] * len(rows)), tf.constant(["fr"] * len(rows))]
    expected = ctr([*one_user, tf.constant(rows), tf.constant(prices[rows - 1])], training=False)
    np.testing.assert_allclose(found["scores"][0], expected[:, 0], rtol=1e-5)


class _Functions(tf.Module):
    """Functions of one user; as a batch of pairs with `batch`."""

    def __init__(self, batch: bool) -> None:
        super().__init__()
        self.table = tf.Variable(np.random.default_rng(2).normal(size=(N + 1, E)).astype(np.float32))
        user = tf.TensorSpec([None, E] if batch else [E], tf.float32, "user")
        items = tf.TensorSpec([None, E], tf.float32, "item_embs")
        self.score = tf.function(self._score, input_signature=[{"user": user}, items])

    @tf.function(input_signature=[tf.TensorSpec([None, L], tf.int64, "item_ids")])
    def embed_user(self, item_ids: tf.Tensor) -> Any:
        return {"user": tf.reduce_sum(tf.gather(self.table, item_ids), axis=1)}

    def _score(self, state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.tanh(state["user"]) * item_embs, axis=-1)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("as_signatures", [False, True])
def test_a_saved_model_needs_no_python(
    run: Path, tmp_path: Path, vectors: Floats, batch: bool, as_signatures: bool
) -> None:
    module = _Functions(batch)
    saved: Any = module
    signatures: dict[str, Any] = {}
    if as_signatures:
        saved = tf.Module()
        saved.table = module.table
        user = module.score.input_signature[0]["user"]
        score = tf.function(lambda user, item_embs: {"scores": module._score({"user": user}, item_embs)})
        signatures = {
            "embed_user": module.embed_user,
            "score": score.get_concrete_function(user=user, item_embs=module.score.input_signature[1]),
        }
    tf.saved_model.save(saved, str(run / "saved"), signatures=signatures)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "saved_model:saved"}))
    result = export_model(run, tmp_path / "models/1", OPTIONS)
    assert "retrieve_by_ids" in result["verified"]["signatures"]
    user_vector = np.linspace(-1, 1, E, dtype=np.float32)[np.newaxis]
    found = _scores(tmp_path / "models/1", {"user": user_vector})
    np.testing.assert_allclose(found, vectors @ np.tanh(user_vector[0]), atol=1e-5)


def test_a_saved_model_without_score_is_refused(run: Path) -> None:
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "saved_model:saved"}))
    with pytest.raises(InvalidFileError, match=r"found no saved_model\.pb"):
        load_model(run)
    tf.saved_model.save(tf.Module(), str(run / "saved"))
    with pytest.raises(InvalidFileError, match="expected a function or signature called score"):
        load_model(run)


def _expected(vectors: Floats, query: Floats, metric: str) -> Floats:
    if metric == "l2":
        return -((vectors - query) ** 2).sum(axis=1)
    if metric == "cosine":
        return vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return vectors @ query


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_vectors_are_enough(tmp_path: Path, vectors: Floats, metric: Any) -> None:
    np.save(tmp_path / "items.npy", vectors)
    np.save(tmp_path / "ids.npy", IDS)
    arguments = ["--vectors", str(tmp_path / "items.npy"), "--ids", str(tmp_path / "ids.npy")]
    out = tmp_path / "models/1"
    done = CliRunner().invoke(main, ["export", *arguments, "--metric", metric, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["verified"]["signatures"] == ["retrieve", "score", "serving_default"]
    assert result["executor"] == "native"
    query = np.random.default_rng(3).normal(size=E).astype(np.float32)
    expected = _expected(vectors, query, metric)
    np.testing.assert_allclose(_scores(out, {"query_emb": query[np.newaxis]}), expected, atol=1e-4)
    with loaded(out) as exported:
        beams = np.asarray([[50, 100, 100, 100, 100, 10]], np.int32)
        nothing = np.zeros((1, 0), np.int64)
        inputs = {"query_emb": query[np.newaxis], "level_topn": beams, "exclude_ids": nothing}
        found = exported.run("retrieve", inputs)["top_k"][0]
    assert np.intersect1d(found, IDS[np.argsort(-expected)[:10]]).size >= 8
    assert [path.name for path in out.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("with_ids", [False, True])
def test_a_faiss_file_is_enough(tmp_path: Path, vectors: Floats, with_ids: bool) -> None:
    index: Any = faiss.IndexHNSWFlat(E, 8, faiss.METRIC_INNER_PRODUCT)
    if with_ids:
        index = faiss.IndexIDMap(index)
        index.add_with_ids(vectors, IDS)
    else:
        index.add(vectors)
        np.save(tmp_path / "ids.npy", IDS)
    faiss.write_index(index, str(tmp_path / "items.faiss"))
    ids = None if with_ids else tmp_path / "ids.npy"
    export_faiss(tmp_path / "items.faiss", tmp_path / "models/1", OPTIONS, ids=ids)
    named = [] if ids is None else ["--ids", str(ids)]
    result = _exported("--faiss", tmp_path / "items.faiss", *named, "--out", tmp_path / "models/2")
    assert result["num_items"] == N
    query = vectors[0]
    for version in ("1", "2"):
        found = _scores(tmp_path / "models" / version, {"query_emb": query[np.newaxis]})
        np.testing.assert_allclose(found, vectors @ query, atol=1e-4)


def test_vectors_that_are_none_are_refused(tmp_path: Path, vectors: Floats) -> None:
    with pytest.raises(InvalidInputError, match="metric: expected one of"):
        export_vectors(tmp_path / "items.npy", tmp_path / "models/1", metric="hamming")  # type: ignore[arg-type]
    np.save(tmp_path / "items.npy", vectors.astype(np.float64))
    with pytest.raises(InvalidFileError, match="found float64"):
        export_vectors(tmp_path / "items.npy", tmp_path / "models/1")
    vectors[3] = 0
    np.save(tmp_path / "items.npy", vectors)
    with pytest.raises(InvalidFileError, match="row 3"):
        export_vectors(tmp_path / "items.npy", tmp_path / "models/1", metric="cosine")
    faiss.write_index(faiss.IndexFlatL2(E), str(tmp_path / "flat.faiss"))
    with pytest.raises(InvalidFileError, match="found IndexFlat"):
        export_faiss(tmp_path / "flat.faiss", tmp_path / "models/1")
    assert not (tmp_path / "models/1").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "one of --run, --vectors, --faiss"),
        (["--vectors", "a.npy", "--faiss", "b.faiss"], "one of --run, --vectors, --faiss"),
        (["--run", "RUN", "--metric", "l2"], "--metric needs --vectors"),
        (["--run", "RUN", "--ids", "b.npy"], "--ids needs --vectors or --faiss"),
        (["--vectors", "a.npy", "--keras-user", "u.keras"], "--keras-user needs --run"),
    ],
)
def test_options_that_would_do_nothing_are_refused(arguments: list[str], text: str) -> None:
    done = CliRunner().invoke(main, ["export", "--out", "models/1", *arguments])
    assert done.exit_code == 2
    assert text in " ".join(done.output.split())
