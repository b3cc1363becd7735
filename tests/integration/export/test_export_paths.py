"""Folders may be called as the file system allows, also where TensorFlow looks for files by patterns."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.errors import VerificationError
from nann.export.loaded import loaded
from nann.files import without_patterns

NAMES = ["a[b]", "a\\b", "a [b-*?]%20 {c,d} é'$HOME"]


def _nann(*arguments: str | Path) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return str(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_indexed_exported_and_verified(
    shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    shutil.copytree(shared_run, folder / "run")
    _nann("index", "--run", f"{folder}/run/", "--m", "6")
    exported = _nann("export", "--run", folder / "run", "--out", f"{folder}/models/nann/1/")
    assert shlex.split(exported.splitlines()[-1])[-2:] == ["--model_base_path", f"{folder}/models/nann"]
    _nann("verify", "--model", folder / "models/nann/1", "--run", folder / "run")
    monkeypatch.chdir(folder / "models")
    _nann("verify", "--model", f"../../{name}/models/nann/1")
    _nann("export", "--run", "../run", "--out", "../models/nann/1/../2", "--reorder", "--shards", "2")
    assert sorted(os.listdir()) == ["nann", "nann-0-of-2", "nann-1-of-2"]
    assert os.listdir("nann-1-of-2") == ["2"]


def test_a_run_of_the_trainer_is_continued_embedded_and_evaluated(tmp_path: Path) -> None:
    data, run = tmp_path / "a[b]/data", tmp_path / "a[b]/run"
    _nann("data", "prepare", "--source", "synthetic:items=60,users=40,events=20,seed=1", "--out", data)
    for _ in range(2):  # The second training has nothing left to do once it has found the checkpoint.
        trained = json.loads(_nann("train", "--data", data, "--out", run, "--epochs", "1", "--json"))
        assert len(trained["history"]) == 1
    _nann("embed", "--run", run)
    _nann("index", "--run", run, "--m", "4")
    assert json.loads(_nann("evaluate", "--run", run, "--json"))["users"] > 0
    _nann("export", "--run", run, "--out", tmp_path / "a[b]/models/1", "--level-topn", "9,9,9,9,9,9")


def test_an_error_names_the_folder_as_the_user_does(shared_export: Path, tmp_path: Path) -> None:
    model = tmp_path / "a[b]/1"
    shutil.copytree(shared_export, model)
    damaged = model / "assets/item_id_order.npy"
    damaged.write_bytes(b"damaged")
    with pytest.raises(VerificationError) as refused, loaded(model):
        pass
    assert f"{damaged}: not a valid .npy file" in str(refused.value)
    assert "/proc/" not in str(refused.value)


def test_a_plain_name_stays(tmp_path: Path) -> None:
    with without_patterns(tmp_path) as folder:
        assert folder is tmp_path
    before = os.listdir("/proc/self/fd")
    (tmp_path / "a?").mkdir()
    with without_patterns(tmp_path / "a?") as folder:
        assert os.path.samefile(folder, tmp_path / "a?")
    assert len(os.listdir("/proc/self/fd")) == len(before)
