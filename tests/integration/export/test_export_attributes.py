"""Attributes travel from RUN/attributes.parquet into exports and shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nann.errors import InvalidFileError, VerificationError
from nann.export import (
    ExportOptions,
    Tuning,
    check_run,
    export_model,
    export_shards,
    shard_dirs,
    verify_model,
)
from nann.export.attributes import attributes_of_manifest
from nann.export.manifest import read_manifest, write_manifest
from nann.ops import evaluate_filter
from support.tiny_run import write_run

ITEMS = 1200  # Enough for an export to re-order them.
OPTIONS = ExportOptions(table_bytes=0, reorder=True, tuning=Tuning(walk="fixed"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose attributes lack every third item, in another order than the items."""
    run = write_run(tmp_path_factory.mktemp("attributes") / "run", items=ITEMS)
    ids = np.sort(np.load(run / "embeddings/item_ids.npy"))[np.arange(ITEMS) % 3 > 0]
    tags = [[f"tag{item % 5}", None] if item % 2 else [] for item in ids.tolist()]
    table = {"item_id": ids, "last": ids % 10, "tags": pa.array(tags, pa.list_(pa.string()))}
    pq.write_table(pa.table(table), run / "attributes.parquet")
    return run


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    export_model(run, run.parent / "models" / "nann" / "1", OPTIONS)
    return run.parent / "models" / "nann" / "1"


def passing(model: Path, text: str) -> set[int]:
    """Ids of the items that pass."""
    item_ids = np.load(model / "assets/item_ids.npy")
    attributes = attributes_of_manifest(model, read_manifest(model))
    passes = evaluate_filter(attributes, text, num_rows=item_ids.size).passes.numpy()
    return {int(item) for item in item_ids[passes]}


def expected(run: Path) -> set[int]:
    """The items that end in 7 and have an odd id, so that they have tags."""
    ids = pq.read_table(run / "attributes.parquet")["item_id"].to_pylist()
    return {item for item in ids if item % 10 == 7 and item % 5 == 2}


FILTER = "last = 7 AND 'tag2' = ANY(tags)"


def test_attributes_follow_the_positions_of_the_export(run: Path, exported: Path) -> None:
    original = np.load(run / "embeddings/item_ids.npy")
    assert (np.load(exported / "assets/item_ids.npy") != original).any()  # Positions are others.
    assert passing(exported, FILTER) == expected(run)
    known = set(pq.read_table(run / "attributes.parquet")["item_id"].to_pylist())
    assert passing(exported, "last IS NULL") == set(original.tolist()) - known


def test_the_manifest_names_types_and_files(exported: Path) -> None:
    manifest = json.loads((exported / "assets.extra/nann_manifest.json").read_text())
    assert {name: entry["type"] for name, entry in manifest["attributes"].items()} == {
        "last": "int64",
        "tags": "list<string>",
    }
    for entry in manifest["attributes"].values():
        assert set(entry["files"].values()) <= set(manifest["files"])


def test_verify_finds_attributes_that_do_not_fit(run: Path, exported: Path, tmp_path: Path) -> None:
    verify_model(exported)
    copy = tmp_path / "nann" / "1"
    export_model(run, copy, OPTIONS)
    np.save(copy / "assets/attribute_last.npy", np.zeros(7, np.int64))
    with pytest.raises(VerificationError, match=r"attribute_last.npy: expected .* bytes with sha256"):
        verify_model(copy)
    content = read_manifest(copy)
    write_manifest(
        copy, {k: v for k, v in content.items() if k not in ("files", "format_version")}, lambda *_: None
    )
    with pytest.raises(VerificationError, match=r"attribute_last.npy: expected 1200 values \(one per item\)"):
        verify_model(copy)


def test_each_shard_has_the_rows_of_its_items(run: Path, tmp_path: Path) -> None:
    export_shards(run, tmp_path / "nann/1", OPTIONS, shards=2)
    parts = [passing(folder, FILTER) for folder in shard_dirs(tmp_path / "nann/1", 2)]
    assert all(parts)
    assert parts[0] | parts[1] == expected(run)


def test_items_that_the_run_lacks_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    pq.write_table(pa.table({"item_id": [3, 4], "a": [1, 2]}), run / "attributes.parquet")
    for export in (
        lambda: export_model(run, tmp_path / "out/1"),
        lambda: export_shards(run, tmp_path / "out/1", shards=2),
    ):
        with pytest.raises(InvalidFileError, match="found 1 others: 4"):
            export()
    assert not [path for path in (tmp_path / "out").rglob("*") if not path.name.startswith(".")]
    found = check_run(run)
    assert not found["accepted"]
    assert "found 1 others: 4" in found["reason"]
