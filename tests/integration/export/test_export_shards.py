"""A corpus cut into shards: every item in one of them, and all of them published or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.errors import InvalidFileError, InvalidInputError
from nann.export import (
    ExportOptions,
    Tuning,
    build_index,
    export_model,
    export_shards,
    index_from_faiss,
    read_index,
    shard_dirs,
    shard_level_topn,
    shard_of_items,
    verify_model,
)
from support.tiny_run import N, write_run

MANIFEST = "assets.extra/nann_manifest.json"
SHARDS = 3


@pytest.fixture(scope="module")
def run_with_levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose index has parameters and levels of its own."""
    run = write_run(tmp_path_factory.mktemp("shards") / "run")
    build_index(run, m=5, ef_construction=33, start_level=1, hops_per_level=(2,))
    return run


@pytest.fixture(scope="module")
def exported(run_with_levels: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    models = tmp_path_factory.mktemp("models")
    return models, export_shards(
        run_with_levels, models / "nann/7", ExportOptions(table_bytes=0), shards=SHARDS
    )


@pytest.fixture(scope="module")
def shard_models(exported: tuple[Path, dict[str, Any]]) -> list[Path]:
    return [exported[0] / f"nann-{shard}-of-{SHARDS}" / "7" for shard in range(SHARDS)]


def _manifest(model: Path) -> Any:
    return json.loads((model / MANIFEST).read_text())


def test_an_item_stays_in_its_shard() -> None:
    """Published outputs of SplitMix64: a change here would move every item of every deployed corpus."""
    ids = np.array([0, 1234567, -5], np.int64)
    hashes = [0xE220A8397B1DCDAF, 6457827717110365317, 0x16B1CBA95FC60262]
    for shards in (1, 2, 7, 1000):
        assert shard_of_items(ids, shards).tolist() == [value % shards for value in hashes]


def test_ids_with_a_pattern_spread_evenly() -> None:
    for step in (1, 2, 4, 1000):
        counts = np.bincount(shard_of_items(np.arange(40_000) * step, 4))
        assert np.abs(counts - 10_000).max() < 500  # six standard deviations


def test_twice_the_shards_split_each_in_two() -> None:
    ids = np.arange(1000)
    np.testing.assert_array_equal(shard_of_items(ids, 8) % 4, shard_of_items(ids, 4))


def test_every_item_is_in_one_shard(
    run_with_levels: Path, exported: tuple[Path, dict[str, Any]], shard_models: list[Path]
) -> None:
    ids = np.load(run_with_levels / "embeddings/item_ids.npy")
    embs = np.load(run_with_levels / "embeddings/item_embs.npy")
    row_of_id = {item: row for row, item in enumerate(ids.tolist())}
    parts = [np.load(model / "assets/item_ids.npy") for model in shard_models]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(ids))
    for shard, (model, part) in enumerate(zip(shard_models, parts, strict=True)):
        assert (shard_of_items(part, SHARDS) == shard).all()
        rows = [row_of_id[item] for item in part.tolist()]
        np.testing.assert_array_equal(np.load(model / "assets/item_embs.npy"), embs[rows])
    _, result = exported
    assert result["items_of_shard"] == [part.size for part in parts]
    assert (result["num_items"], result["models"]) == (N, [str(model) for model in shard_models])


def test_graphs_are_built_as_the_index_of_the_run(shard_models: list[Path]) -> None:
    for model in shard_models:
        graph = read_index(model / "assets")
        meta = graph.meta
        assert (meta.m, meta.ef_construction) == (5, 33)
        assert (meta.start_level, meta.hops_per_level) == (1, (2,))
        assert np.diff(graph.levels[0].row_splits).min() > 0


@pytest.mark.parametrize(("metric", "precision"), [("l2", "bfloat16"), ("ip", "int8")])
def test_a_set_of_one_shard_is_the_export_of_the_whole(tmp_path: Path, metric: str, precision: Any) -> None:
    """Nothing that index and export were asked for is lost on the way to a shard."""
    run = write_run(tmp_path / "run")
    (run / "own_model.py").write_text("from support.tiny_model import TinyModel as Model\n")
    (run / "run.json").write_text('{"format": 1, "model": "own_model:Model"}')
    build_index(
        run, metric=metric, m=6, ef_construction=33, start_level=1, hops_per_level=(2,), seed=7, threads=1
    )
    options = ExportOptions(
        level_topn=[10, 30, 40, 25],
        tile_rows=32,
        max_work=1000,
        table_bytes=0,
        item_table_bytes=0,
        reorder=True,
        tuning=Tuning(walk="adaptive", expand=4, precision=precision, accuracy=0.5, users=3),
    )
    export_model(run, tmp_path / "nann/1", options)
    (shard,) = export_shards(run, tmp_path / "nann/1", options, shards=1, threads=1)["models"]
    whole, part = _manifest(tmp_path / "nann/1"), _manifest(Path(shard))
    assert part.pop("shard")["num_items_of_all"] == whole["index"]["num_items"]
    assert whole.pop("shard") is None
    for manifest in (whole, part):
        # TensorFlow numbers what it traces, and the warm-up names the model.
        manifest["files"] = {name: sums for name, sums in manifest["files"].items() if name[:7] == "assets/"}
    assert part == whole
    assert whole["model"]["class"] == "own_model:Model"


def test_an_imported_graph_of_inner_products_is_built_anew_for_each_shard(run: Path, tmp_path: Path) -> None:
    embs = np.load(run / "embeddings/item_embs.npy")
    index = faiss.IndexHNSWFlat(embs.shape[1], 5, faiss.METRIC_INNER_PRODUCT)
    index.add(embs)
    faiss.write_index(index, str(tmp_path / "ip.faiss"))
    index_from_faiss(run, tmp_path / "ip.faiss")
    for model in export_shards(run, tmp_path / "nann/1", shards=2)["models"]:
        meta = read_index(Path(model) / "assets").meta
        assert (meta.metric, meta.m) == ("ip", 6)  # Half of the links by inner product: an even number.


def test_each_shard_is_an_export_of_its_own(run_with_levels: Path, shard_models: list[Path]) -> None:
    for shard, model in enumerate(shard_models):
        verify_model(model, run_dir=run_with_levels)
        manifest = _manifest(model)
        assert (manifest["shard"]["index"], manifest["shard"]["count"]) == (shard, SHARDS)
        assert manifest["shard"]["num_items_of_all"] == N
        assert manifest["level_topn"] == [34, 67, 67, 200]
        assert sorted(path.name for path in model.parent.iterdir()) == ["7"]


def test_the_set_is_told_from_others(
    run_with_levels: Path, exported: tuple[Path, dict[str, Any]], shard_models: list[Path], tmp_path: Path
) -> None:
    first = {_manifest(model)["shard"]["export_id"] for model in shard_models}
    assert first == {exported[1]["export_id"]}
    again = export_shards(run_with_levels, tmp_path / "nann/7", shards=2)
    assert {again["export_id"]}.isdisjoint(first)
    whole = export_model(run_with_levels, tmp_path / "nann/7")
    assert _manifest(Path(whole["model"]))["shard"] is None


def test_shards_share_the_tables_of_the_user_side(shard_models: list[Path]) -> None:
    names = sorted(path.name for path in (shard_models[0] / "assets").glob("user_table_*"))
    assert len(names) == 4
    for model in shard_models:
        assert sorted(path.name for path in (model / "assets").glob("user_table_*")) == names
        for name in names:
            assert os.path.samefile(shard_models[0] / "assets" / name, model / "assets" / name)


def test_default_beams_share_out_the_work(shared_run: Path) -> None:
    meta = read_index(shared_run / "index").meta
    assert shard_level_topn(meta, 1) == [100, 200, 200, 200, 200, 200]
    assert shard_level_topn(meta, 4) == [25, 50, 50, 50, 50, 200]
    assert shard_level_topn(meta, 1000) == [1, 1, 1, 1, 1, 200]


def test_beams_for_a_target_are_the_widest_of_all_shards(shared_run: Path, tmp_path: Path) -> None:
    result = export_shards(
        shared_run, tmp_path / "nann/1", ExportOptions(tuning=Tuning(target_agreement=0.9)), shards=2
    )
    measured = [_manifest(Path(model))["level_topn"] for model in result["models"]]
    assert result["level_topn"] == np.max(measured, axis=0).tolist()


_KILLED = """
import os, signal, sys
from nann.export import ExportOptions, export_shards
from nann import files

run, out, when, after = sys.argv[1:]
publish, turns = files._publish, 0

def count(name):
    global turns
    turns += name == when
    if name == when and turns == int(after):
        os.kill(os.getpid(), signal.SIGKILL)

def counted_publish(staged, target, *, replace):
    if target.name == "7":
        count("publish")
    publish(staged, target, replace=replace)

files._publish = counted_publish
def on_progress(stage, done, total):
    if done == total:
        count(stage)
export_shards(run, out, shards=3, on_progress=on_progress)
"""


@pytest.mark.parametrize(
    ("when", "after", "published"),
    [("sum files", 3, []), ("publish", 3, [1, 2])],
)
def test_a_killed_export_leaves_no_whole_set(
    shared_run: Path,
    tmp_path: Path,
    subprocess_env: dict[str, str],
    when: str,
    after: int,
    published: list[int],
) -> None:
    out = tmp_path / "models/nann/7"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(shared_run), str(out), when, str(after)],
        env=subprocess_env,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    targets = shard_dirs(out, 3)
    assert [shard for shard, target in enumerate(targets) if target.exists()] == published
    # What else is there is nothing that a server takes for a version.
    left = [path.name for target in targets for path in target.parent.iterdir()]
    assert all(name == "7" or name.startswith(".") for name in left)
    for shard in published:
        verify_model(targets[shard])
    if published:
        with pytest.raises(InvalidInputError, match="expected no such folder, found one"):
            export_shards(shared_run, out, shards=3)


def test_an_export_that_fails_cleans_up(shared_run: Path, tmp_path: Path) -> None:
    def on_progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("export shards", 2):
            raise RuntimeError("no more space")

    with pytest.raises(RuntimeError, match="no more space"):
        export_shards(shared_run, tmp_path / "nann/7", shards=3, on_progress=on_progress)
    assert [path for folder in tmp_path.iterdir() for path in folder.iterdir()] == []


def test_what_cannot_be_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"shards: expected 1\.\.10000, found 0"):
        export_shards(run, tmp_path / "nann/1", shards=0)
    with pytest.raises(InvalidInputError, match="expected at least one item in each, found none in shard"):
        export_shards(run, tmp_path / "nann/1", shards=N)
    with pytest.raises(InvalidInputError, match="overwrite: expected none for shards"):
        export_shards(run, tmp_path / "nann/1", shards=2, overwrite=True)
    with pytest.raises(InvalidInputError, match="found no name of a model"):
        export_shards(run, "1", shards=2)
    index_json = run / "index/index.json"
    index_json.write_text(json.dumps({**json.loads(index_json.read_text()), "ef_construction": 0}))
    with pytest.raises(InvalidFileError, match=r"index\.json: expected the ef_construction .* found 0"):
        export_shards(run, tmp_path / "nann/1", shards=2)
    assert not (tmp_path / "nann").exists()


def test_command(shared_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models/nann/1"
    command = ["export", "--run", str(shared_run), "--out", str(out)]
    exported = CliRunner().invoke(main, [*command, "--shards", "2", "--threads", "1", "--json"])
    assert exported.exit_code == 0, exported.output
    assert json.loads(exported.stdout)["models"] == [str(path) for path in shard_dirs(out, 2)]
    for other, message in [
        (["--shards", "2"], "expected no such folder"),
        (["--shards", "2", "--overwrite"], "overwrite: expected none for shards"),
        (["--threads", "1"], "--threads needs --shards"),
    ]:
        refused = CliRunner().invoke(main, [*command, *other])
        assert refused.exit_code != 0
        assert message in refused.stderr
    read = CliRunner().invoke(main, [*command[:-1], str(tmp_path / "models/other/1"), "--shards", "3"])
    assert read.exit_code == 0
    assert "3 shards of 500 items" in read.stdout
