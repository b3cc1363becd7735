"""What an export is on disk: linked, summed, published whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow_serving.apis import prediction_log_pb2

from nann.cli import main
from nann.errors import InvalidFileError, InvalidInputError, VerificationError
from nann.export import ExportOptions, build_index, export_model, verify_model
from nann.export.loaded import loaded
from support.tiny_model import D, TinyModel, TwoStatesModel
from support.tiny_run import N, write_run

MANIFEST = "assets.extra/nann_manifest.json"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_big_files_are_linked_not_copied(shared_run: Path, shared_export: Path) -> None:
    for ours, theirs in [
        ("embeddings/item_embs.npy", "item_embs.npy"),
        ("embeddings/item_ids.npy", "item_ids.npy"),
        ("index/neighbors_level_0_values.npy", "neighbors_level_0_values.npy"),
        ("vocabulary/item_ids.npy", "user_table_item_ids_vocabulary.npy"),
    ]:
        assert os.path.samefile(shared_run / ours, shared_export / "assets" / theirs)
    # Nothing of the corpus went into the graph or the variables.
    assert (shared_export / "saved_model.pb").stat().st_size < 200_000
    assert sum(path.stat().st_size for path in (shared_export / "variables").iterdir()) < 10_000


def test_a_file_system_without_links_gets_copies(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*args: Any, **kwargs: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    export_model(run, tmp_path / "1")
    ours, theirs = run / "embeddings/item_embs.npy", tmp_path / "1/assets/item_embs.npy"
    assert not os.path.samefile(ours, theirs)
    assert ours.read_bytes() == theirs.read_bytes()


def test_item_id_order_sorts_positions_by_id(shared_run: Path, shared_export: Path) -> None:
    order = np.load(shared_export / "assets/item_id_order.npy")
    ids = np.load(shared_run / "embeddings/item_ids.npy")
    assert order.dtype == np.int32
    np.testing.assert_array_equal(ids[order], np.sort(ids))


def test_float16_embeddings_stay_float16(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", dtype=np.float16)
    result = export_model(run, tmp_path / "1")
    assert np.load(tmp_path / "1/assets/item_embs.npy").dtype == np.float16
    assert result["verified"]["users"] == 2


@pytest.mark.parametrize("items", [1, 3])
def test_a_corpus_smaller_than_a_tile(tmp_path: Path, items: int) -> None:
    run = write_run(tmp_path / "run", items=items)
    export_model(run, tmp_path / "1")
    assert verify_model(tmp_path / "1")["verified"]["users"] == 2


def test_manifest_says_what_the_export_is_made_of(shared_export: Path) -> None:
    manifest = json.loads((shared_export / MANIFEST).read_text())
    assert manifest["tensorflow_version"] == tf.__version__
    assert manifest["model"]["class"] == "support.tiny_model:TinyModel"
    assert manifest["model"]["user_state"] == {"comm_seq": {"dtype": "float32", "shape": [5, 8]}}
    assert (manifest["index"]["num_items"], manifest["index"]["start_level"]) == (N, 2)
    assert manifest["level_topn"] == [100, 200, 200, 200, 200, 200]
    assert manifest["tables"]["item"]["item_embs"] == {
        "file": "assets/item_embs.npy",
        "dtype": "float32",
        "shape": [N, D],
    }
    files = {
        path.relative_to(shared_export).as_posix() for path in shared_export.rglob("*") if path.is_file()
    }
    assert set(manifest["files"]) == files - {MANIFEST}


def test_warmup_requests_run(shared_export: Path) -> None:
    path = shared_export / "assets.extra/tf_serving_warmup_requests"
    runs = []
    with loaded(shared_export) as model:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            outputs = model.run(request.model_spec.signature_name, inputs)
            assert (outputs["top_k"] >= 0).all() if "top_k" in outputs else "scores" in outputs
            # With batching, all inputs of a request need as many rows.
            assert len({len(array) for array in inputs.values()}) == 1
            runs.append((request.model_spec.signature_name, tuple(request.output_filter)))
            assert request.model_spec.name == "nann"
    filters = [(), ("top_k",), ("top_k", "scores")]
    searches = [
        (name, names) for name in ("retrieve", "retrieve_by_ids", "serving_default") for names in filters
    ]
    assert sorted(runs) == sorted([*searches, ("score", ())])


def test_an_existing_version_is_not_overwritten_by_accident(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models/nann/1"
    export_model(run, out)
    before = (out / MANIFEST).read_bytes()
    build_index(run, m=12)
    with pytest.raises(InvalidInputError, match=r"nann/1: expected no such folder, found one.*--overwrite"):
        export_model(run, out)
    assert (out / MANIFEST).read_bytes() == before
    (out / "left_over").touch()
    export_model(run, out, overwrite=True)
    assert json.loads((out / MANIFEST).read_text())["index"]["m"] == 12
    assert not (out / "left_over").exists()
    assert _names(out.parent) == ["1"]


class _FickleModel(TinyModel):
    """Its second trace, the reference, scores the other way round."""

    traces = 0

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        self.traces += 1
        scores = super().score(user_state, item_embs)
        return scores if self.traces == 1 else -scores


def test_an_export_that_answers_otherwise_is_not_published(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        VerificationError, match="serving_default: expected the answer of the reference search"
    ):
        export_model(run, tmp_path / "models/1", ExportOptions(level_topn=[10] * 6), model=_FickleModel())
    assert _names(tmp_path / "models") == []


_KILLED = """
import os, signal, sys
from nann.export import ExportOptions, export_model
def on_progress(stage, done, total):
    if stage == sys.argv[3] and done == total:
        os.kill(os.getpid(), signal.SIGKILL)
export_model(sys.argv[1], sys.argv[2], overwrite=True, on_progress=on_progress)
"""


@pytest.mark.parametrize(
    ("stage", "existing"),
    [("write model", False), ("verify", False), ("sum files", False), ("sum files", True)],
)
def test_a_killed_export_leaves_no_half_written_version(
    run: Path, tmp_path: Path, subprocess_env: dict[str, str], stage: str, existing: bool
) -> None:
    models = tmp_path / "models"
    out = models / "1"
    if existing:
        export_model(run, out)
        before = (out / MANIFEST).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(run), str(out), stage],
        env=subprocess_env,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert out.exists() is existing
    if existing:
        assert (out / MANIFEST).read_bytes() == before
        verify_model(out)
    # What is left behind is nothing that a server takes for a version.
    left = [name for name in _names(models) if name != "1"]
    assert left
    assert not any(name.lstrip(".").split(".")[0].isdigit() and name[0] != "." for name in left)


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()  # the file may be shared with the run
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("assets/item_embs.npy", _flip, r"item_embs\.npy: expected .* sha256 .* found"),
        ("saved_model.pb", _append, r"saved_model\.pb: expected .* bytes"),
        ("assets/enter_points.npy", Path.unlink, r"enter_points\.npy: expected a file of .* found none"),
        ("assets/more.npy", Path.touch, r"more\.npy: expected only the files of"),
        (MANIFEST, Path.unlink, r"nann_manifest\.json: expected the manifest"),
        (MANIFEST, _append, r"nann_manifest\.json: expected a JSON object"),
    ],
)
def test_verify_names_the_damaged_file(
    shared_export: Path, tmp_path: Path, name: str, damage: Any, message: str
) -> None:
    shutil.copytree(shared_export, tmp_path / "1")
    damage(tmp_path / "1" / name)
    with pytest.raises((VerificationError, InvalidFileError), match=message):
        verify_model(tmp_path / "1")


def test_verify_compares_with_the_model_of_the_run(
    shared_run: Path, shared_export: Path, tmp_path: Path
) -> None:
    assert verify_model(shared_export, run_dir=shared_run)["verified"]["largest_relative_difference"] < 1e-5
    (tmp_path / "other_model.py").write_text(
        "from support import tiny_model\n"
        "class OtherModel(tiny_model.TinyModel):\n"
        "    @classmethod\n"
        "    def from_run(cls, run_dir):\n"
        "        return cls(seed=1)\n"
    )
    (tmp_path / "run.json").write_text('{"format": 1, "model": "other_model:OtherModel"}')
    with pytest.raises(VerificationError, match="expected the answer of the reference search"):
        verify_model(shared_export, run_dir=tmp_path)


def test_what_does_not_fit_together_is_refused(run: Path, tmp_path: Path) -> None:
    class Wide(TinyModel):
        embedding_dim = D + 1

    with pytest.raises(InvalidFileError, match=r"item_embs\.npy: expected dimension 9 .* found 8"):
        export_model(run, tmp_path / "1", model=Wide())
    with pytest.raises(InvalidInputError, match="max_work of at least 1100"):
        export_model(run, tmp_path / "1", ExportOptions(max_work=1099))
    with pytest.raises(InvalidInputError, match="tile_rows of at least 1"):
        export_model(run, tmp_path / "1", ExportOptions(tile_rows=0))
    with pytest.raises(InvalidInputError, match="level_topn: expected 6 integers"):
        export_model(run, tmp_path / "1", ExportOptions(level_topn=[1, 2]))
    np.save(run / "vocabulary/cate_ids.npy", np.array([3, 2], np.int64))
    with pytest.raises(
        InvalidFileError, match=r"cate_ids\.npy: expected ids in ascending order.* found 3 at \[0\]"
    ):
        export_model(run, tmp_path / "1")
    np.save(run / "vocabulary/cate_ids.npy", np.array([0, 2], np.int64))
    with pytest.raises(InvalidFileError, match=r"cate_ids\.npy: expected no id 0"):
        export_model(run, tmp_path / "1")
    np.save(run / "vocabulary/cate_ids.npy", np.zeros(0, np.int64))
    with pytest.raises(InvalidFileError, match=r"cate_ids\.npy: expected at least one id, found an empty"):
        export_model(run, tmp_path / "1")
    ids = np.load(run / "embeddings/item_ids.npy")
    embs = np.load(run / "embeddings/item_embs.npy")
    np.save(run / "embeddings/item_ids.npy", ids[:-1])
    np.save(run / "embeddings/item_embs.npy", embs[:-1])
    with pytest.raises(InvalidFileError, match=r"index: expected an index over 499 items .* found 500"):
        export_model(run, tmp_path / "1")
    assert not (tmp_path / "1").exists()


def test_names_of_inputs_must_not_clash(run: Path, tmp_path: Path) -> None:
    class Clash(TwoStatesModel):
        user_state = {"level_topn": tf.TensorSpec([D], tf.float32)}  # noqa: RUF012

    with pytest.raises(InvalidInputError, match=r"found \['level_topn'\]"):
        export_model(run, tmp_path / "1", model=Clash())


def test_commands(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models/nann/1"
    beams = "10,20,20,20,20,20"
    exported = CliRunner().invoke(
        main, ["export", "--run", str(run), "--out", str(out), "--level-topn", beams, "--json"]
    )
    assert exported.exit_code == 0, exported.output
    assert json.loads(exported.stdout)["level_topn"] == [10, 20, 20, 20, 20, 20]
    again = CliRunner().invoke(main, ["export", "--run", str(run), "--out", str(out)])
    assert again.exit_code == 1
    assert "expected no such folder" in again.stderr
    verified = CliRunner().invoke(main, ["verify", "--model", str(out), "--run", str(run)])
    assert verified.exit_code == 0, verified.output
    assert "answer as the reference search does" in verified.stdout
