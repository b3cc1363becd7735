"""Each shipped model and the example of docs/training.md: trained, embedded, indexed, exported, evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from nann.export.manifest import read_manifest
from support import small_network
from support.command import run_json
from support.schema_data import write_source

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "my_trained_model.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "data"
    source = "synthetic:items=200,users=60,events=24,categories=10,stay=1,follow=0,seed=1"
    run_json("data", "prepare", "--source", source, "--out", folder)
    return folder


def test_the_document_shows_the_example() -> None:
    code = EXAMPLE.read_text()
    assert code[code.index("from collections") :] in (ROOT / "docs" / "training.md").read_text()
    assert len(code.splitlines()) <= 40


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("two-tower", ["--width", "16", "--blocks", "1"]),
        ("mixture", ["--width", "16", "--blocks", "1", "--parts", "2", "--set", "gate=8"]),
        ("my_trained_model:LastEvents", ["--set", "width=16", "--set", "length=20"]),
        ("my_networks:din_like", ["--set", "width=16"]),
    ],
)
def test_a_model_is_trained_exported_and_evaluated(
    data: Path, tmp_path: Path, model: str, sizes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    run, model_dir = tmp_path / "run", tmp_path / "models" / "nann" / "1"
    options = ["--epochs", "2", "--batch-size", "128", "--negatives", "50", "--learning-rate", "0.01"]
    trained = run_json("train", "--data", data, "--out", run, "--model", model, *sizes, *options)
    assert trained["history"][1]["loss"] < trained["history"][0]["loss"]
    run_json("embed", "--run", run)
    run_json("index", "--run", run, "--m", "8")
    run_json("export", "--run", run, "--out", model_dir, "--walk", "adaptive")
    found = run_json("evaluate", "--run", run, "--model", model_dir, "--brute-force", "--k", "20")
    assert found["agreement"] > 0.9


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("support.schema_data:EveryColumn", ()),
        ("attention", small_network.ARGUMENTS),
        ("two-tower", ("--blocks", "1")),
    ],
)
def test_a_model_is_trained_on_the_columns_of_a_schema(
    tmp_path: Path, model: str, sizes: tuple[str, ...]
) -> None:
    """Requests have ids and strings where training had rows."""
    source, schema = write_source(tmp_path)
    run, model_dir = tmp_path / "run", tmp_path / "models" / "nann" / "1"
    run_json("data", "prepare", "--source", source, "--schema", schema, "--out", tmp_path / "data")
    options = ["--epochs", "3", "--batch-size", "64", "--negatives", "50", "--learning-rate", "0.03"]
    run_json("train", "--data", tmp_path / "data", "--out", run, "--model", model, *sizes, *options)
    run_json("embed", "--run", run)
    run_json("index", "--run", run, "--m", "8")
    run_json("export", "--run", run, "--out", model_dir, "--walk", "all")
    found = run_json("evaluate", "--run", run, "--model", model_dir, "--brute-force", "--k", "10")
    assert found["agreement"] == 1.0
    # Users of a city like one brand of four: 30 items, of which 10 are shown.
    assert found["recall_walk"] > 0.2
    features = read_manifest(model_dir)["model"]["user_features"]
    assert {name: each["dtype"] for name, each in features.items() if name in ("brand", "maker")} == {
        "brand": "string",
        "maker": "int64",
    }
