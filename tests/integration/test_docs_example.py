"""docs/your-model.md: its example, run as the document says."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.export.loaded import loaded

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
EXAMPLE, RANKER = EXAMPLES / "my_model.py", EXAMPLES / "my_ranker.py"
DOCUMENT = ROOT / "docs" / "your-model.md"
BEAMS = [100, 200, 200, 200, 200, 5]


def _nann(*arguments: str) -> str:
    """Standard output of a command of the document."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return str(done.stdout)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The document's commands up to the export, in one process: importing TensorFlow takes seconds."""
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my_model.py", "RUN"])
    runpy.run_path("my_model.py", run_name="__main__")
    shutil.copy("my_model.py", "RUN")
    _nann("index", "--run", "RUN", "--m", "16")
    exported = json.loads(_nann("export", "--run", "RUN", "--out", "MODELS/nann/1", "--json"))
    assert exported["verified"]["signatures"] == ["retrieve", "retrieve_by_ids", "score", "serving_default"]
    return tmp_path


def test_export_answers_as_the_model_does(folder: Path) -> None:
    import tensorflow as tf

    from nann.export import load_model
    from nann.ops import load_library

    model: Any = load_model(folder / "RUN")
    corpus = np.load(folder / "RUN/embeddings/item_ids.npy")
    rows = np.zeros((1, 20), np.int64)
    rows[0, -3:] = [2, 101, 1001]
    state = model.embed_user({"item_ids": tf.constant(rows)})["comm_seq"]
    assert not state[0, :-3].numpy().any(), "a missing event is a row of zeros"

    item_ids = np.where(rows > 0, corpus[rows - 1], 0)
    load_library()
    exported = tf.saved_model.load(str(folder / "MODELS/nann/1"))  # its signatures do not keep the index
    found = exported.signatures["retrieve_by_ids"](
        item_ids=tf.constant(item_ids),
        level_topn=tf.constant([BEAMS], tf.int32),
        exclude_ids=tf.constant([[-1]], tf.int64),
    )

    embs = np.load(folder / "RUN/embeddings/item_embs.npy")
    scores = model.score({"comm_seq": state[0]}, tf.constant(embs)).numpy()
    position_of = {item: position for position, item in enumerate(corpus.tolist())}
    positions = [position_of[item] for item in found["top_k"].numpy()[0].tolist()]
    np.testing.assert_allclose(found["scores"].numpy()[0], scores[positions], rtol=1e-4, atol=1e-5)
    best = set(np.argsort(-scores)[: BEAMS[-1]].tolist())
    assert best & set(positions), "the walk finds some of the best items of all"


@pytest.mark.parametrize(("example", "name"), [(EXAMPLE, "MyModel"), (RANKER, "Ranker")])
def test_document_shows_the_example(example: Path, name: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    code = example.read_text(encoding="utf-8").replace("  # noqa: RUF012", "")
    model = code[code.index(f"class {name}") : code.index("def write_run")].strip()
    assert model in text, f"docs/your-model.md: show the class as {example.name} has it"


def test_a_ranking_network_that_reads_price_and_brand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores are those of the whole network, of raw ids, prices and strings."""
    import keras
    import tensorflow as tf

    shutil.copy(RANKER, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my_ranker.py", "RUN"])
    module = runpy.run_path("my_ranker.py", run_name="__main__")
    shutil.copy("my_ranker.py", "RUN")
    _nann("index", "--run", "RUN", "--m", "8")
    exported = json.loads(_nann("export", "--run", "RUN", "--out", "MODELS/nann/1", "--json"))
    assert (exported["executor"], exported["warnings"]) == ("native", [])

    clicked, country, catalogue = [1200, 77, 2999], "fr", module["catalogue"]
    with loaded(Path("MODELS/nann/1")) as model:
        request = {
            "clicked_ids": np.array([clicked]),
            "clicked_ids_length": np.array([3], np.int32),
            "country": np.array([country], object),
            "level_topn": np.array([BEAMS], np.int32),
            "exclude_ids": np.array([[-1]]),
        }
        found = {name: value[0] for name, value in model.run("retrieve_by_ids", request).items()}
    places = [catalogue["item_id"].tolist().index(item) for item in found["top_k"]]
    of_items = [tf.constant(catalogue[name][places]) for name in ("item_id", "price", "brand")]
    of_user = [tf.constant([clicked] * len(places), tf.int64), tf.constant([country] * len(places))]
    network = keras.models.load_model("RUN/ranking.keras")
    np.testing.assert_allclose(found["scores"], network([*of_user, *of_items])[:, 0], rtol=1e-5, atol=1e-6)


def _document_blocks(word: str) -> str:
    """The Python block of the document that has `word`, without its indentation."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return textwrap.dedent(next(block for block in blocks if word in block))


def test_embeddings_of_an_item_network_with_several_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras
    import tensorflow as tf
    from keras import layers

    row, price = keras.Input([], dtype="int64", name="item_id"), keras.Input([], name="price")
    brand = keras.Input([], dtype="string", name="brand")
    code = layers.Embedding(3, 2)(layers.StringLookup(vocabulary=["a", "b"])(brand))
    vector = layers.Concatenate()([layers.Embedding(4, 5)(row), layers.Reshape([1])(price), code])
    item_network = keras.Model([row, price, brand], vector)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN/embeddings").mkdir(parents=True)
    names = {
        "rows": np.arange(1, 4),
        "prices": np.array([0.5, 1.0, 2.0], np.float32),
        "brands": ["a", "b", "c"],
    }
    exec(_document_blocks("tf.constant(brands)"), {**names, "item_network": item_network, "tf": tf, "np": np})
    found = np.load("RUN/embeddings/item_embs.npy")
    assert (found.dtype, found.shape) == (np.float32, (3, 8))
    np.testing.assert_array_equal(found[:, 5], names["prices"])


def test_a_vocabulary_in_another_order_goes_before_the_user_network() -> None:
    import keras
    from keras import layers, ops

    rows = keras.Input([None], dtype="int64")
    trained = keras.Model(rows, ops.sum(layers.Embedding(4, 2)(rows), axis=1))
    names = {"keras": keras, "order": [30, 10, 20], "trained_user_network": trained}
    exec(_document_blocks("vocabulary=order"), names)
    found, expected = names["user_network"](np.array([[10, 30, 99]])), trained(np.array([[2, 1, 0]]))  # type: ignore[operator]
    np.testing.assert_array_equal(found, expected)


def test_the_client_s_example_imports_what_it_uses() -> None:
    assert "from nann.serving.client import NannClient" in _document_blocks("client.top_k_by_ids(features")
