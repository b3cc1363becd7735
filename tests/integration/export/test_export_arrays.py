"""Arrays as users write them: exported whatever their order in memory, or refused by `nann index`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.export import ExportOptions, build_index, export_model, export_shards, verify_model
from support.tiny_model import D
from support.tiny_run import N


def _save_in_fortran_order(path: Path) -> None:
    """The same array as pandas or a saved transpose leaves it; of one dimension only the header says so."""
    array = np.load(path)
    header = {"descr": array.dtype.str, "fortran_order": True, "shape": array.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.tobytes(order="F"))


@pytest.fixture
def fortran_run(run: Path) -> Path:
    for path in [*run.glob("embeddings/*.npy"), *run.glob("vocabulary/*.npy")]:
        _save_in_fortran_order(path)
    build_index(run, m=6)
    for path in run.glob("index/*.npy"):
        _save_in_fortran_order(path)
    return run


@pytest.mark.parametrize("reorder", [False, True])
def test_arrays_in_fortran_order_are_exported(fortran_run: Path, tmp_path: Path, reorder: bool) -> None:
    out = tmp_path / "nann/1"
    export_model(fortran_run, out, ExportOptions(reorder=reorder))
    verify_model(out, run_dir=fortran_run)
    ids, embs = (np.load(fortran_run / f"embeddings/item_{name}.npy") for name in ("ids", "embs"))
    order = np.argsort(ids)
    exported_ids, exported_embs = (np.load(out / f"assets/item_{name}.npy") for name in ("ids", "embs"))
    np.testing.assert_array_equal(exported_ids[np.argsort(exported_ids)], ids[order])
    np.testing.assert_array_equal(exported_embs[np.argsort(exported_ids)], embs[order])
    assert not os.path.samefile(fortran_run / "embeddings/item_embs.npy", out / "assets/item_embs.npy")


def test_arrays_in_fortran_order_are_exported_in_shards(fortran_run: Path, tmp_path: Path) -> None:
    for model in export_shards(fortran_run, tmp_path / "nann/1", shards=2)["models"]:
        verify_model(model, run_dir=fortran_run)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "item_embs",
            np.zeros((N, D), ">f4"),
            "expected float32 or float16 [N, D], found big-endian",
        ),
        ("item_ids", np.arange(N, dtype=">i8"), "expected int64 [N], found big-endian int64 of shape [500]"),
    ],
)
def test_big_endian_arrays_are_refused(run: Path, name: str, array: Any, message: str) -> None:
    np.save(run / f"embeddings/{name}.npy", array)
    result = CliRunner().invoke(main, ["index", "--run", str(run)])
    assert result.exit_code == 1
    assert f"{name}.npy: {message}" in result.stderr
